"""What of a request reaches LiteLLM."""

from __future__ import annotations

import json
from typing import Any

import pytest

from freehold.routing import requests

CHAT = "/v1/chat/completions"
NAMES = frozenset({"assistant", "claude", "cloud/claude"})
HELLO: dict[str, Any] = {"model": "claude", "messages": [{"role": "user", "content": "Hello"}]}


def cleaned(body: dict[str, Any], path: str = CHAT) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(requests.body(path, json.dumps(body).encode(), NAMES))
    return found


@pytest.mark.parametrize("key", sorted(requests.STEERING))
def test_nobody_steers_the_router(key: str) -> None:
    with pytest.raises(requests.RefusedError, match=key) as caught:
        cleaned({**HELLO, key: "x"})

    assert caught.value.status == 400


def test_what_is_not_on_the_list_is_left_out() -> None:
    others = {
        "metadata": {"x": 1},
        "user": "ada@acme.example",
        "no-log": True,
        "litellm_metadata": {},
        "tags": [],
    }

    assert cleaned({**HELLO, **others, "temperature": 0.5}) == {**HELLO, "temperature": 0.5}


@pytest.mark.parametrize("model", [None, "", 5, ["a"], "cloud/claude", "a,b"])
def test_a_way_is_no_language_model(model: Any) -> None:
    with pytest.raises(requests.RefusedError):
        cleaned({**HELLO, "model": model})


def test_a_text_in_place_of_a_name_does_not_reach_the_metrics_of_litellm() -> None:
    with pytest.raises(requests.RefusedError) as caught:
        cleaned({**HELLO, "model": "Max Mustermann"})

    assert caught.value.status == 400
    assert "Mustermann" not in str(caught.value)
    assert json.loads(requests.body(CHAT, json.dumps({"model": "Max Mustermann"}).encode())), "a stranger's"


@pytest.mark.parametrize("content", [b"", b"x", b"[]", b'"x"', b"[" * 100_000])
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    with pytest.raises(requests.RefusedError):
        requests.body(CHAT, content, NAMES)


def test_of_two_equal_keys_one_is_left() -> None:
    twice = b'{"model": "assistant", "model": "cloud/claude", "messages": []}'

    with pytest.raises(requests.RefusedError):
        requests.body(CHAT, twice, NAMES)


def test_headers_that_litellm_trusts_are_left_out() -> None:
    given = [
        (b"authorization", b"x"),
        (b"X-LiteLLM-Session-Id", b"chat"),
        (b"x-litellm-tags", b"x"),
        (b"x-api-key", b"x"),
        (b"x-litellm-end-user-id", b"mallory"),
        (b"anthropic-beta", b"x"),
    ]

    assert [name for name, _ in requests.headers(given)] == [b"authorization", b"X-LiteLLM-Session-Id"]


@pytest.mark.parametrize("name", [b"authorization", b"X-LiteLLM-Session-Id", b"x-openwebui-user-jwt"])
def test_who_asks_is_said_once(name: bytes) -> None:
    with pytest.raises(requests.RefusedError, match=name.decode().lower()):
        requests.headers([(name, b"one"), (b"accept", b"x"), (name.lower(), b"two"), (b"accept", b"y")])


def test_what_engines_alone_know_does_not_leave() -> None:
    body = {**HELLO, "chat_template_kwargs": {"x": "y"}, "options": {}, "think": True, "temperature": 0}
    data = cleaned(body)
    requests.leaving(data)

    assert data == {**HELLO, "temperature": 0}
