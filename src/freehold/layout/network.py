"""Addresses of hosts and who may reach which of their ports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from freehold.catalog.services import slot_of
from freehold.layout.placement import EGRESS, Seat
from freehold.layout.types import FirewallRule, OutgoingRule
from freehold.schema.problems import KeyPath, Problem, nearest
from freehold.schema.stack import Network, Stack

PRIVATE = (IPv4Network("10.0.0.0/8"), IPv4Network("172.16.0.0/12"), IPv4Network("192.168.0.0/16"))
"""Private networks (RFC 1918): whence people come where the client names no networks of users."""

EVERYWHERE = IPv4Network("0.0.0.0/0")

MONITOR = "prometheus"
"""The service that reads the metrics of all others."""

EXPORTER_PORT = 9100
"""Port of the node exporter that every host has where there is a monitor, and nodes with SSH."""


def gateway(network: Network) -> IPv4Address:
    """The default gateway: the first address of the subnet where the client names none."""
    return network.gateway or network.subnet.network_address + 1


def check(stack: Stack, seats: Iterable[Seat]) -> Iterable[Problem]:
    """What is wrong with the client's addresses."""
    subnet = stack.network.subnet
    if subnet.prefixlen > 29:
        yield Problem(
            ("network", "subnet"), "is too small for containers", found=str(subnet), allowed="/29 or larger"
        )
        return
    way_out = gateway(stack.network)
    edges = {
        subnet.network_address: "the network's own address",
        subnet.broadcast_address: "its broadcast address",
    }
    if way_out not in subnet:
        yield Problem(
            ("network", "gateway"),
            f"is outside the subnet {subnet}",
            found=str(way_out),
            allowed=_span(subnet),
        )
    elif way_out in edges:
        yield Problem(
            ("network", "gateway"), f"is {edges[way_out]}", found=str(way_out), allowed=_span(subnet)
        )
    first = stack.network.first
    if first is not None and first not in subnet:
        yield Problem(
            ("network", "first"), f"is outside the subnet {subnet}", found=str(first), allowed=_span(subnet)
        )
        seats = [seat for seat in seats if seat.override.address]
    taken = {**edges, way_out: "the gateway's address"}
    for name, node in stack.nodes.items():
        try:
            taken.setdefault(IPv4Address(node.address or ""), f'the address of the node "{name}"')
        except AddressValueError:
            continue
    # Fixed addresses come last, so that a collision is reported where the client wrote it.
    for seat in sorted(seats, key=lambda seat: seat.override.address is not None):
        if seat.address not in subnet:
            yield _outside(stack, seat)
        elif seat.address in taken:
            yield Problem(
                _key(stack, seat),
                f'the address of the host "{seat.name}" is {taken[seat.address]}',
                found=str(seat.address),
                allowed=f"a free address of {_span(subnet)}",
            )
        taken.setdefault(seat.address, f'the address of the host "{seat.name}"')


def audience(stack: Stack, seats: Iterable[Seat]) -> Iterable[Problem]:
    """What is wrong with whom services at the gateway are for."""
    routed = {seat.name for seat in seats if seat.meta.routes}
    for name in stack.network.audience:
        if name not in routed:
            yield Problem(
                ("network", "audience", name),
                "no service of this name has an address at the gateway",
                nearest=nearest(name, routed),
                allowed=", ".join(sorted(routed)),
            )


def _key(stack: Stack, seat: Seat) -> KeyPath:
    if seat.override.address:
        return seat.key("address")
    return ("network", "first") if stack.network.first else ("network", "subnet")


def _outside(stack: Stack, seat: Seat) -> Problem:
    subnet = stack.network.subnet
    return Problem(
        _key(stack, seat),
        f'the address of the host "{seat.name}" is outside the subnet {subnet}',
        found=str(seat.address),
        allowed=_span(subnet)
        if seat.override.address
        else f"give network.first: an address of {_span(subnet)} with {slot_of(seat.name, seat.meta)} more after it",
    )


def _span(subnet: IPv4Network) -> str:
    return f"{subnet.network_address + 1} to {subnet.broadcast_address - 1}"


def admins(stack: Stack) -> tuple[IPv4Network, ...]:
    """Networks from which SSH is allowed."""
    return stack.network.admins or (stack.network.subnet,)


def rules(stack: Stack, seat: Seat, seats: Sequence[Seat]) -> tuple[FirewallRule, ...]:
    """Who may reach which port of a host: SSH from the administrators, the rest as ``meta/service.yml`` says."""
    addresses: dict[str, tuple[IPv4Network, ...]] = {}
    for other in seats:
        addresses[other.role] = (*addresses.get(other.role, ()), IPv4Network(other.address))
    dependents = [
        IPv4Network(other.address) for other in seats if seat.role in {*other.meta.needs, *other.meta.wants}
    ]
    groups = {
        "dependents": tuple(dependents),
        "hosts": tuple(IPv4Network(other.address) for other in seats if other.name != seat.name),
        "users": stack.network.users or PRIVATE,
        "admins": admins(stack),
        **addresses,
    }
    scraped = {metrics.port for metrics in seat.meta.metrics}
    found = [FirewallRule(port=22, protocol="tcp", sources=admins(stack), comment="SSH for administrators")]
    for name, port in sorted(seat.meta.ports.items()):
        wanted = dict.fromkeys((*port.sources, *([MONITOR] if name in scraped else [])))
        present = [source for source in wanted if source in groups and source != seat.role]
        sources = sorted({network for source in present for network in groups[source]})
        if sources:
            comment = f"{seat.name} {name} for {', '.join(present)}"
            found.append(
                FirewallRule(port=port.port, protocol=port.protocol, sources=tuple(sources), comment=comment)
            )
    found += _of_cluster(stack, seat, seats)
    if MONITOR in addresses and seat.name != MONITOR:
        found.append(
            FirewallRule(
                port=EXPORTER_PORT,
                protocol="tcp",
                sources=addresses[MONITOR],
                comment=f"node exporter for {MONITOR}",
            )
        )
    return tuple(found)


