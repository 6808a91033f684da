"""The router's door as it runs on the host, rendered and imported; LiteLLM behind it is a stand-in that says what reaches it."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import freehold.routing.requests
from freehold import render

MODELS = """
model_list:
  - {model_name: assistant, litellm_params: {model: openai/a}, model_info: {id: a}}
  - {model_name: cloud/claude, litellm_params: {model: anthropic/c}, model_info: {id: c}}
"""
STARTED = {"model_name": "started", "model_info": {"id": "s"}}
"""What LiteLLM read itself when it started."""


class Litellm:
    """Stand-in of LiteLLM: the language models that reach it."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.app = self
        self.llm_model_list: list[Any] = []
        self.llm_router = SimpleNamespace(
            registry=lambda: SimpleNamespace(deployments=lambda: [STARTED]), apply=lambda changes: None
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(json.loads((await receive())["body"])["model"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def litellm() -> Litellm:
    return Litellm()


@pytest.fixture
def door(tmp_path: Path, litellm: Litellm, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "models.yaml").write_text(MODELS, encoding="utf-8")
    text = render.render("litellm/freehold_app.py.j2", {})
    (tmp_path / "freehold_app.py").write_text(text.replace("/etc/litellm", str(tmp_path)), encoding="utf-8")
    known = {"name": "openwebui", "routes": []}
    stand_ins: dict[str, dict[str, Any]] = {
        "freehold_audit": {"around": lambda app: app},
        "freehold_auth": {"asking": lambda headers: known if b"authorization" in headers else None},
        "freehold_routing": {"requests": freehold.routing.requests},
        "litellm": {},
        "litellm.proxy": {"proxy_server": litellm},
        "litellm.router_api": {"ChangeSet": lambda **changes: changes},
        "litellm.types": {},
        "litellm.types.router": {
            "Deployment": lambda model_name, litellm_params, model_info: SimpleNamespace(
                model_name=model_name, model_info=SimpleNamespace(**model_info)
            )
        },
    }
    for name, content in stand_ins.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("freehold_app")
    sys.modules.pop("freehold_app", None)


async def ask(door: ModuleType, model: str, *headers: tuple[bytes, bytes]) -> int:
    """The status of the answer."""
    body = json.dumps({"model": model, "messages": []}).encode()
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": list(headers)}
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await door.app(scope, receive, send)
    return int(sent[0]["status"])


async def test_what_is_no_name_does_not_reach_litellm(door: ModuleType, litellm: Litellm) -> None:
    key = (b"authorization", b"Bearer sk-known")
    answers = [await ask(door, model, key) for model in ("assistant", "Max Mustermann", "cloud/claude")]

    assert answers == [200, 400, 400]
    assert litellm.asked == ["assistant"]


async def test_a_name_that_comes_later_is_known_at_once(door: ModuleType, tmp_path: Path) -> None:
    key = (b"authorization", b"Bearer sk-known")
    assert await ask(door, "large", key) == 400
    later = MODELS.replace("assistant", "large")
    (tmp_path / "models.yaml").write_text(later, encoding="utf-8")
    os.utime(tmp_path / "models.yaml", ns=(1, 1))
    assert (await ask(door, "large", key), await ask(door, "assistant", key)) == (200, 400)


async def test_a_list_that_is_not_taken_over_changes_nothing(door: ModuleType, tmp_path: Path) -> None:
    key = (b"authorization", b"Bearer sk-known")
    (tmp_path / "models.yaml").write_text(MODELS.replace("openai/a", "os.environ/ENGINE_KEY_TO_COME"))
    assert (await ask(door, "started", key), await ask(door, "assistant", key)) == (200, 400)


async def test_strangers_learn_no_names(door: ModuleType, litellm: Litellm) -> None:
    assert {await ask(door, model) for model in ("assistant", "Max Mustermann")} == {200}
    assert litellm.asked == ["assistant", "Max Mustermann"], "LiteLLM refuses strangers itself"
