"""The layout: which hosts a stack becomes, with everything that later stages need to know of them.

A plain value without secrets: it is printed by ``freehold show layout`` and handed to the engines as JSON.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from pydantic import BaseModel, ConfigDict

from freehold.schema.stack import Group, Proxmox, Sources, System, User


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Volume(_Value):
    """A volume of its own for data of a service."""

    path: str
    size: int
    """GiB."""
    backup: bool = True


class Device(_Value):
    """A device node of the node that is passed to a container (Proxmox ``devN``)."""

    path: str
    gid: int
    mode: str = "0660"


class Mount(_Value):
    """A directory of the node that is bound into a container."""

    path: str
    """Path in the container."""
    source: str
    """Path on the node."""


class FirewallRule(_Value):
    """Who may reach a port of a host; everything else is dropped."""

    port: int
    protocol: str
    sources: tuple[IPv4Network, ...]
    comment: str


class Host(_Value):
    """One container."""

    name: str
    """Name in the layout, such as ``postgres``."""
    hostname: str
    """Host name of the container: ``<client>-<name>``."""
    node: str
    vmid: int
    os: str
    """``debian-12`` or ``debian-13``."""
    interface: IPv4Interface
    gateway: IPv4Address
    bridge: str
    vlan: int | None
    firewall: bool
    """Whether the interface carries Proxmox's firewall flag."""
    dns: tuple[IPv4Address, ...]
    cores: int
    memory: int
    """MiB."""
    swap: int
    """MiB."""
    disk: int
    """GiB."""
    storage: str
    services: tuple[str, ...]
    volumes: tuple[Volume, ...] = ()
    devices: tuple[Device, ...] = ()
    mounts: tuple[Mount, ...] = ()
    start_order: int
    rules: tuple[FirewallRule, ...] = ()

    @property
    def address(self) -> IPv4Address:
        """The container's address."""
        return self.interface.ip


class RouteTarget(_Value):
    """A host name at the gateway and where it leads."""

    fqdn: str
    title: str
    service: str
    address: IPv4Address
    port: int
    description: str = ""
    """What people do there."""
    hidden: tuple[str, ...] = ()
    """Paths that are not for people: metrics, which Prometheus reads past the gateway."""
    health: str | None = None
    """Path at the port that answers 200 while the service works."""


class ServicePlacement(_Value):
    """A service on its host, with the variables that its role gets."""

    name: str
    title: str
    host: str
    address: IPv4Address
    ports: dict[str, int]
    variables: dict[str, Any]
    """Full role variables; a secret stands here as an Ansible lookup, never as its value."""
    secrets: tuple[str, ...] = ()
    """Names of the secrets that this service may read: ``<service>.<secret>``."""
    after: tuple[str, ...] = ()
    """Services that are configured before this one."""


class NodeAccess(_Value):
    """How a node is reached over SSH; ``address`` is empty where the client gives no SSH."""

    name: str
    address: str | None = None
    ssh_user: str = "root"
    ssh_port: int = 22
    ssh_key: str | None = None
    host_key: str | None = None
    known_hosts: str | None = None
    gpus: tuple[str, ...] = ()
    """PCI addresses of its NVIDIA GPUs."""


class Layout(_Value):
    """What a stack becomes."""

    client: str
    domain: str
    directory: str
    """The client's folder: it holds ``stack.yml`` and ``secrets.yml``."""
    proxmox: Proxmox
    pool: str
    nodes: tuple[NodeAccess, ...]
    hosts: tuple[Host, ...]
    """In start order."""
    services: tuple[ServicePlacement, ...]
    """In start order."""
    routes: tuple[RouteTarget, ...]
    admins: tuple[IPv4Network, ...]
    monitor: IPv4Address | None = None
    """Address of the monitoring service that asks every host for its figures; none where the stack has no such service."""
    users: tuple[User, ...]
    groups: tuple[Group, ...]
    sources: Sources
    system: System

    def host(self, name: str) -> Host:
        """The host of that name.

        Raises:
            KeyError: There is none.
        """
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)

    def service(self, name: str) -> ServicePlacement:
        """The service of that name.

        Raises:
            KeyError: There is none.
        """
        for service in self.services:
            if service.name == name:
                return service
        raise KeyError(name)
