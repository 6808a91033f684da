"""What the handlers of the lab's API work on (part of a stand-in of Proxmox VE, for development)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from freehold.lab.access import ROOT, Access
from freehold.lab.backend import Backend, BackendError, Guest
from freehold.lab.guests import Config, Guests, is_mount, is_unused, parse_mount
from freehold.lab.state import LabState
from freehold.lab.storage import Storages
from freehold.lab.tasks import Tasks


class Lab:
    """State, machine and services of one lab node."""

    def __init__(self, state: LabState, backend: Backend) -> None:
        self.state = state
        self.backend = backend
        self.access = Access(state)
        self.guests = Guests(state)
        self.storages = Storages(state, self.guests)
        self.tasks = Tasks(state.directory / "tasks", state.node.name)
        self.broadcast: dict[int, dict[str, Any]] = {}
        self.broadcast_at = 0.0
        self._clean_up()

    def guest(self, vmid: int, config: Config) -> Guest:
        """A container as the machine underneath gets it: the values in force."""
        volumes = {}
        for key, value in config.current.items():
            if is_mount(key) or is_unused(key):
                mount = parse_mount(key, value)
                if mount.kind == "volume" and self.storages.known(mount.volume):
                    volumes[key] = self.storages.path(mount.volume)
        return Guest(vmid, dict(config.current), volumes)

    def running(self, vmid: int) -> bool:
        """Whether a container runs."""
        return self.backend.status(vmid).running

    def _clean_up(self) -> None:
        """Remove what a create or clone had made when its process was killed; other locks are taken away."""
        for vmid in self.guests.ids():
            config = self.guests.load(vmid)
            lock = config.current.get("lock")
            if lock == "create" and "rootfs" not in config.current:
                volumes = {v: data for v, data in self.state.data["volumes"].items() if data["vmid"] == vmid}
                paths = {f"mp{n}": self.storages.path(v) for n, v in enumerate(volumes)}
                if paths:
                    paths["rootfs"] = paths.pop("mp0")
                with suppress(BackendError):
                    self.backend.destroy(Guest(vmid, {}, paths), lambda _line: None)
                for volume in volumes:
                    self.storages.free(volume)
                self.guests.remove(vmid)
            elif lock == "disk" and any(task.id == str(vmid) for task in self.tasks.lost):
                del config.current["lock"]
                self.guests.save(vmid, config)


@dataclass(frozen=True)
class Call:
    """One request after authentication and parameter check. ``params`` holds the values of the path too, as text."""

    lab: Lab
    user: str
    params: Mapping[str, Any]

    def get(self, name: str) -> str | None:
        """A parameter, or ``None``."""
        value = self.params.get(name)
        return None if value is None else str(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean parameter."""
        value = self.params.get(name)
        return default if value is None else str(value) == "1"

    def number(self, name: str, default: int = 0) -> int:
        """An integer parameter."""
        value = self.params.get(name)
        return default if value is None else int(value)

    @property
    def vmid(self) -> int:
        """The container that the path names."""
        return int(self.params["vmid"])

    @property
    def root_session(self) -> bool:
        """Whether root@pam itself calls, not one of its tokens."""
        return self.user == ROOT


@dataclass(frozen=True)
class Extra:
    """An answer with attributes beside ``data``, such as the ``total`` of a task list."""

    data: Any
    attributes: Mapping[str, Any]
