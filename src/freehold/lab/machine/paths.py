"""Where the lab (a stand-in of a Proxmox VE node, for development) keeps what it makes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_STATE = Path("/var/lib/freehold-lab")
DEFAULT_CACHE = Path("/var/cache/freehold-lab")


@dataclass(frozen=True)
class LabPaths:
    """All paths of one lab: ``state`` goes with ``lab reset``, ``cache`` only with ``lab reset --purge``."""

    state: Path = DEFAULT_STATE
    cache: Path = DEFAULT_CACHE

    @classmethod
    def from_environment(cls, state: Path | None = None) -> LabPaths:
        """The paths of ``--dir``, else ``FREEHOLD_LAB_DIR``, else the defaults (cache: ``FREEHOLD_LAB_CACHE``)."""
        chosen = state or Path(os.environ.get("FREEHOLD_LAB_DIR") or DEFAULT_STATE)
        cache = Path(os.environ.get("FREEHOLD_LAB_CACHE") or DEFAULT_CACHE)
        return cls(state=chosen.resolve(), cache=cache.resolve())

    @property
    def templates(self) -> Path:
        """Archives of the templates that the lab offers for download."""
        return self.cache / "templates"

    @property
    def standins(self) -> Path:
        """What the lab built in place of upstream's archives."""
        return self.cache / "standins"

    @property
    def versions(self) -> Path:
        """The lock of the stand-ins, which clients of the lab lay over Freehold's."""
        return self.www / "versions.yml"

    @property
    def bases(self) -> Path:
        """Extracted templates, shifted to an id range, that overlays lie upon."""
        return self.cache / "bases"

    @property
    def lxc(self) -> Path:
        """LXC's own folder: one folder per container with its configuration and log."""
        return self.state / "lxc"

    @property
    def node(self) -> Path:
        """The node's container: its root file system and keys."""
        return self.state / "node"

    @property
    def api_state(self) -> Path:
        """What the API remembers, its certificate with key, and task logs; readable by root alone."""
        return self.state / "pve"

    @property
    def certificate(self) -> Path:
        """The API's certificate without its key, for clients to trust."""
        return self.state / "api.pem"

    @property
    def root_password(self) -> Path:
        """The password of root@pam, made at the first start; readable by root alone."""
        return self.state / "root-password"

    @property
    def node_key(self) -> Path:
        """The private SSH key that root of the node accepts; readable by root alone."""
        return self.state / "node_key"

    @property
    def known_hosts(self) -> Path:
        """The node's SSH host key, in the form that ``UserKnownHostsFile`` takes."""
        return self.state / "known_hosts"

    @property
    def settings(self) -> Path:
        """What the lab was started with."""
        return self.state / "lab.json"

    @property
    def lock(self) -> Path:
        """Held by the running lab, whose process id it contains."""
        return self.state / "lab.lock"

    @property
    def start_lock(self) -> Path:
        """Held while a lab starts; labs of one machine share what they build."""
        return self.cache / "start.lock"

    @property
    def log(self) -> Path:
        """Output of the running lab."""
        return self.state / "lab.log"

    @property
    def api_socket(self) -> Path:
        """The Unix socket of the API, on which callers are ``root@pam``; its folder is mounted into the node."""
        return self.state / "api" / "api.sock"

    @property
    def www(self) -> Path:
        """What the file server on the bridge serves."""
        return self.state / "www"

    @property
    def storage(self) -> Path:
        """One folder per storage of the node."""
        return self.state / "storage"

    @property
    def local(self) -> Path:
        """Storage ``local``: the node's ``/var/lib/vz``."""
        return self.storage / "local"

    @property
    def guests(self) -> Path:
        """Storage ``guests``: the volumes of the containers."""
        return self.storage / "guests"

    @property
    def small(self) -> Path:
        """Storage ``small``: a file system of a few hundred MiB in a file, for disk-full tests."""
        return self.storage / "small"

    @property
    def small_image(self) -> Path:
        """The file that holds storage ``small``."""
        return self.state / "small.img"

    def make(self) -> None:
        """Create the folders; the state folder is passable for the mapped ids of containers, no more."""
        for folder in (self.cache, self.templates, self.bases):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
        for folder in (self.state, self.lxc, self.node, self.storage, self.api_socket.parent, self.www):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o711)
        self.www.chmod(0o755)
        self.api_state.mkdir(mode=0o700, exist_ok=True)
        for folder in (self.local, self.guests, self.small):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
        for content in ("template/cache", "template/iso", "dump"):
            (self.local / content).mkdir(parents=True, exist_ok=True)
