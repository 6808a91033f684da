"""What a container should be, in Proxmox VE's own terms.

The specification knows nothing of stacks or services: ``run`` makes it from a layout.
Keys and formats: ``POST /nodes/{node}/lxc`` and ``PUT /nodes/{node}/lxc/{vmid}/config`` of the API schema.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

OWNER_TAG = "freehold"
"""Tag of every container that Freehold made."""


def client_tag(client: str) -> str:
    """Tag of the containers of one client."""
    return f"client-{client}"


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Interface(_Value):
    """``net[n]``."""

    name: str
    bridge: str
    address: str
    """CIDR, such as ``10.20.0.11/24``."""
    gateway: str | None = None
    vlan: int | None = None
    firewall: bool = False


class VolumeSpec(_Value):
    """``mp[n]`` with a volume of its own."""

    path: str
    storage: str
    size: int
    """GiB."""
    backup: bool = True


class BindMount(_Value):
    """``mp[n]`` with a directory of the node: a root step."""

    path: str
    source: str
    read_only: bool = False
    """``ro=1``."""


class DeviceSpec(_Value):
    """``dev[n]``: a root step."""

    path: str
    gid: int | None = None
    uid: int | None = None
    mode: str | None = None
    deny_write: bool = False
    label: str | None = None
    """What the device is to people, where its path does not say it: which GPU."""


class FirewallRule(_Value):
    """What the firewall of a container lets in or out."""

    direction: Literal["in", "out"]
    protocol: str
    """``tcp``, ``udp`` or ``icmp``."""
    ports: str | None = None
    """Port, or first and last one (``1024:65535``); all where there is none."""
    peers: tuple[str, ...] = ()
    """Addresses and networks of the other side; everybody where there is none."""
    comment: str


class Firewall(_Value):
    """The firewall of a container, as Proxmox VE keeps it outside the container; what no rule lets through is dropped."""

    rules: tuple[FirewallRule, ...] = ()
    policy_out: Literal["ACCEPT", "DROP"] = "DROP"
    """What happens to connections of the container that no rule names."""


class ContainerSpec(_Value):
    """One container as it should be."""

    node: str
    vmid: int
    hostname: str
    template: str
    """Volume id of the template, such as ``local:vztmpl/debian-12-standard_12.12-1_amd64.tar.zst``; used at creation only."""
    storage: str
    disk: int
    """Root disk in GiB."""
    cores: int
    memory: int
    """MiB."""
    swap: int = 0
    """MiB."""
    interfaces: tuple[Interface, ...]
    volumes: tuple[VolumeSpec, ...] = ()
    mounts: tuple[BindMount, ...] = ()
    devices: tuple[DeviceSpec, ...] = ()
    features: dict[str, str] = {"nesting": "1"}
    nameservers: tuple[str, ...] = ()
    searchdomain: str | None = None
    onboot: bool = True
    startup_order: int | None = None
    tags: tuple[str, ...] = ()
    description: str = ""
    pool: str | None = None
    protection: bool = False
    firewall: Firewall | None = None
    """None where Freehold leaves the firewall of the container to others."""
    ssh_public_keys: str = ""
    """Used at creation only; the base deploy keeps them afterwards."""
    started: bool = True
