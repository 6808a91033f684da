"""What the pyinfra child process is asked to do: one JSON document on its standard input."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from freehold.events import Stage
from freehold.layout.types import Layout
from freehold.nvidia import Release
from freehold.proxmox.changes import Phase, Plan


class Deploy(StrEnum):
    """The deploys of ``deploys/``, and ``facts``, which reads and changes nothing."""

    GPU = "gpu"
    NODE = "node"
    CONTAINER = "container"
    ROOT_STEPS = "root-steps"
    POWER = "power"
    BASE = "base"
    FACTS = "facts"

    @property
    def stage(self) -> Stage:
        """The stage of a run in which the deploy is used."""
        return {
            Deploy.GPU: Stage.NODE,
            Deploy.NODE: Stage.NODE,
            Deploy.CONTAINER: Stage.CONTAINERS,
            Deploy.ROOT_STEPS: Stage.ROOT_STEPS,
            Deploy.POWER: Stage.START,
            Deploy.BASE: Stage.BASE,
            Deploy.FACTS: Stage.SERVICES,
        }[self]

    @property
    def group(self) -> str:
        """The group of the inventory on which the deploy runs."""
        match self:
            case Deploy.GPU | Deploy.NODE | Deploy.ROOT_STEPS:
                return "nodes"
            case Deploy.CONTAINER | Deploy.POWER:
                return "containers"
            case _:
                return "guests"

    @property
    def file(self) -> str:
        """Name of the deploy's file in ``deploys/``."""
        return f"{self.replace('-', '_')}.py"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Options(_Part):
    """How a deploy runs."""

    dry: bool = False
    """Say what would be done, and do nothing."""
    parallel: int = 8
    """Hosts that are worked on at once."""
    connect_timeout: int = 10
    """Seconds to wait for a connection."""
    verbosity: int = 0
    """1 also logs the commands, 2 their output too (on standard error)."""


class Request(_Part):
    """One deploy on some of the hosts of a layout."""

    deploy: Deploy
    layout: Layout
    hosts: tuple[str, ...] | None = None
    """Names of hosts or nodes; all that the deploy is for when left out."""
    plan: Plan | None = None
    """What ``container``, ``root-steps`` and ``power`` carry out; nothing when left out."""
    phases: tuple[Phase, ...] = (Phase.UNLOCK, Phase.ROOT)
    """Phases of the plan whose root steps ``root-steps`` does."""
    ssh_config: Path | None = None
    """The client's SSH configuration; its aliases are the layout's host and node names."""
    secrets: dict[str, dict[str, str]] = {}
    """What this deploy needs and nothing else: ``{"proxmox": {"token": ...}}`` for those that call the API."""
    scrape_hash: str | None = None
    """Hash of the password with which the monitoring service reads figures of hosts and nodes (``base``, ``node``)."""
    driver: Release | None = None
    """Version of the NVIDIA driver that nodes get (``gpu``); that of the lock when left out."""
    replace: bool = False
    """Whether another version of the driver that is installed makes way (``gpu``)."""
    user_space: dict[str, Release] = {}
    """Version of the NVIDIA driver that each node has, for the containers on its GPUs (``base``)."""
    options: Options = Options()
    stage: Stage | None = None
    """The stage that events name, where it is not the deploy's own."""
