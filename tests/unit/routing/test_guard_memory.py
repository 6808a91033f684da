"""The guardrail with its memory as they run on the router, rendered and imported; of LiteLLM and Valkey they get stand-ins."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import freehold.routing
from freehold import render

PROGRAMS = ("freehold_memory", "freehold_guard")
POLICY = {
    "models": ["assistant"],
    "cloud": {"claude": {"groups": ["lawyers"], "local": "assistant"}},
    "tasks": {"coding": {"local": "assistant", "cloud": "claude"}},
    "never_leaves": ["attachments", "context", "images"],
    "countries": [],
    "ignore": [],
    "notice": True,
    "notice_applications": ["openwebui"],
    "keep_seconds": 100,
}
USERS = {
    "ada@acme.example": {"groups": ["lawyers"], "requests_per_minute": 2, "tokens_per_day": 50},
    "eva@acme.example": {"groups": ["lawyers"]},
    "bob@acme.example": {"groups": []},
}
HELLO = [{"role": "user", "content": "What is a contract?"}]
ACCOUNT = [{"role": "user", "content": "Pay to DE89 3704 0044 0532 0130 00"}]
ANSWERED = [*HELLO, {"role": "assistant", "content": "A promise."}, *HELLO]


class HttpError(Exception):
    """Stand-in of FastAPI's ``HTTPException``."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Valkey:
    """Stand-in of a client of Valkey: what it was told, and whether it answers."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.away = False

    def _there(self) -> None:
        if self.away:
            raise OSError("away")

    async def get(self, name: str) -> Any:
        self._there()
        return self.kept.get(name)

    async def set(self, name: str, value: str, ex: int, nx: bool = False) -> Any:
        self._there()
        if nx and name in self.kept:
            return None
        self.kept[name] = value
        return True

    async def expire(self, name: str, seconds: int) -> None:
        self._there()

    async def eval(self, script: str, keys: int, name: str, *arguments: Any) -> int:
        self._there()
        more = int(arguments[0]) if "INCRBY" in script else 1
        self.kept[name] = int(self.kept.get(name, 0)) + more
        return int(self.kept[name])


def _module(name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(content)
    return module


@pytest.fixture
def valkey() -> Valkey:
    return Valkey()


@pytest.fixture
def program(tmp_path: Path, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The guardrail's module, with the files of a router."""
    away = {
        name: type(name, (Exception,), {})
        for name in ("APIConnectionError", "ServiceUnavailableError", "InternalServerError", "Timeout")
    }
    guardrail = type("CustomGuardrail", (), {"__init__": lambda self, **options: None})
    asynchronous = SimpleNamespace(Redis=lambda **options: valkey)
    stand_ins = [
        _module("litellm", **away),
        _module("litellm.integrations"),
        _module("litellm.integrations.custom_guardrail", CustomGuardrail=guardrail),
        _module("fastapi", HTTPException=HttpError),
        _module("redis", asyncio=asynchronous),
        _module("redis.exceptions", RedisError=OSError),
    ]
    for module in stand_ins:
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in [name for name in sys.modules if name.startswith("freehold.routing")]:
        monkeypatch.setitem(
            sys.modules, name.replace("freehold.routing", "freehold_routing"), sys.modules[name]
        )
    for name in ("policy", "requests", "detect"):
        importlib.import_module(f"freehold.routing.{name}")
        monkeypatch.setitem(sys.modules, f"freehold_routing.{name}", sys.modules[f"freehold.routing.{name}"])
    monkeypatch.setitem(sys.modules, "freehold_routing", freehold.routing)
    for name in PROGRAMS:
        text = render.render(f"litellm/{name}.py.j2", {})
        for path, mine in (("/etc/litellm", tmp_path), ("/var/lib/litellm", tmp_path)):
            text = text.replace(path, str(mine))
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    for name, content in (("routing", POLICY), ("users", USERS), ("names", ["Hans Wurstinger"])):
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setenv("FREEHOLD_MEMORY_ADDRESS", "10.0.0.5:6379")
    monkeypatch.setenv("FREEHOLD_MEMORY_PASSWORD", "p")
    monkeypatch.setenv("FREEHOLD_MEMORY_KEY", "ab" * 32)
    monkeypatch.syspath_prepend(str(tmp_path))
    memory = importlib.import_module(PROGRAMS[0])
    monkeypatch.setattr(
        memory, "time", SimpleNamespace(time=lambda: 1_800_000_000.0)
    )  # no minute ends meanwhile
    yield importlib.import_module(PROGRAMS[1])
    for name in PROGRAMS:
        sys.modules.pop(name, None)


