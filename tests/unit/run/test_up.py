"""What single stages of ``up`` ask of engines, of SSH and of the API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from freehold.events import Event
from freehold.run import children, up
from freehold.run.context import Client
from freehold.run.folder import RunFolder
from freehold.run.stages import Run

from .conftest import Open

GPU_STACK: dict[str, Any] = {
    "nodes": {"pve": {"address": "192.0.2.5", "gpus": [{"pci": "0000:01:00.0"}]}},
    "hosts": {"postgres": {"gpus": [0]}},
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What engines are asked; they have nothing to do."""
    documents: list[dict[str, Any]] = []

    def play(_module: str, document: dict[str, Any], **_: Any) -> int:
        documents.append(document)
        return 0

    monkeypatch.setattr(children, "run", play)
    return documents


def run_of(client: Client, tmp_path: Path, events: list[Event] | None = None) -> Run:
    client.ensure_secrets()
    sink: list[Event] = [] if events is None else events
    return Run(client, RunFolder(tmp_path, "up"), sink.append)


def test_the_node_keeps_the_gpus_of_services_that_are_left_out(
    open_client: Open, tmp_path: Path, asked: list[dict[str, Any]]
) -> None:
    client = open_client(**GPU_STACK)
    client = Client(client.loaded, only="caddy")
    up._node(run_of(client, tmp_path))
    devices = {host["name"]: len(host["devices"]) for host in asked[0]["layout"]["hosts"]}
    assert set(devices) == {"caddy", "postgres"}
    assert devices["postgres"] > 0


def test_the_node_gets_no_template_for_services_that_are_left_out(
    open_client: Open, tmp_path: Path, asked: list[dict[str, Any]]
) -> None:
    client = open_client(nodes=GPU_STACK["nodes"])
    client = Client(client.loaded, only="caddy")
    up._node(run_of(client, tmp_path))
    assert [host["name"] for host in asked[0]["layout"]["hosts"]] == ["caddy"]
