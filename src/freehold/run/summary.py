"""What a run leaves behind, in a few lines: what runs where, how to log in, where the report is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from freehold.catalog import services as catalog
from freehold.catalog import versions
from freehold.layout import aliases, artifacts
from freehold.layout.aliases import Alias
from freehold.layout.types import Layout
from freehold.proxmox.in_force import FirewallState
from freehold.run.proof import Proof
from freehold.run.stages import Run


@dataclass(frozen=True)
class HostLine:
    """One host."""

    host: str
    address: str
    vmid: int
    services: str


@dataclass(frozen=True)
class Summary:
    """The closing summary."""

    client: str
    changes: dict[str, int] | None
    """Changes by stage; empty when nothing had to change, None when nothing was to be changed."""
    hosts: list[HostLine]
    addresses: dict[str, str]
    """Address of each application by its title."""
    models: dict[str, str]
    """What serves each language model by the name that people choose: engine, form, conversations at once, tokens of each."""
    logins: list[str]
    notes: list[str]
    stand_ins: list[str]
    """Services that run as the lab's stand-ins, and not as what they are called."""
    passed: int | None
    """Checks that passed; None when nothing was proven."""
    skipped: int
    """Checks that could not be made; the report says why."""
    folder: str
    report: str | None
    seconds: float
    api_calls: int
    firewall: str | None = None
    """Whether the rules of Proxmox VE's firewall are in force, and why not; None where nobody asked."""

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain data."""
        return asdict(self)


def summarise(
    run: Run,
    proof: Proof | None,
    *,
    seconds: float,
    changing: bool = True,
    firewall: FirewallState | None = None,
) -> Summary:
    """The summary of a run; ``changing`` is false for a run that only looks."""
    layout, known = run.client.layout, catalog.load()
    logins = [
        f"{known[service.role].title}: {known[service.role].login}".replace(
            "<client>", layout.client
        ).replace("<domain>", layout.domain)
        for service in layout.services
        if known[service.role].login
    ]
    notes = []
    if layout.routes:
        notes.append(f"Browsers trust the applications with {run.client.authority_file}")
        gateway = next(route for route in layout.services if route.name == "caddy")
        notes.append(f"Names: let your DNS answer *.{layout.domain} with {gateway.address}")
    unseen = [node.name for node in layout.nodes if layout.monitor and not node.address]
    if unseen:
        notes.append(f"Not monitored, since the stack file gives no SSH to it: {', '.join(unseen)}")
    return Summary(
        client=layout.client,
        changes={str(stage): number for stage, number in run.changed.items() if number} if changing else None,
        hosts=[
            HostLine(host.name, str(host.address), host.vmid, ", ".join(host.services))
            for host in layout.hosts
        ],
        addresses={route.title: f"https://{route.fqdn}" for route in layout.routes},
        models=models(layout, aliases.load(Path(layout.directory))),
        logins=logins,
        notes=notes,
        firewall=firewall.text if firewall else None,
        stand_ins=_stand_ins(layout),
        passed=proof.passed if proof else None,
        skipped=proof.skipped if proof else 0,
        folder=str(run.folder.path),
        report=str(proof.page) if proof else None,
        seconds=seconds,
        api_calls=run.client.api.calls,
    )


def models(layout: Layout, led: Mapping[str, Alias]) -> dict[str, str]:
    """What answers under each name: language model, form, engine, conversations at once, tokens.

    Args:
        layout: The stack's.
        led: Names that were promoted elsewhere (``aliases.yml``).
    """
    found: dict[str, str] = {}
    for name in dict.fromkeys(model.name for model in layout.models):
        same = [model for model in layout.models if model.name == name]
        if alias := led.get(name):
            wanted = (alias.engine, alias.model)
            same = [
                each
                for each in layout.models
                if wanted in ((each.engine, each.id), (each.engine, each.served))
            ]
        if same:
            first, engines = same[0], ", ".join(model.engine for model in same)
            found[name] = (
                f"{first.title} ({first.quantization}) on {engines}, {first.users} at once"
                f"{' on each' if len(same) > 1 else ''}, {first.context} tokens per conversation"
                f"{'' if first.sizing else ' (not sized)'}{' (promoted)' if alias else ''}"
            )
    return found


def _stand_ins(layout: Layout) -> list[str]:
    lock = versions.load(Path(layout.directory))
    found = (
        f"{service.title} {artifact.version}"
        for service in layout.services
        for artifact in artifacts.of(service, lock).values()
        if artifact.stand_in
    )
    return list(dict.fromkeys(found))
