"""The seam between the lab's API and the machine underneath (a stand-in of a Proxmox VE node, for development).

The API half owns configuration, permissions, locks and tasks; a backend makes and runs what they describe. All
calls are blocking and are made from worker threads, never two at once for one guest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Log = Callable[[str], None]
"""Appends one line to the log of the task in which the call is made."""


class BackendError(Exception):
    """A call failed; the text is the one that the task ends with, as Proxmox VE words it."""


@dataclass(frozen=True)
class Guest:
    """One container as the API knows it.

    ``config`` holds the values in force as the API returns them (``rootfs``, ``net0``, ``mp0``, ``dev0``, ``memory``
    ...); ``volumes`` maps each configuration key that names a storage volume (``rootfs``, ``mpN``, ``unusedN``) to its
    directory on the host. The API only names and accounts volumes: the backend makes the directory when it first needs
    it and it is not there, and the API removes what is left of it after ``destroy``.
    """

    vmid: int
    config: Mapping[str, str]
    volumes: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class GuestStatus:
    """What runs: sizes in bytes, ``cpu`` as a fraction of all assigned cores, ``uptime`` in seconds."""

    running: bool
    pid: int | None = None
    uptime: int = 0
    cpu: float = 0.0
    mem: int = 0
    swap: int = 0
    disk: int = 0
    netin: int = 0
    netout: int = 0
    diskread: int = 0
    diskwrite: int = 0


@dataclass(frozen=True)
class Interface:
    """One network interface of a running guest, for ``GET .../interfaces``."""

    name: str
    hwaddr: str
    inet: Sequence[str] = ()
    inet6: Sequence[str] = ()


class Backend(Protocol):
    """What the lab's API asks of the machine underneath."""

    def create(
        self, guest: Guest, template: Path, *, ssh_public_keys: str | None, password: str | None, log: Log
    ) -> None:
        """Make the root file system and the volumes of ``guest`` from a template archive.

        Logs what the real task logs, host key fingerprints included. Removes what it made when it fails.
        """

    def start(self, guest: Guest, log: Log) -> None:
        """Start the guest; fails when a passed device or bind-mount source is missing, as the real node does."""

    def stop(self, vmid: int, log: Log) -> None:
        """Stop at once (``status/stop``)."""

    def shutdown(self, vmid: int, timeout: int, log: Log) -> bool:
        """Ask the guest to shut down; whether it did within ``timeout`` seconds."""

    def apply(self, guest: Guest, keys: frozenset[str], log: Log) -> None:
        """Bring hot changes of the ``keys`` named into the running guest (memory, cores, net, new mp and dev)."""

    def destroy(self, guest: Guest, log: Log) -> None:
        """Remove the root file system and the volumes of a stopped guest."""

    def clone(self, source: Guest, target: Guest, log: Log) -> None:
        """Copy the volumes of ``source`` for ``target`` (new host name, machine id)."""

    def resize(self, guest: Guest, key: str, size: int, log: Log) -> None:
        """Grow the volume under ``key`` to ``size`` bytes (accounting; a loop-backed storage really grows)."""

    def status(self, vmid: int) -> GuestStatus:
        """The state of one guest; a guest that the machine does not know is stopped."""

    def interfaces(self, vmid: int) -> Sequence[Interface]:
        """Interfaces of a running guest."""

    def device_exists(self, path: str) -> bool:
        """Whether ``path`` is a device node on the (lab's) node."""