@pytest.fixture
def guard(program: ModuleType) -> Any:
    return program.Guard()


async def ask(
    guard: Any,
    messages: Any = HELLO,
    model: str = "claude",
    user: str | None = "ada@acme.example",
    session: str | None = "chat-1",
    application: str = "openwebui",
    call_type: str = "acompletion",
    **parameters: Any,
) -> dict[str, Any]:
    """What the guardrail makes of a request."""
    headers = {"x-litellm-session-id": session} if session else {}
    data = {
        "model": model,
        "messages": messages,
        "proxy_server_request": {"headers": headers},
        **parameters,
    }
    who = SimpleNamespace(key_alias=application, end_user_id=user)
    found: dict[str, Any] = await guard.async_pre_call_hook(who, None, data, call_type)
    return found


def reason(data: dict[str, Any]) -> str:
    return str(data["metadata"]["freehold_reason"])


async def test_a_clean_question_leaves_without_who_asks(guard: Any) -> None:
    data = await ask(guard, user="Ada@acme.example")

    assert (data["model"], reason(data)) == ("cloud/claude", "allowed")
    assert "user" not in data


async def test_what_was_sensitive_once_holds_the_rest_of_the_conversation(guard: Any, valkey: Valkey) -> None:
    first, second = await ask(guard), await ask(guard, ACCOUNT)
    third, another = (
        await ask(guard, session="chat-1", user=None),
        await ask(guard, session="chat-2", user=None),
    )
    fourth = await ask(guard, user="bob@acme.example")

    assert [reason(each) for each in (first, second)] == ["allowed", "sensitive"]
    assert second["model"] == "assistant"
    assert "bank-account" in second["metadata"]["freehold_categories"]
    assert third["metadata"]["freehold_sticky"] is True
    assert another["metadata"]["freehold_sticky"] is False
    assert fourth["metadata"]["freehold_sticky"] is True
    assert not any("chat-1" in name for name in valkey.kept), "conversations stand there as keyed hashes"


def _conversations(valkey: Valkey) -> list[str]:
    return [name for name in valkey.kept if ":conversation:" in name]


async def test_what_others_write_into_valkey_lets_nothing_out(guard: Any, valkey: Valkey) -> None:
    await ask(guard, session="chat-2", user="eva@acme.example")
    (elsewhere,) = _conversations(valkey)
    clean = valkey.kept[elsewhere]
    await ask(guard, ACCOUNT, user="eva@acme.example")
    (kept,) = {*_conversations(valkey)} - {elsewhere}
    sensitive = valkey.kept[kept]
    for written in ("clean", clean, sensitive.replace("sensitive", "clean"), "", "clean:\u00e9"):
        valkey.kept[kept] = written
        data = await ask(guard, ANSWERED, user="eva@acme.example")
        assert (data["model"], reason(data)) == ("assistant", "unknown_past"), written
        assert reason(await ask(guard, user="eva@acme.example")) == "conversation", "and it stays"


async def test_a_name_on_the_list_and_a_task(guard: Any) -> None:
    assert reason(await ask(guard, [{"role": "user", "content": "Herr Wurstinger asks"}])) == "sensitive"
    assert (await ask(guard, model="coding", session="chat-9"))["model"] == "cloud/claude"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"user": None}, "no_user"),
        ({"user": "eve@acme.example"}, "no_user"),
        ({"user": "bob@acme.example"}, "not_allowed"),
        ({"session": None}, "no_session"),
        ({"session": "temporary:1"}, "no_session"),
        ({"messages": ANSWERED}, "unknown_past"),
        ({"call_type": "atext_completion"}, "not_a_chat"),
    ],
)
async def test_what_is_not_known_stays(guard: Any, changes: dict[str, Any], why: str) -> None:
    data = await ask(guard, **changes)

    assert (data["model"], reason(data)) == ("assistant", why)


async def test_a_conversation_that_was_seen_from_its_beginning_goes_on(guard: Any) -> None:
    assert (await ask(guard))["model"] == "cloud/claude"
    assert (await ask(guard, ANSWERED))["model"] == "cloud/claude"


async def test_nothing_leaves_while_the_memory_is_away_and_it_is_remembered_all_the_same(
    guard: Any, valkey: Valkey, tmp_path: Path
) -> None:
    valkey.away = True
    assert reason(await ask(guard)) == "memory_away"
    await ask(guard, ACCOUNT, session="chat-3")
    valkey.away = False

    assert (tmp_path / "unwritten-conversations").read_text().strip()
    assert reason(await ask(guard, session="chat-3")) == "conversation"


