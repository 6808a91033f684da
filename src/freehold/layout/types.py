"""The layout: which hosts a stack becomes, with everything that later stages need to know of them.

A plain value without secrets: it is printed by ``freehold show layout`` and handed to the engines as JSON.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from freehold.catalog.models import WeightFile
from freehold.layout.routing import RoutingPolicy
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
    gpu: str | None = None
    """The GPU whose own node it is (PCI address, else UUID); none for nodes that a driver shares. Which number the node
    bears is asked of the machine before it is passed."""


class AssignedGpu(_Value):
    """A GPU that a host is given, or a share of it."""

    key: str
    """PCI address with domain and function, or UUID where the stack names it by that alone."""
    pci: str | None
    uuid: str | None
    vendor: str
    card: str | None
    """Name in ``catalog/gpus.yml``."""
    memory: int | None
    """VRAM in MiB; unknown where the stack names neither card nor memory."""
    share: float = 1.0


class Mount(_Value):
    """A directory of the node that is bound into a container."""

    path: str
    """Path in the container."""
    source: str
    """Path on the node."""
    read_only: bool = False


class FirewallRule(_Value):
    """Who may reach a port of a host; everything else is dropped."""

    port: int
    protocol: str
    sources: tuple[IPv4Network, ...]
    comment: str
    last: int | None = None
    """Last port, where the rule is for all from ``port`` on."""


class OutgoingRule(_Value):
    """What a host may reach; everything else is refused."""

    destinations: tuple[IPv4Network, ...]
    port: int
    protocol: str
    comment: str
    last: int | None = None
    """Last port, where the rule is for all from ``port`` on."""
    users: tuple[str, ...] = ()
    """Users whose processes alone may; everybody's where there are none."""


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
    gpus: tuple[AssignedGpu, ...] = ()
    devices: tuple[Device, ...] = ()
    mounts: tuple[Mount, ...] = ()
    start_order: int
    rules: tuple[FirewallRule, ...] = ()
    outgoing: tuple[OutgoingRule, ...] | None = None
    """What the host may reach; none where the stack lets everything out (``egress.closed: false``)."""

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
    admin: bool = False
    """Whether it is for administrators alone."""
    admin_paths: tuple[str, ...] = ()
    """Paths that are for administrators alone in any case."""
    open: tuple[str, ...] = ()
    """Paths that people reach also where the rest is for administrators alone."""
    hidden: tuple[str, ...] = ()
    """Paths that are not for people: metrics, which Prometheus reads past the gateway."""
    health: str | None = None
    """Path at the port that answers 200 while the service works."""


class ServicePlacement(_Value):
    """A service on its host, with the variables that its role gets."""

    name: str
    """``vllm``, or ``vllm-2`` for a second one of a role."""
    role: str
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


class ServedModel(_Value):
    """A language model that an engine serves, as the stack and the catalogue have it together."""

    id: str
    title: str
    name: str
    """Name for people and applications."""
    served: str
    """Name at the engine."""
    engine: str
    """The service that serves it."""
    kind: str
    licence: str | None
    quantization: str
    repository: str | None
    revision: str | None
    files: tuple[WeightFile, ...] = ()
    path: str | None
    """Directory of the weights in the engine's container; none where the engine keeps them itself."""
    ollama: str | None
    """Name in Ollama's registry."""
    digest: str | None
    context: int
    """Tokens."""
    users: int
    """Conversations at once."""
    kv_cache: str
    tool_parser: str
    reasoning_parser: str
    tensor_parallel: int = 1
    gpu_memory_utilization: float | None = None
    max_num_seqs: int | None = None
    sizing: dict[str, Any] | None = None
    """What was computed of the VRAM (:class:`freehold.layout.sizing.Sizing`); none where no GPU computes."""


WEIGHTS_OWNER = 100000 + 2108
"""The node's number of the user and group ``weights`` in the container that keeps weights: a container's root is 100000 there
(``lxc.idmap`` of unprivileged containers, ``PVE::LXC``)."""


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
    driver: Literal["managed", "administrator"] = "administrator"
    """Who installs the NVIDIA driver."""
    weights: str = ""
    """Directory for the weights of this client's language models."""


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
    models: tuple[ServedModel, ...] = ()
    admins: tuple[IPv4Network, ...]
    egress: IPv4Address | None = None
    """Address of the one way out; none where the stack lets everything out."""
    monitor: IPv4Address | None = None
    """Address of the monitoring service that asks every host for its figures; none where the stack has no such service."""
    users: tuple[User, ...]
    groups: tuple[Group, ...]
    routing: RoutingPolicy | None = None
    """Which requests may leave; none where nothing may, and nobody has a limit."""
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

    def of_role(self, role: str, host: str) -> ServicePlacement:
        """The service on a host that a role makes.

        Raises:
            KeyError: There is none.
        """
        for service in self.services:
            if (service.role, service.host) == (role, host):
                return service
        raise KeyError(f"{role} on {host}")