def outgoing(
    stack: Stack,
    seat: Seat,
    seats: Sequence[Seat],
    direct: Sequence[tuple[str, int]] = (),
    ports: Iterable[int] = (),
) -> tuple[OutgoingRule, ...] | None:
    """What a host may reach: ports of others that let it in by name, and the one way out; none where everything is let out.

    That people's networks may reach a port opens no way from one host to another, though its address is among theirs.

    Args:
        stack: What the client wants.
        seat: The host.
        seats: All hosts.
        direct: Names or addresses with ports that the service reaches past the one way out.
        ports: Ports at which the proxy reaches the names on its lists.
    """
    if not any(other.role == EGRESS for other in seats) or not stack.egress.closed:
        return None
    found = [
        OutgoingRule(
            destinations=(IPv4Network(other.address),),
            port=port.port,
            protocol=port.protocol,
            comment=f"{other.name} {name}",
        )
        for other in seats
        for name, port in sorted(other.meta.ports.items())
        if other.role != seat.role and _lets_in(seat, other, name)
    ]
    found += [
        OutgoingRule(
            destinations=rule.sources,
            port=rule.port,
            last=rule.last,
            protocol=rule.protocol,
            comment=rule.comment,
        )
        for rule in _of_cluster(stack, seat, seats)
    ]
    if seat.name == MONITOR:
        found += _exporters(stack, seat, seats)
    for name, port_number in direct:
        found += _direct(stack, seat, name, port_number)
    if seat.role == EGRESS:
        found += _from_egress(stack, seat, ports)
    return tuple(found)


def _lets_in(seat: Seat, other: Seat, name: str) -> bool:
    """Whether a port of another host is open to the service of this one, by its name and not by its address."""
    sources = {*other.meta.ports[name].sources}
    if name in {metrics.port for metrics in other.meta.metrics}:
        sources.add(MONITOR)
    dependent = other.role in {*seat.meta.needs, *seat.meta.wants}
    return seat.role in sources or "hosts" in sources or ("dependents" in sources and dependent)


def _exporters(stack: Stack, seat: Seat, seats: Sequence[Seat]) -> Iterable[OutgoingRule]:
    hosts = tuple(IPv4Network(other.address) for other in seats if other.name != seat.name)
    nodes = tuple(dict.fromkeys(_network(node.address) for node in stack.nodes.values() if node.address))
    for destinations, of in ((hosts, "hosts"), (nodes, "nodes")):
        if destinations:
            yield OutgoingRule(
                destinations=destinations,
                port=EXPORTER_PORT,
                protocol="tcp",
                comment=f"node exporters of {of}",
                users=seat.meta.users if EVERYWHERE in destinations else (),
            )


def _network(address: str) -> IPv4Network:
    """An address; of a name, which only the network knows, any."""
    try:
        return IPv4Network(address)
    except ValueError:
        return EVERYWHERE


def _direct(stack: Stack, seat: Seat, name: str, port: int) -> Iterable[OutgoingRule]:
    destination = _network(name)
    yield OutgoingRule(
        destinations=(destination,),
        port=port,
        protocol="tcp",
        comment=f"{name} for {seat.name}",
        users=seat.meta.users,
    )
    if destination == EVERYWHERE:
        yield from _resolvers(stack, seat)


def _resolvers(stack: Stack, seat: Seat) -> Iterable[OutgoingRule]:
    """Where names are asked: the resolvers of the stack, else those of the node, whose addresses are not known here.

    Whoever asks a resolver can tell anybody outside something, in the name itself: so the service's own users alone may.
    """
    servers = tuple(IPv4Network(address) for address in stack.network.dns) or (EVERYWHERE,)
    for protocol in ("udp", "tcp"):
        yield OutgoingRule(
            destinations=servers, port=53, protocol=protocol, comment="names", users=seat.meta.users
        )


def _from_egress(stack: Stack, seat: Seat, ports: Iterable[int]) -> Iterable[OutgoingRule]:
    """What the proxy's own user may reach: the ports of what is listed, at any address; which of them, its lists of names say."""
    yield from _resolvers(stack, seat)
    for port in sorted({80, 443, *ports}):
        yield OutgoingRule(
            destinations=(EVERYWHERE,),
            port=port,
            protocol="tcp",
            comment="what is on the lists of names",
            users=seat.meta.users,
        )


def _of_cluster(stack: Stack, seat: Seat, seats: Sequence[Seat]) -> Iterable[FirewallRule]:
    setting = seat.meta.cluster
    members = [
        other
        for other in seats
        if other.role == seat.role
        and setting
        and (stack.services.get(other.name) or {}).get(setting, "none") != "none"
    ]
    peers = tuple(IPv4Network(other.address) for other in members if other != seat)
    if seat in members and peers:
        yield FirewallRule(
            port=1024, last=65535, protocol="tcp", sources=peers, comment=f"{seat.name} for its cluster"
        )
