"""The programs of the router's audit trail, rendered and imported as they run on the host."""

from __future__ import annotations

import importlib
import json
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import freehold.routing.requests
from freehold import render

NAMES = ("freehold_spool", "freehold_shipper", "freehold_audit")
_STANDS_IN: dict[str, dict[str, Any]] = {
    "freehold_auth": {
        "asking": lambda headers: (
            {"name": "openwebui", "routes": []}
            if headers.get(b"authorization") == b"Bearer sk-known"
            else None
        ),
        "person": lambda request: "ada@acme.example",
    },
    "jwt": {"InvalidTokenError": ValueError},
    "fastapi": {"Request": lambda scope: scope},
    "litellm": {},
    "litellm.integrations": {},
    "litellm.integrations.custom_logger": {"CustomLogger": object},
}
"""The few names of LiteLLM and its packages that the recorder takes; the real ones are on the router alone."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The programs as files."""
    etc = tmp_path / "etc"
    etc.mkdir()
    for name in NAMES:
        text = render.render(f"litellm/{name}.py.j2", {})
        for path, mine in (("/etc/litellm", etc), ("/var/lib/litellm", tmp_path / "var")):
            text = text.replace(path, str(mine))
        (etc / f"{name}.py").write_text(text, encoding="utf-8")
    (etc / "models.yaml").write_text("model_list: []\n", encoding="utf-8")
    return etc


@pytest.fixture
def programs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The programs as modules: ``spool``, ``shipper``, ``audit``."""
    for name, content in _STANDS_IN.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "freehold_routing", freehold.routing)
    monkeypatch.syspath_prepend(str(folder))
    found = {name.removeprefix("freehold_"): importlib.import_module(name) for name in NAMES}
    yield SimpleNamespace(**found)
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture
def record() -> Callable[..., dict[str, Any]]:
    """Makes the beginning of a call."""

    def made(**others: Any) -> dict[str, Any]:
        return {
            "format": 1,
            "id": secrets.token_hex(16),
            "began": time.time_ns() // 1_000_000,
            "application": "openwebui",
            "user": "ada@acme.example",
            "conversation": "chat-1",
            "kind": "chat",
            "asked": "assistant",
            "parameters": {},
            "input": [{"role": "user", "content": "Hello"}],
            "status": "open",
            **others,
        }

    return made


@pytest.fixture
def settings(folder: Path) -> dict[str, Any]:
    """What the role tells the programs."""
    given = {"on": True, "when_full": "stop", "spool_mib": 16, "mask": False, "retention_days": 365}
    (folder / "audit.json").write_text(json.dumps(given), encoding="utf-8")
    return given
