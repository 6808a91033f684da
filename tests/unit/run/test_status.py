"""What ``status`` shows when the plan is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from freehold.proxmox.errors import ForeignGuestError
from freehold.proxmox.observe import Observed, ObservedGuest
from freehold.run import status
from freehold.run.context import Client


def test_a_foreign_guest_in_the_way_hides_nothing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    vmids = {host.name: host.vmid for host in client.layout.hosts}
    guest = ObservedGuest(node="pve", vmid=vmids["postgres"], name="acme-postgres", running=True)

    def refused(_: Client, *, ask: bool) -> Any:
        assert not ask, "a state can be shown though no node says which GPUs it has"
        raise ForeignGuestError("Something else holds what the stack wants")

    monkeypatch.setattr(status.plan, "plan", refused)
    monkeypatch.setattr(
        status, "observe", lambda *_, **__: Observed(client="acme", guests={guest.vmid: guest}, unfinished={})
    )
    client.__dict__["api"] = SimpleNamespace(get=lambda *_, **__: [])
    states = {state.host: state.state for state in status.status(client)}
    assert states == {"caddy": "missing", "postgres": "running"}
