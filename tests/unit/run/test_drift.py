"""Which services a run configures: those whose manifest, files or units are not as they should be."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from freehold.ansible import digest
from freehold.events import Event, Stage, Status
from freehold.run import drift
from freehold.run.context import Client

from .conftest import Open


@pytest.fixture
def opened(client: Client) -> Client:
    client.ensure_secrets()
    return client


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def manifest(client: Client) -> dict[str, dict[str, Any]]:
    """What hosts answer on which everything is as it should be."""
    found: dict[str, dict[str, Any]] = {}
    for service in client.layout.services:
        wanted = digest.service_digest(service, lambda name: client.secrets.digest(client.secrets.get(name)))
        private = digest.managed_digest("password", client.secrets.digest)
        found[service.host] = {
            "manifest": {
                "services": {
                    service.name: {
                        "digest": wanted,
                        "files": {"/etc/plain": sha("text"), "/etc/private": private},
                        "units": {f"{service.name}.service": "active"},
                    }
                }
            },
            "files": {"/etc/plain": sha("text"), "/etc/private": sha("password")},
            "units": {f"{service.name}.service": "active"},
        }
    return found


def test_nothing_differs(opened: Client) -> None:
    assert drift.stale(opened, manifest(opened)) == {}


def test_a_new_host_has_everything_to_do(opened: Client) -> None:
    assert drift.stale(opened, {}) == {
        "caddy": {"caddy": "not configured yet"},
        "postgres": {"postgres": "not configured yet"},
    }


@pytest.mark.parametrize(
    ("part", "key", "value", "reason"),
    [
        ("files", "/etc/plain", sha("other"), "/etc/plain was changed on the host"),
        ("files", "/etc/private", sha("other"), "/etc/private was changed on the host"),
        ("files", "/etc/plain", None, "/etc/plain is gone"),
        ("units", "postgres.service", "failed", "postgres.service is failed, not active"),
        ("units", "postgres.service", None, "postgres.service is unknown, not active"),
    ],
)
def test_what_was_changed_on_a_host(
    opened: Client, part: str, key: str, value: str | None, reason: str
) -> None:
    found = manifest(opened)
    found["postgres"][part].pop(key)
    if value is not None:
        found["postgres"][part][key] = value
    assert drift.stale(opened, found) == {"postgres": {"postgres": reason}}


def test_what_a_run_began_and_did_not_finish_is_done_again(opened: Client) -> None:
    """Settings may be back to those of the manifest: what the run changed beside files is not."""
    found = manifest(opened)
    found["postgres"]["pending"] = ["postgres"]
    assert drift.stale(opened, found) == {"postgres": {"postgres": "an earlier run did not finish"}}


def test_a_new_secret_reaches_exactly_the_services_that_read_it(open_client: Open) -> None:
    client = open_client(services={"openwebui": None})
    client.ensure_secrets()
    found = manifest(client)
    client.secrets.set("openwebui.admin_password", "another-password")
    assert set(drift.stale(client, found)) == {"openwebui"}
    client.secrets.set("openwebui.database_password", "another-password")
    assert set(drift.stale(client, found)) == {"openwebui", "postgres"}


def test_manifests_are_taken_from_the_facts_alone() -> None:
    events = [
        Event(stage=Stage.SERVICES, status=Status.OK, step="Manifest", host="a", data={"manifest": {"x": 1}}),
        Event(stage=Stage.SERVICES, status=Status.OK, step="Connect", host="a"),
        Event(stage=Stage.BASE, status=Status.OK, step="Manifest", host="b", data={"manifest": {}}),
        Event(stage=Stage.SERVICES, status=Status.FAILED, step="Manifest", host="c", data={"manifest": {}}),
    ]
    assert drift.manifests(events) == {"a": {"manifest": {"x": 1}}}