async def test_what_cannot_be_remembered_is_not_answered(guard: Any, valkey: Valkey, tmp_path: Path) -> None:
    valkey.away = True
    (tmp_path / "unwritten-conversations").mkdir()
    with pytest.raises((HttpError, OSError)):
        await ask(guard, ACCOUNT)


async def test_detectors_that_take_too_long_keep_the_conversation(
    guard: Any, program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "SECONDS", 0.05)
    decide = program.rules.decide
    monkeypatch.setattr(program.rules, "decide", lambda *given: time.sleep(0.3) or decide(*given))
    assert reason(await ask(guard)) == "detectors_failed"
    monkeypatch.setattr(program.rules, "decide", decide)

    assert reason(await ask(guard, user="ada@acme.example")) == "conversation"


async def test_an_unknown_name_is_refused(guard: Any) -> None:
    with pytest.raises(HttpError) as caught:
        await ask(guard, model="cloud/claude")
    assert caught.value.status == 404


async def test_a_person_asks_as_often_as_the_groups_allow(guard: Any) -> None:
    for number in range(2):
        await ask(guard, session=f"chat-{number}")
    with pytest.raises(HttpError, match="2 times a minute") as caught:
        await ask(guard)
    assert caught.value.status == 429
    assert await ask(guard, user="bob@acme.example")


async def test_a_person_uses_as_many_tokens_as_the_groups_allow(guard: Any) -> None:
    used = {"litellm_params": {"metadata": {"user_api_key_end_user_id": "ada@acme.example"}}}
    await guard.async_log_success_event(
        used, SimpleNamespace(usage=SimpleNamespace(total_tokens=50)), None, None
    )
    with pytest.raises(HttpError, match="50 tokens") as caught:
        await ask(guard)
    assert caught.value.status == 429


async def test_what_has_no_decision_does_not_leave(guard: Any) -> None:
    for out in ({"metadata": {"model_group": "cloud/claude"}}, {"model_info": {"id": "cloud/claude"}}):
        with pytest.raises(PermissionError):
            await guard.async_pre_call_deployment_hook(out, "acompletion")
    decided = {"metadata": {"model_group": "cloud/claude", "freehold_route": "cloud"}}
    assert await guard.async_pre_call_deployment_hook(decided, "acompletion") is decided


async def test_people_and_applications_are_told_who_answered(guard: Any) -> None:
    data = await ask(guard, ACCOUNT)
    headers = await guard.async_post_call_response_headers_hook(data, None, None)
    answer = SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content="Yes."))])
    await guard.async_post_call_success_hook(data, None, answer)

    assert headers["x-freehold-route"] == "local"
    assert headers["x-freehold-model"] == "assistant"
    assert headers["x-freehold-reason"] == "sensitive"
    assert "bank-account" in headers["x-freehold-categories"].split(",")
    assert "iban" in headers["x-freehold-detectors"].split(",")
    assert answer.choices[0].message.content.startswith("*Answered in the building by assistant: ")
    assert answer.choices[0].message.content.endswith("\n\nYes.")
    assert not (await ask(guard, session="chat-4", application="n8n"))["metadata"]["freehold_notice"]


async def test_a_stream_begins_with_who_answered(guard: Any) -> None:
    data = await ask(guard, ACCOUNT)

    async def pieces() -> Any:
        for text in (None, "Yes", "."):
            yield SimpleNamespace(choices=[SimpleNamespace(delta=SimpleNamespace(content=text))])

    found = [
        piece.choices[0].delta.content
        async for piece in guard.async_post_call_streaming_iterator_hook(None, pieces(), data)
    ]
    assert found[0] is None
    assert found[1].startswith("*Answered in the building by assistant: ")
    assert found[1].endswith("Yes")
    assert found[2] == "."


async def test_an_engine_that_is_away_is_said_plainly(guard: Any, program: ModuleType) -> None:
    data = await ask(guard, ACCOUNT)
    error = await guard.async_post_call_failure_hook(data, program.litellm.Timeout(), None)

    assert error.status == 503
    assert str(error) == "The local language model assistant does not answer. No other was asked."
    assert await guard.async_post_call_failure_hook(data, ValueError(), None) is None


async def test_a_file_that_is_broken_stops_everything(guard: Any, tmp_path: Path) -> None:
    await ask(guard)
    (tmp_path / "routing.json").write_text("{}")
    with pytest.raises(KeyError):
        await ask(guard)
