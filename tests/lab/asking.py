"""A person who asks through a client's router, and the lab's cloud that counts what reaches it."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.routing import Asker, Cloud

from freehold.lab import cloud_standin
from freehold.lab.machine.network import CLOUD_PORT
from freehold.lab.machine.paths import LabPaths
from freehold.run.context import Client

from .freehold_command import Freehold

CLOUD = f"https://10.86.0.1:{CLOUD_PORT}"


def prepare(freehold: Freehold, stack: Path) -> None:
    """What stands before ``up`` for a client with the lab's whole stack: stand-ins, rights, and the key of the cloud."""
    client = stack.parent.name
    freehold("lab", "versions", str(stack.parent))
    freehold("prepare", client)
    key = LabPaths.from_environment().state / cloud_standin.KEY_FILE
    freehold("secrets", "set", client, "litellm.cloud_standin", stdin=key)


def asker(freehold: Freehold, stack: Path) -> Asker:
    """The first of the client's people who may use a cloud language model."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in freehold.env().items():
            patch.setenv(name, value)
        return Asker(Client.open(stack))


def cloud() -> Cloud:
    """The cloud of the lab."""
    return Cloud(CLOUD, LabPaths.from_environment().state / cloud_standin.CERTIFICATE)
