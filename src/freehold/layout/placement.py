"""Which services a client has, and where each of them lives: node, VMID, size, start order.

Everything that must stay where it is hangs on the service alone (its slot) or on the whole catalogue (its start
order), never on which other services are present: so adding a service moves no existing host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from ipaddress import IPv4Address

from freehold.catalog.services import ServiceMeta, role_of, slot_of
from freehold.errors import FreeholdError
from freehold.layout import routing
from freehold.schema.problems import KeyPath, Problem, nearest
from freehold.schema.stack import HostOverride, Stack

GATEWAY = "caddy"
"""The service that people come in through: it starts last, when everything it leads to is there."""

WEIGHTS = "weights"
"""The service that alone may write the weights of language models of its node."""

EGRESS = "egress"
"""The service through which alone the others reach what is outside. It starts first."""

NODE_RESERVE = 2048
"""MiB of memory that stay with the node itself."""

_START_STEP = 10
_EGRESS_START = 5
_GATEWAY_START = 900


@dataclass(frozen=True)
class Seat:
    """Where one service lives. A host bears the name of its service."""

    name: str
    """Name of the service and of its host: ``vllm``, or ``vllm-2``."""
    meta: ServiceMeta
    override: HostOverride
    node: str
    vmid: int
    address: IPv4Address
    start_order: int
    after: tuple[str, ...]
    node_cores: int | None
    """CPU cores of the node, where the client says how many."""

    @property
    def role(self) -> str:
        """The role that makes the service."""
        return self.meta.name

    @property
    def cores(self) -> int:
        """CPU cores; a default that is more than the node has becomes what the node has."""
        default = self.meta.resources.cores
        return self.override.cores or min(default, self.node_cores or default)

    @property
    def memory(self) -> int:
        """MiB."""
        return self.override.memory or self.meta.resources.memory

    @property
    def os(self) -> str:
        """``debian-12`` or ``debian-13``."""
        return self.override.os or self.meta.os

    def key(self, field: str) -> KeyPath:
        """Where the client would write, or has written, a value of this host."""
        return ("hosts", self.name, field)


def closure(wanted: Iterable[str], catalog: Mapping[str, ServiceMeta]) -> set[str]:
    """The wanted services and all that they need; names that no role provides are left in."""
    found: set[str] = set()
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            role = role_of(name, catalog)
            waiting.extend(catalog[role].needs if role else ())
    return found


def chosen(stack: Stack, catalog: Mapping[str, ServiceMeta], problems: list[Problem]) -> set[str]:
    """The names of all services that the client gets."""
    along = [*_of_models(stack, catalog), *routing.wanted(stack), *_way_out(stack, catalog)]
    names = closure([*stack.services, *along], catalog)
    unknown = {name for name in names if role_of(name, catalog) is None}
    for name in sorted(unknown):
        if name in stack.services:
            problems.append(
                Problem(
                    ("services", name),
                    "unknown service",
                    nearest=nearest(name, catalog),
                    allowed=", ".join(sorted(catalog))
                    + "".join(
                        f"; {meta.name}-2 to {meta.name}-{meta.instances}"
                        for meta in catalog.values()
                        if meta.instances > 1
                    ),
                )
            )
        else:
            needing = sorted(known for known in names & catalog.keys() if name in catalog[known].needs)
            problems.append(
                Problem(("services", needing[0]), f'needs the service "{name}", which no role provides')
            )
    return names - unknown


def _of_models(stack: Stack, catalog: Mapping[str, ServiceMeta]) -> Iterable[str]:
    """The container that keeps the weights of language models, where an engine reads them from there."""
    readers = {name for name, meta in catalog.items() if meta.engine and WEIGHTS in meta.wants}
    named = {engine for use in stack.models.values() if use for engine in use.engines}
    engines = {role_of(name, catalog) for name in (named or stack.services)}
    return [WEIGHTS] if stack.models and WEIGHTS in catalog and readers & engines else []


def _way_out(stack: Stack, catalog: Mapping[str, ServiceMeta]) -> Iterable[str]:
    """The one way out, where there is anything to close in."""
    return [EGRESS] if stack.egress.closed and stack.services and EGRESS in catalog else []


def before(meta: ServiceMeta, names: Iterable[str], catalog: Mapping[str, ServiceMeta]) -> set[str]:
    """Which of the named services start before this one."""
    roles = {name: role_of(name, catalog) for name in names}
    if meta.name == GATEWAY:
        return set(roles) - {GATEWAY}
    if meta.name == EGRESS:
        return set()
    earlier = {*meta.needs, *meta.wants, EGRESS} - {GATEWAY, meta.name}
    return {name for name, role in roles.items() if role in earlier}


def start_orders(catalog: Mapping[str, ServiceMeta]) -> dict[str, int]:
    """The start order of every known service in tens: services of one number may start together.

    Raises:
        FreeholdError: Services wait for each other in a circle.
    """
    graph = {
        name: before(meta, catalog, catalog) - {EGRESS}
        for name, meta in catalog.items()
        if name not in {GATEWAY, EGRESS}
    }
    try:
        ordered = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise FreeholdError(
            f"services wait for each other in a circle: {circle}",
            doing="ordering the services",
            remedy="Take one of them out of needs or wants in its role's meta/service.yml.",
        ) from error
    orders: dict[str, int] = {}
    for name in ordered:
        orders[name] = max((orders[earlier] for earlier in graph[name]), default=0) + _START_STEP
    return {EGRESS: _EGRESS_START, **orders, GATEWAY: _GATEWAY_START}


def seats(
    stack: Stack, names: set[str], catalog: Mapping[str, ServiceMeta], problems: list[Problem]
) -> list[Seat]:
    """A seat for each service, in start order; what collides or does not exist is added to ``problems``."""
    orders = start_orders(catalog)
    found = []
    roles = {name: role_of(name, catalog) or name for name in names}
    for name in sorted(names, key=lambda name: (orders[roles[name]], catalog[roles[name]].slot, name)):
        meta = routing.sized(stack, catalog[roles[name]])
        slot = slot_of(name, meta)
        override = stack.hosts.get(name, HostOverride())
        node = override.node or stack.proxmox.node
        found.append(
            Seat(
                name=name,
                meta=meta,
                override=override,
                node=node,
                node_cores=stack.nodes[node].cores if node in stack.nodes else None,
                vmid=override.vmid or stack.vmids.first + slot,
                address=override.address or stack.network.first_address + slot,
                start_order=orders[meta.name],
                after=tuple(sorted(before(meta, names, catalog))),
            )
        )
    problems += _unknown_hosts(stack, names)
    problems += _unknown_nodes(stack, found)
    problems += _shared_vmids(found)
    problems += _capacity(stack, found)
    return found


def _unknown_hosts(stack: Stack, names: set[str]) -> Iterable[Problem]:
    for name in stack.hosts:
        if name not in names:
            yield Problem(
                ("hosts", name),
                "there is no such host: a host bears the name of its service",
                nearest=nearest(name, names),
                allowed=", ".join(sorted(names)),
            )


def _unknown_nodes(stack: Stack, found: list[Seat]) -> Iterable[Problem]:
    known = {stack.proxmox.node, *stack.nodes}
    for seat in found:
        if seat.node not in known:
            yield Problem(
                seat.key("node"),
                "unknown node",
                found=seat.node,
                nearest=nearest(seat.node, known),
                allowed=", ".join(sorted(known)),
            )


def _shared_vmids(found: list[Seat]) -> Iterable[Problem]:
    taken: dict[int, Seat] = {}
    for seat in sorted(found, key=lambda seat: seat.override.vmid is not None):
        if other := taken.get(seat.vmid):
            yield Problem(seat.key("vmid"), f'is the VMID of the host "{other.name}" too', found=seat.vmid)
        taken.setdefault(seat.vmid, seat)


def _capacity(stack: Stack, found: list[Seat]) -> Iterable[Problem]:
    for name, node in stack.nodes.items():
        here = [seat for seat in found if seat.node == name]
        wanted = sum(seat.memory for seat in here)
        if node.memory is not None and wanted > node.memory - NODE_RESERVE:
            shares = ", ".join(
                f"{seat.name} {seat.memory}" for seat in sorted(here, key=lambda seat: -seat.memory)
            )
            yield Problem(
                ("nodes", name, "memory"),
                f"is too little: the containers ask for {wanted} MiB ({shares}), and {NODE_RESERVE} MiB stay with the node",
                found=node.memory,
                allowed=f"at least {wanted + NODE_RESERVE}, or less memory for hosts",
            )
        for seat in here:
            if node.cores is not None and seat.cores > node.cores:
                yield Problem(
                    seat.key("cores"),
                    f'are more than the node "{name}" has',
                    found=seat.cores,
                    allowed=f"at most {node.cores}",
                )
