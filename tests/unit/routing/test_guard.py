"""The guardrail as it runs on the router, with stand-ins of LiteLLM and of the memory: what it makes of requests."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tests.unit.routing.presidio_standin import answering

import freehold.routing
import freehold.routing.detect
import freehold.routing.policy
import freehold.routing.presidio
import freehold.routing.requests
from freehold import render

ROUTING = {
    "models": ["assistant"],
    "cloud": {"claude": {"groups": ["lawyers"], "local": "assistant"}},
    "tasks": {},
    "never_leaves": ["attachments", "context", "images"],
    "countries": [],
    "ignore": [],
    "notice": True,
    "notice_applications": [],
    "keep_seconds": 100,
}
USERS = {"karl@acme.example": {"groups": ["lawyers"]}}


class AwayError(Exception):
    """As of the memory."""


class Memory:
    """Stands in for the memory in Valkey; ``meanwhile`` happens in a conversation while a request of it is read."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.meanwhile = ""

    async def conversation(self, application: str, session: str) -> str | None:
        return self.known.get(session)

    async def keep_local(self, application: str, session: str, seconds: int) -> None:
        self.known[session] = "sensitive"

    async def clean(self, application: str, session: str, seconds: int) -> bool:
        if self.meanwhile == "away":
            raise AwayError
        self.known.setdefault(session, self.meanwhile or "clean")
        return self.known[session] != "sensitive"


def _module(name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(content)
    return module


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    errors = ("APIConnectionError", "ServiceUnavailableError", "InternalServerError", "Timeout")
    modules = [
        _module("litellm", **{name: type(name, (Exception,), {}) for name in errors}),
        _module("litellm.integrations"),
        _module("litellm.integrations.custom_guardrail", CustomGuardrail=object),
        _module("fastapi", HTTPException=type("HTTPException", (Exception,), {})),
        _module("freehold_memory", AwayError=AwayError, Memory=Memory),
    ]
    for module in modules:
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("", ".detect", ".policy", ".presidio", ".requests"):
        monkeypatch.setitem(sys.modules, f"freehold_routing{name}", sys.modules[f"freehold.routing{name}"])
    for name, content in (("routing", ROUTING), ("users", USERS), ("names", [])):
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    text = render.render("litellm/freehold_guard.py.j2", {}).replace("/etc/litellm", str(tmp_path))
    program: dict[str, Any] = {"__name__": "freehold_guard"}
    exec(compile(text, "freehold_guard.py", "exec"), program)
    return program["Guard"]()


async def send(guard: Any, who: str = "Karl@acme.example", **data: Any) -> dict[str, Any]:
    """What LiteLLM would go on with."""
    key = SimpleNamespace(key_alias="openwebui", end_user_id=who)
    request = {
        "model": "claude",
        "messages": [{"role": "user", "content": "Hello"}],
        "proxy_server_request": {"headers": {"x-litellm-session-id": "chat-1"}},
        **data,
    }
    found: dict[str, Any] = await guard.async_pre_call_hook(key, None, request, "acompletion")
    return found


async def test_a_request_leaves_without_what_nobody_reads(guard: Any) -> None:
    extra: dict[str, Any] = {
        name: {"of": "Grundig Brandstetter"} for name in freehold.routing.requests.ENGINES
    }
    found = await send(guard, temperature=0.5, user="karl", **extra)

    assert (found["model"], found["metadata"]["freehold_route"]) == ("cloud/claude", "cloud")
    assert "Brandstetter" not in json.dumps({k: v for k, v in found.items() if k != "metadata"})
    assert found["temperature"] == 0.5
    assert "user" not in found


async def test_an_engine_of_the_building_gets_them(guard: Any) -> None:
    found = await send(guard, model="assistant", options={"x": 1})

    assert (found["model"], found["options"]) == ("assistant", {"x": 1})


@pytest.mark.parametrize(("meanwhile", "reason"), [("sensitive", "conversation"), ("away", "memory_away")])
async def test_what_happens_meanwhile_holds_a_request_back(guard: Any, meanwhile: str, reason: str) -> None:
    guard._memory.meanwhile = meanwhile
    found = await send(guard)

    assert (found["model"], found["metadata"]["freehold_reason"]) == ("assistant", reason)


async def test_letters_that_become_others_are_another_address(guard: Any) -> None:
    found = await send(guard, "\u212aarl@acme.example")

    assert (found["model"], found["metadata"]["freehold_reason"]) == ("assistant", "no_user")


async def test_presidio_that_does_not_answer_holds_a_request_back(
    guard: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freehold.routing.presidio, "SOCKET", str(tmp_path / "socket"))
    on = {**ROUTING, "presidio": {"languages": ["de"], "finds": ["person"]}}
    (tmp_path / "routing.json").write_text(json.dumps(on), encoding="utf-8")
    away = await send(guard)
    headers = {"headers": {"x-litellm-session-id": "chat-2"}}
    with answering(tmp_path / "socket") as there:
        clean = await send(guard, proxy_server_request=headers)
        there.answer = {"found": {"PERSON": 0.85}}
        named = await send(guard, proxy_server_request=headers)
        there.answer, there.wait = {"found": {}}, 0.5
        monkeypatch.setitem(guard.async_pre_call_hook.__globals__, "SECONDS", 0.05)
        slow = await send(guard, proxy_server_request={"headers": {"x-litellm-session-id": "chat-3"}})

    assert (away["model"], away["metadata"]["freehold_reason"]) == ("assistant", "detectors_failed")
    assert clean["model"] == "cloud/claude"
    assert (named["model"], named["metadata"]["freehold_categories"]) == ("assistant", ["person"])
    assert named["metadata"]["freehold_detectors"] == ["presidio"]
    assert (slow["model"], slow["metadata"]["freehold_reason"]) == ("assistant", "detectors_failed")
