"""Operations of ``@pve`` hosts: they yield the plan's calls. What differs, and by which calls, is the plan's business."""

# mypy: allow-untyped-decorators
from __future__ import annotations

from collections.abc import Iterator

from pyinfra import host
from pyinfra.api import StringCommand, operation

from freehold.proxmox.changes import Phase
from freehold.pyinfra import session
from freehold.pyinfra.connector import api


@operation()
def container(vmid: int) -> Iterator[StringCommand]:
    """Make or change a container as the plan says, without what only root may do.

    + vmid: id of the container
    """
    yield from _calls(Phase.CONFIGURE, vmid)


@operation()
def power(vmid: int) -> Iterator[StringCommand]:
    """Start, restart or stop a container as the plan says.

    + vmid: id of the container
    """
    yield from _calls(Phase.POWER, vmid)


def _calls(phase: Phase, vmid: int) -> Iterator[StringCommand]:
    changes = session.current().plan.select(phase, vmid)
    for change in changes:
        for call in change.calls:
            yield api(call)
    if not changes:
        host.noop(f"container {vmid} is as planned")
