"""A client in a folder of its own, whose API answers from a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold import secrets, vault
from freehold.run.context import Client

STACK: dict[str, Any] = {
    "client": "acme",
    "domain": "acme.internal",
    "proxmox": {"endpoint": "https://pve.test:8006", "storage": "guests"},
    "network": {"subnet": "10.86.0.0/24", "gateway": "10.86.0.1"},
    "services": {"caddy": None, "postgres": None},
    "egress": {"closed": False},
}

Open = Callable[..., Client]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """State and keys of these tests lie apart from those of the person who runs them."""
    for name in (vault.KEY_FILE, vault.KEY_VALUE, vault.KEY_COMMAND):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(vault, "_from_environment", None)
    monkeypatch.setattr(secrets, "handed", None)
    secrets._of.cache_clear()
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "FREEHOLD_INVENTORY"):
        folder = tmp_path / name.lower()
        folder.mkdir(mode=0o700)
        monkeypatch.setenv(name, str(folder))
    return tmp_path


@pytest.fixture
def open_client(home: Path) -> Open:
    """Opens the client ``acme`` with top-level keys of its stack replaced."""

    def open_client(**changes: Any) -> Client:
        folder = home / "freehold_inventory/acme"
        folder.mkdir(exist_ok=True)
        (folder / "stack.yml").write_text(yaml.safe_dump({**STACK, **changes}))
        return Client.open(folder / "stack.yml")

    return open_client


@pytest.fixture
def client(open_client: Open) -> Client:
    """The client ``acme``."""
    return open_client()
