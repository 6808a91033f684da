"""Which hosts have services to configure: the desired digests held against manifest and host."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from freehold.ansible import digest
from freehold.events import Event, Stage, Status
from freehold.run.context import Client


def stale(client: Client, found: dict[str, dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Services that differ, by host: ``{"postgres": {"postgres": "its settings changed"}}``.

    Args:
        client: The client.
        found: By host, what ``HostManifest`` answered: the manifest, checksums of its files, states of its units,
            and the services whose role began to change something and did not end.
    """
    secrets = client.secrets

    def keyed(text: str) -> str:
        return secrets.digest(text)

    def secret(name: str) -> str:
        return secrets.digest(secrets.get(name))

    result: dict[str, dict[str, str]] = {}
    for service in client.layout.services:
        here = found.get(service.host, {})
        section = (here.get("manifest", {}).get("services") or {}).get(service.role)
        wanted = digest.service_digest(service, secret)
        reason = _reason(section, wanted, here, keyed)
        if not reason and service.role in here.get("pending", ()):
            reason = "an earlier run did not finish"
        if reason:
            result.setdefault(service.host, {})[service.name] = reason
    return result


def _reason(section: dict[str, Any] | None, wanted: str, here: dict[str, Any], keyed: digest.Keyed) -> str:
    if section is None:
        return "not configured yet"
    if section.get("digest") != wanted:
        return "its role, its settings or its secrets changed"
    files = here.get("files", {})
    for path, recorded in (section.get("files") or {}).items():
        now = files.get(path)
        if now is None:
            return f"{path} is gone"
        if not digest.matches(recorded, now, keyed):
            return f"{path} was changed on the host"
    units = here.get("units", {})
    for unit, recorded in (section.get("units") or {}).items():
        if units.get(unit) != recorded:
            return f"{unit} is {units.get(unit, 'unknown')}, not {recorded}"
    return ""


def manifests(events: Iterable[Event]) -> dict[str, dict[str, Any]]:
    """By host, what the deploy ``facts`` found."""
    return {
        event.host: dict(event.data)
        for event in events
        if event.stage is Stage.SERVICES and event.status is Status.OK and "manifest" in event.data
    }
