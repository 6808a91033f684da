"""The recorder around LiteLLM: what reaches the application is what is recorded, and nothing goes on unrecorded."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import freehold.routing.detect
import freehold.routing.requests

Sent = list[dict[str, Any]]
App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


async def call(
    recorder: Any,
    body: Any,
    *,
    key: str = "sk-known",
    path: str = "/v1/chat/completions",
    leaves_after: int = 99,
) -> Sent:
    """Ask an ASGI application; whoever asks may leave after some pieces of the answer."""
    sent: Sent = []
    left = asyncio.Event()
    waiting = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if sum(each["type"] == "http.response.body" for each in sent) >= leaves_after:
            left.set()

    headers = [(b"authorization", f"Bearer {key}".encode()), (b"x-litellm-session-id", b"chat-7")]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    await recorder(scope, receive, send)
    return sent


async def answer(send: Any, status: int, *pieces: bytes, kind: bytes = b"application/json") -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", kind), (b"x-litellm-model-id", b"assistant@vllm")],
        }
    )
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def event(**told: Any) -> bytes:
    return b"data: " + json.dumps(told).encode() + b"\n\n"


@pytest.fixture
def recorded(
    programs: SimpleNamespace, settings: dict[str, Any], folder: Path, tmp_path: Path
) -> Callable[[App], Any]:
    (folder / "models.yaml").write_text(
        "model_list: [{model_info: {id: assistant@vllm, digest: 'sha256:12', revision: r1, input_cost_per_token: 0.5}}]"
    )
    return lambda app: programs.audit.Recorder(app, settings, str(tmp_path / "var"))


def only(recorder: Any, state: str = "done") -> dict[str, Any]:
    (name,) = recorder.spool.names(state)
    found: dict[str, Any] = recorder.spool.read(state, name)
    return found


async def test_a_call_is_on_the_disk_before_it_goes_on(recorded: Any) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(only(recorder, "open"))
        assert json.loads((await receive())["body"])["model"] == "assistant"
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        message = {"role": "assistant", "content": "Good day."}
        await answer(
            send, 200, json.dumps({"choices": [{"message": message}], "usage": usage, "model": "q"}).encode()
        )

    recorder = recorded(app)
    body = {"model": "assistant", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0}
    sent = await call(recorder, body)

    assert (seen[0]["status"], seen[0]["input"], seen[0]["user"]) == (
        "open",
        body["messages"],
        "ada@acme.example",
    )
    kept = only(recorder)
    assert recorder.spool.names("open") == []
    assert (kept["status"], kept["code"], kept["conversation"]) == ("success", 200, "chat-7")
    assert kept["output"] == {"role": "assistant", "content": "Good day."}
    assert kept["tokens"] == {"input": 3, "output": 4, "total": 7}
    assert (kept["digest"], kept["revision"], kept["cost"]) == ("sha256:12", "r1", 1.5)
    assert kept["parameters"] == {"temperature": 0}
    assert sent[0]["status"] == 200


async def test_a_stream_is_recorded_as_the_message_that_it_spells_and_keeps_the_count_to_itself(
    recorded: Any, programs: SimpleNamespace
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked = json.loads((await receive())["body"]) | {"_litellm_strip_stream_usage": True}
        data = await programs.audit.reference.async_pre_call_hook(None, None, asked, "acompletion")
        assert data["stream_options"] == {"include_usage": True}
        data["metadata"] = {
            "freehold_route": "local",
            "freehold_categories": ["iban"],
            "freehold_notice": "x",
        }
        delta = [
            {"content": "Good "},
            {"content": "day."},
            {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
        ]
        events = [event(model="q", choices=[{"delta": each}]) for each in delta]
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        last = [
            event(choices=[{"delta": {}, "finish_reason": "stop"}]),
            event(choices=[], usage=usage),
            b"data: [DONE]\n\n",
        ]
        await answer(send, 200, *events, *last, kind=b"text/event-stream")

    recorder = recorded(app)
    sent = await call(recorder, {"model": "assistant", "stream": True, "messages": []})

    kept = only(recorder)
    assert kept["output"]["content"] == "Good day."
    assert kept["output"]["tool_calls"] == [{"name": "f", "arguments": "{}"}]
    assert kept["tokens"] == {"input": 3, "output": 4, "total": 7}
    assert kept["route"] == {"route": "local", "categories": ["iban"]}
    assert not [each for each in sent if b'"usage"' in each.get("body", b"")]
    assert any(each.get("body") == b"data: [DONE]\n\n" for each in sent)


async def test_a_count_that_the_application_asked_for_reaches_it(
    recorded: Any, programs: SimpleNamespace
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await programs.audit.reference.async_pre_call_hook(
            None, None, json.loads((await receive())["body"]), "x"
        )
        await answer(send, 200, event(choices=[], usage={"total_tokens": 7}), kind=b"text/event-stream")

    asked = {"model": "a", "stream": True, "stream_options": {"include_usage": True}, "messages": []}
    sent = await call(recorded(app), asked)

    assert any(b'"usage"' in each.get("body", b"") for each in sent)


async def test_a_stream_that_somebody_leaves_is_recorded_as_far_as_it_came(recorded: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/event-stream")],
            }
        )
        for word in ("one ", "two "):
            piece = event(choices=[{"delta": {"content": word}}])
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        raise asyncio.CancelledError

    recorder = recorded(app)
    with pytest.raises(asyncio.CancelledError):
        await call(recorder, {"model": "assistant", "stream": True}, leaves_after=2)

    kept = only(recorder)
    assert (kept["status"], kept["output"]["content"]) == ("cancelled", "one two ")


@pytest.mark.parametrize(
    ("code", "status"), [(400, "refused"), (429, "refused"), (500, "failed"), (503, "failed")]
)
async def test_refusals_and_failures_are_calls_too(recorded: Any, code: int, status: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, code, b'{"error": {"message": "why"}}')

    recorder = recorded(app)
    await call(recorder, {"model": "assistant"})

    kept = only(recorder)
    assert (kept["status"], kept["code"], kept["error"]) == (status, code, "why")


async def test_an_application_that_breaks_leaves_a_record(recorded: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("broken")

    recorder = recorded(app)
    with pytest.raises(RuntimeError):
        await call(recorder, {"model": "assistant"})

    assert only(recorder)["status"] == "cancelled"


async def test_nobody_unknown_is_recorded(recorded: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, 401, b"{}")

    recorder = recorded(app)
    await call(recorder, {"model": "assistant"}, key="sk-wrong")
    await call(recorder, {}, path="/v1/models")

    assert recorder.spool.names("open") == recorder.spool.names("done") == []


async def test_a_full_spool_stops_before_anybody_is_asked(recorded: Any, settings: dict[str, Any]) -> None:
    asked = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await answer(send, 200, b"{}")

    recorder = recorded(app)
    recorder.spool.limit = 1
    recorder.spool._size, recorder.spool._scanned = 4096, 1e12
    sent = await call(recorder, {"model": "assistant"})
    assert (asked, sent[0]["status"]) == ([], 503)
    assert "cannot" not in json.loads(sent[1]["body"])["error"]["message"]
    assert "no more calls can be recorded" in json.loads(sent[1]["body"])["error"]["message"]

    settings["when_full"] = "pass"
    sent = await call(recorder, {"model": "assistant"})
    assert (asked, sent[0]["status"]) == (["/v1/chat/completions"], 200)
    # The ledger knows the call, so that the gap is seen.
    assert len((next((recorder.spool.root / "ledger").iterdir())).read_text().splitlines()) == 1


async def test_pictures_are_recorded_by_their_digest(recorded: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, 200, b'{"choices": []}')

    recorder = recorded(app)
    picture = "data:image/png;base64," + "QUJD" * 1000
    content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": "What is it?"}]
    await call(recorder, {"model": "assistant", "messages": [{"role": "user", "content": content}]})

    text = json.dumps(only(recorder)["input"])
    assert "QUJD" not in text
    assert "data:image/png;sha256=" in text
    assert "What is it?" in text


async def test_the_beginning_does_not_hold_up_other_requests(
    recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, 200, b'{"choices": []}')

    recorder = recorded(app)
    begin = recorder.spool.begin

    def slow(record: dict[str, Any]) -> Any:
        time.sleep(0.2)
        return begin(record)

    monkeypatch.setattr(recorder.spool, "begin", slow)
    ticks = 0

    async def clock() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    task = asyncio.create_task(clock())
    await call(recorder, {"model": "assistant"})
    task.cancel()

    assert ticks >= 10


async def test_what_the_detectors_find_is_blacked_out_before_it_is_kept(
    recorded: Any, settings: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "freehold_routing.detect", freehold.routing.detect)
    (folder / "routing.json").write_text("{}")
    (folder / "names.json").write_text('["Grundig Brandstetter"]')
    settings["mask"] = True
    begun = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.append(json.dumps(only(recorder, "open")["input"]))
        assert b"DE89 3704" in (await receive())["body"]
        text = "The account DE89 3704 0044 0532 0130 00 is of Grundig Brandstetter."
        await answer(
            send, 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
        )

    recorder = recorded(app)
    question = "Whose is DE89 3704 0044 0532 0130 00, please?"
    asked = {"model": "assistant", "messages": [{"role": "user", "content": question}], "stop": [question]}
    sent = await call(recorder, asked)

    kept = json.dumps(only(recorder))
    assert "3704" not in kept
    assert "3704" not in begun[0]
    assert "Brandstetter" not in kept
    assert "Whose is [bank-account], please?" in kept
    assert b"DE89 3704" in sent[1]["body"]


async def test_what_cannot_be_masked_is_not_recorded_and_not_answered(
    recorded: Any, settings: dict[str, Any]
) -> None:
    settings["mask"] = True

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("asked")

    sent = await call(recorded(app), {"model": "assistant", "messages": []})

    assert sent[0]["status"] == 503


async def test_who_is_not_known_has_no_key_for_litellm_either(recorded: Any) -> None:
    """LiteLLM takes "bearer KEY", "Basic KEY" and others for a key too."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["headers"])
        await answer(send, 401, b"{}")

    recorder = recorded(app)
    for spelling in (b"bearer sk-known", b"Basic sk-known", b"Bearer Bearer sk-known", b"sk-known"):
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "headers": [(b"Authorization", spelling), (b"authorization", spelling), (b"accept", b"x")],
        }

        async def never() -> None:
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            pass

        await recorder(scope, never, send)

    assert seen == [[(b"accept", b"x")]] * 4


