"""What the sections of an evidence pack are written from: the client's files, and what was asked of the node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from freehold.catalog import models, services, versions
from freehold.catalog.models import LanguageModel
from freehold.catalog.services import ServiceMeta
from freehold.catalog.versions import Artifact
from freehold.layout import artifacts, licence_gate
from freehold.layout.licence_gate import Verdict
from freehold.layout.types import Layout, ServicePlacement
from freehold.run.context import Client
from freehold.run.evidence.runs import PastRun
from freehold.schema.stack import Stack


@dataclass(frozen=True)
class Live:
    """What the node said; ``None`` where it was not asked, or did not answer."""

    version: str | None = None
    """Of Proxmox VE."""
    hosts: tuple[dict[str, Any], ...] | None = None
    """State of each container (:class:`freehold.run.status.HostState`)."""
    gpus: tuple[dict[str, Any], ...] | None = None
    """GPUs of the nodes (:class:`freehold.run.gpus.Row`)."""
    complaints: tuple[str, ...] = ()
    """What the tools of drivers said instead of an answer."""
    drift: tuple[str, ...] | None = None
    """Containers that differ from the stack, each with what differs."""
    record: dict[str, Any] | None = None
    """The router's calls against the traces (:class:`freehold.run.audit_check.Completeness`)."""
    unread: tuple[tuple[str, str], ...] = ()
    """What could not be read, and why."""

    @property
    def answered(self) -> bool:
        """Whether the node said anything."""
        return self.hosts is not None


@dataclass
class Known:
    """All that is known of a client when its pack is written."""

    client: Client
    now: datetime
    live: Live
    runs: tuple[PastRun, ...]
    """The newest first."""
    previous: Mapping[str, Any] | None = None
    """The pack before this one, as its ``evidence.json`` has it."""
    catalog: Mapping[str, ServiceMeta] = field(default_factory=services.load)

    @property
    def name(self) -> str:
        """The client's short name."""
        return self.client.stack.client

    @property
    def stack(self) -> Stack:
        """The client's stack."""
        return self.client.stack

    @property
    def layout(self) -> Layout:
        """What the stack becomes."""
        return self.client.whole_layout

    @property
    def directory(self) -> Path:
        """The client's folder."""
        return self.client.directory

    @cached_property
    def lock(self) -> Mapping[str, Artifact]:
        """What is installed, by name."""
        return versions.load(self.directory)

    @cached_property
    def models(self) -> Mapping[str, LanguageModel]:
        """Language models by id."""
        return models.load(self.directory)

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What licences say of the declared use."""
        installed = {service.name: self.artifacts(service) for service in self.layout.services}
        return tuple(licence_gate.verdicts(self.stack, self.models, installed))

    def artifacts(self, service: ServicePlacement) -> list[Artifact]:
        """What is installed for a service."""
        return [*artifacts.of(service, self.lock).values()]

    def has(self, role: str) -> bool:
        """Whether the stack has a service of a role."""
        return any(service.role == role for service in self.layout.services)

    def setting(self, role: str, name: str) -> Any:
        """A role's option as its first service has it: what the layout says, else the role's default; None without one."""
        for service in self.layout.services:
            if service.role == role:
                full = f"{role}_{name}"
                default = services.argument_specs(role).get(full, {}).get("default")
                return service.variables.get(full, default)
        return None
