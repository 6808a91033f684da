"""What the lab remembers: one JSON file, written whole (part of a stand-in of Proxmox VE, for development)."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freehold.vault import write_private

VERSION = {"version": "9.2.11", "release": "9.2", "repoid": "14a22df35955d97d"}
"""The release whose answers are recorded under ``tests/contract/pve``."""


@dataclass(frozen=True)
class StorageSpec:
    """A directory storage.

    ``path`` is what the API tells, ``directory`` where the files are on the machine that runs the lab. ``content`` names
    content types (``rootdir``, ``vztmpl`` ...). ``total`` in bytes makes an accounted storage: volumes take their whole
    size from it; without it, figures are those of the file system that holds ``directory``.
    """

    path: str
    directory: Path
    content: Sequence[str]
    total: int | None = None


@dataclass(frozen=True)
class Appliance:
    """A template that the node offers for download (``aplinfo``); ``source`` is the archive that a download copies."""

    template: str
    package: str
    version: str
    os: str
    headline: str
    source: Path
    sha512: str


@dataclass(frozen=True)
class NodeSpec:
    """What the lab's node is: name, addresses, bridges and hardware as the API tells them.

    ``pci`` holds entries of ``GET /nodes/{node}/hardware/pci``. ``interfaces`` holds entries of ``GET .../network``.
    ``cores`` and ``memory`` (bytes) default to those of the machine.
    """

    name: str = "pve"
    address: str = "10.86.0.2"
    dns: Sequence[str] = ("10.86.0.1",)
    search: str | None = None
    timezone: str = "Etc/UTC"
    interfaces: Sequence[Mapping[str, Any]] = (
        {
            "iface": "vmbr0",
            "type": "bridge",
            "method": "static",
            "method6": "manual",
            "address": "10.86.0.1",
            "netmask": "24",
            "cidr": "10.86.0.1/24",
            "families": ["inet"],
            "priority": 3,
            "autostart": 1,
            "active": 1,
            "bridge_ports": "",
            "bridge_stp": "off",
            "bridge_fd": "0",
        },
    )
    pci: Sequence[Mapping[str, Any]] = ()
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    memory: int = field(default_factory=lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


class LabState:
    """The lab's memory on disk, and what it was started with.

    Args:
        directory: Where ``state.json`` and ``tasks/`` are; made when missing, readable by the owner alone.
        root_password: The password of root@pam for this run; never stored.
        storages: Storages by id; those made by the API are added to them and kept.
        node: The node that the lab shows.
        appliances: Templates offered by ``aplinfo``.
        config_lock_timeout: Seconds that a call waits for the lock of a guest's configuration (10 on a real node).
        login_delay: Seconds that a failed login takes (3 on a real node).
        broadcast_interval: Seconds between the broadcasts from which ``cluster/resources`` takes its figures.
    """

    def __init__(
        self,
        directory: Path,
        *,
        root_password: str,
        storages: Mapping[str, StorageSpec],
        node: NodeSpec | None = None,
        appliances: Sequence[Appliance] = (),
        config_lock_timeout: float = 10.0,
        login_delay: float = 3.0,
        broadcast_interval: float = 10.0,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory = directory
        self.root_password = root_password
        self.node = node or NodeSpec()
        self.appliances = tuple(appliances)
        self.config_lock_timeout = config_lock_timeout
        self.login_delay = login_delay
        self.broadcast_interval = broadcast_interval
        self.fixed_storages = dict(storages)
        self.lock = threading.RLock()
        self._depth = 0
        self._guest_locks: dict[int, threading.Lock] = {}
        self._file = directory / "state.json"
        self.data: dict[str, Any] = (
            _fresh() if not self._file.exists() else json.loads(self._file.read_text("utf-8"))
        )

    @contextmanager
    def change(self) -> Iterator[dict[str, Any]]:
        """Hold the state, and write it when the outermost change ends, failed or not."""
        with self.lock:
            self._depth += 1
            try:
                yield self.data
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._write()

    def _write(self) -> None:
        write_private(self._file, json.dumps(self.data, ensure_ascii=False).encode())

    def guest_lock(self, vmid: int) -> threading.Lock:
        """The lock of one guest's configuration."""
        with self.lock:
            return self._guest_locks.setdefault(vmid, threading.Lock())

    @property
    def secret(self) -> bytes:
        """The key that signs tickets."""
        return bytes.fromhex(self.data["secret"])


def _fresh() -> dict[str, Any]:
    return {
        "secret": secrets.token_hex(32),
        "users": {"root@pam": {"enable": 1, "expire": 0}},
        "groups": {},
        "roles": {},
        "tokens": {},
        "acl": [],
        "pools": {},
        "storages": {},
        "guests": {},
        "volumes": {},
        "firewall": {},
        "dns": {},
    }