async def test_whose_signature_is_wrong_does_not_reach_litellm(
    recorded: Any, programs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(request: Any) -> str:
        raise programs.audit.jwt.InvalidTokenError("the signature is of the future")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(programs.audit.freehold_auth, "person", wrong)
    sent = await call(recorded(app), {"model": "assistant"})

    assert sent[0]["status"] == 401
    assert b"of the future" in sent[1]["body"]


async def test_all_that_may_leave_is_recorded(recorded: Any, programs: SimpleNamespace) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, 200, b'{"choices": []}')

    content = {"model", "messages", "tools"}
    assert {*programs.audit.PARAMETERS} == freehold.routing.requests.SAMPLING - content
    recorder = recorded(app)
    await call(recorder, {"model": "assistant", "messages": [], "stop": ["x"], "logit_bias": {"5": 1}})

    assert only(recorder)["parameters"] == {"stop": ["x"], "logit_bias": {"5": 1}}


async def test_of_an_input_that_is_too_large_the_beginning_is_kept(
    recorded: Any, programs: SimpleNamespace
) -> None:
    """Twenty of them would otherwise fill the spool, and the router would answer nobody."""
    reached = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(len((await receive())["body"]))
        await answer(send, 400, b"{}")

    recorder = recorded(app)
    text = "x" * (programs.audit.KEPT * 2)
    messages = [{"role": "user", "content": text}]
    await call(recorder, {"model": text, "messages": messages, "stop": [text], "temperature": 0})

    kept = only(recorder)
    assert reached[0] > 3 * len(text)
    assert len(kept["asked"]) == 200
    assert kept["input"]["beginning"].startswith('[{"role": "user", "content": "xxx')
    assert len(kept["input"]["beginning"]) == len(kept["parameters"]["beginning"]) == programs.audit.KEPT
    assert kept["input"]["characters"] == len(json.dumps(messages))
    digest = hashlib.sha256(json.dumps(messages).encode()).hexdigest()
    assert kept["input"]["sha256"] == digest
