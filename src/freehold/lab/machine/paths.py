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
    def secrets(self) -> Path:
        """Readable by root alone: password of root@pam, the key of the API's certificate, the node's SSH key."""
        return self.state / "secrets"

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
        for folder in (self.state, self.lxc, self.node, self.storage, self.api_socket.parent, self.www):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o711)
        self.www.chmod(0o755)
        self.secrets.mkdir(mode=0o700, exist_ok=True)
        self.secrets.chmod(0o700)
        for folder in (self.local, self.guests, self.small):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
        for content in ("template/cache", "template/iso", "dump"):
            (self.local / content).mkdir(parents=True, exist_ok=True)
