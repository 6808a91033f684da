"""A stack becomes a layout. Pure: the same stack and the same roles give the same layout, and nothing is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Literal

from freehold.catalog import models as models_of
from freehold.catalog import services as catalog_of
from freehold.catalog import versions
from freehold.catalog.services import ServiceMeta, UnknownServiceError
from freehold.errors import FreeholdError
from freehold.layout import (
    aliases,
    certificate,
    gpus,
    licence_gate,
    models,
    network,
    people,
    placement,
    settings,
    sso,
    trial,
)
from freehold.layout.gpus import NodeGpu
from freehold.layout.placement import EGRESS, GATEWAY, WEIGHTS, Seat
from freehold.layout.types import (
    AssignedGpu,
    Host,
    Layout,
    Mount,
    NodeAccess,
    RouteTarget,
    ServedModel,
    ServicePlacement,
    Volume,
)
from freehold.layout.wiring import Wiring, own_settings
from freehold.schema import neighbours
from freehold.schema.load import LoadedStack, load_stack
from freehold.schema.problems import Origins, Problem, StackError, nearest
from freehold.schema.stack import Node, Stack


class LayoutError(StackError):
    """The stack is well written, but it cannot be laid out. Nothing was touched."""


def load_layout(client: str | Path, only: str | None = None) -> Layout:
    """Reads a client's stack (by name or path) and lays it out.

    Raises:
        StackError: With all problems, each with file, line and key.
        UnknownServiceError: ``only`` names a service that the client does not have.
    """
    return of_stack(load_stack(client), only)


def of_stack(loaded: LoadedStack, only: str | None = None) -> Layout:
    """Lays out a stack that was read from files, beside its neighbours in the inventory; problems name their lines.

    Raises:
        StackError: With all problems.
        UnknownServiceError: ``only`` names a service that the client does not have.
    """
    neighbours.check(loaded)
    _raise(_gpus_of_others(loaded), loaded.origins)
    running = trial.load(loaded.directory)
    stack = trial.lay_over(loaded.stack, running)
    layout = compute(stack, loaded.directory, only, origins=loaded.origins)
    return _held(layout, compute(loaded.stack, loaded.directory, only)) if running else layout


def _held(layout: Layout, before: Layout) -> Layout:
    """While a trial runs, Ollama keeps the language model that comes back: it removes what nothing wants any more, and cannot
    pull a digest again to which no name leads by now."""

    def held(service: ServicePlacement) -> ServicePlacement:
        own = service.variables.get("ollama_models", [])
        there = {model.served for model in layout.models if model.engine == service.name}
        there |= {model["name"] for model in own}
        back = [
            {"name": model.served, "kind": model.kind, "digest": model.digest or ""}
            for model in before.models
            if model.engine == service.name and model.ollama and model.served not in there
        ]
        return service.model_copy(update={"variables": service.variables | {"ollama_models": [*own, *back]}})

    services = (held(each) if each.role == gpus.OLLAMA else each for each in layout.services)
    return layout.model_copy(update={"services": tuple(services)})


def _gpus_of_others(loaded: LoadedStack) -> list[Problem]:
    """GPUs that another client of the same server has: its people's questions lie in their memory."""
    if not (own := _given(loaded.stack)):
        return []
    others = (each for each in neighbours.of(loaded) if loaded.stack.exclusive or each.exclusive)
    return list(gpus.given_to_another(own, {each.client: _given(each) for each in others}))


def _given(stack: Stack) -> list[tuple[Seat, AssignedGpu]]:
    if not any(node.gpus for node in stack.nodes.values()):
        return []
    catalog, unread = catalog_of.load(), list[Problem]()  # what is wrong in a stack is said of it elsewhere
    seats = placement.seats(stack, placement.chosen(stack, catalog, unread), catalog, unread)
    given = gpus.assign(stack, seats, unread)
    return [(seat, gpu) for seat in seats for _, gpu in given.get(seat.name, ())]


def compute(
    stack: Stack,
    directory: Path,
    only: str | None = None,
    *,
    origins: Origins | None = None,
    roles: Path | None = None,
) -> Layout:
    """Lays out a stack.

    Args:
        stack: What the client wants.
        directory: The client's folder; paths in the stack are relative to it.
        only: Takes these services, which commas separate, and what they need, with the addresses, variables and rules of the whole stack.
        origins: Where the stack's values were written, so that problems name their lines.
        roles: The folder of roles; Freehold's own when left out.

    Raises:
        LayoutError: With all problems that the client can solve.
        UnknownServiceError: ``only`` names a service that the client does not have.
        FreeholdError: A role describes its service wrongly.
    """
    catalog = catalog_of.load(roles)
    problems: list[Problem] = []
    names = placement.chosen(stack, catalog, problems)
    seats = placement.seats(stack, names, catalog, problems)
    given = gpus.assign(stack, seats, problems)
    assigned = {name: [gpu for _, gpu in each] for name, each in given.items()}
    options = {
        seat.name: settings.short_options(seat.role, catalog_of.argument_specs(seat.role, roles))
        for seat in seats
    }
    problems += network.check(stack, seats)
    problems += network.audience(stack, seats)
    problems += certificate.check(stack, directory)
    problems += people.check(stack)
    problems += sso.check(stack, names)
    problems += _mounts(seats)
    problems += _systems(seats, roles)
    for name in sorted(names & stack.services.keys()):
        problems += settings.check(stack.services[name] or {}, options[name], ("services", name))
        if catalog_of.role_of(name, catalog) == "langfuse" and "retention_days" in (
            stack.services[name] or {}
        ):
            problems.append(
                Problem(
                    ("services", name, "retention_days"),
                    "is said once for all that is recorded, in months",
                    allowed="audit: {retention_months: 12}",
                )
            )
    _raise(problems, origins)

    own = {seat.name: own_settings(stack, seat, assigned) for seat in seats}
    language_models = models_of.load(directory) if stack.models else {}
    serving = models.serve(stack, language_models, seats, assigned, own, problems)
    lock = versions.load(directory)
    installed = {seat.name: [lock[name] for name in seat.meta.artifacts if name in lock] for seat in seats}
    problems += licence_gate.check(stack, language_models, installed)
    _raise(problems, origins)
    routes = _routes(stack, seats) if GATEWAY in names else []
    wiring = Wiring(
        stack, catalog, seats, assigned, serving, own, options, routes, lock, aliases.load(directory)
    )
    wiring.names["certificate"] = partial(certificate.chain, directory)
    placed = wiring.services(problems)
    _raise(problems, origins)
    hosts = [
        _host(stack, seat, seats, given.get(seat.name, []), serving, wiring.direct(seat), wiring.ports)
        for seat in seats
    ]
    kept = _kept(only, names, catalog)
    kept |= {seat.name for seat in seats if seat.role == WEIGHTS and kept & _readers(seat, seats, serving)}
    return Layout(
        client=stack.client,
        domain=stack.domain,
        directory=str(directory),
        proxmox=stack.proxmox.model_copy(update={"ca_file": _path(directory, stack.proxmox.ca_file)}),
        pool=stack.pool,
        nodes=_nodes(stack, directory),
        hosts=tuple(host for host in hosts if host.name in kept),
        services=tuple(
            service.model_copy(update={"after": tuple(name for name in service.after if name in kept)})
            for service in placed
            if service.name in kept
        ),
        routes=tuple(route for route in routes if route.service in kept),
        models=tuple(model for name in sorted(serving.keys() & kept) for model in serving[name]),
        admins=network.admins(stack),
        egress=next((seat.address for seat in seats if seat.role == EGRESS and stack.egress.closed), None),
        monitor=next((host.address for host in hosts if host.name == network.MONITOR), None),
        users=stack.users,
        groups=stack.groups,
        routing=wiring.policy,
        sources=stack.sources,
        system=stack.system,
    )


def _raise(problems: list[Problem], origins: Origins | None) -> None:
    if problems:
        raise LayoutError(
            [problem.located(origins or {}) for problem in problems], doing="laying out the stack"
        )


def _kept(only: str | None, names: set[str], catalog: Mapping[str, ServiceMeta]) -> set[str]:
    if only is None:
        return names
    wanted = services_of(only)
    for name in wanted:
        if name not in names:
            close = nearest(name, names)
            raise UnknownServiceError(
                f'the client has no service "{name}"' + (f'; did you mean "{close}"?' if close else ""),
                doing="choosing services",
                where="--only",
                remedy=f"Name one of: {', '.join(sorted(names)) or 'none, the stack file lists no services'}.",
            )
    return placement.closure(wanted, catalog) | (names & {placement.EGRESS})


def services_of(only: str) -> list[str]:
    """The services that ``--only`` names, which commas separate."""
    return [name.strip() for name in only.split(",") if name.strip()]


def _host(
    stack: Stack,
    seat: Seat,
    seats: Sequence[Seat],
    given: list[tuple[NodeGpu, AssignedGpu]],
    serving: Mapping[str, Sequence[ServedModel]],
    direct: Sequence[tuple[str, int]],
    ports: Sequence[int],
) -> Host:
    resources, override = seat.meta.resources, seat.override
    return Host(
        name=seat.name,
        hostname=f"{stack.client}-{seat.name}",
        node=seat.node,
        vmid=seat.vmid,
        os=seat.os,
        interface=IPv4Interface((seat.address, stack.network.subnet.prefixlen)),
        gateway=network.gateway(stack.network),
        bridge=stack.network.bridge,
        vlan=stack.network.vlan,
        firewall=stack.network.firewall,
        dns=stack.network.dns,
        cores=seat.cores,
        memory=seat.memory,
        swap=resources.swap if override.swap is None else override.swap,
        disk=override.disk or resources.disk,
        storage=override.storage or stack.proxmox.storage,
        services=(seat.name,),
        volumes=tuple(
            Volume(path=data.path, size=override.data or data.size, backup=data.backup != "none")
            for data in seat.meta.data
            if data.size
        ),
        gpus=tuple(gpu for _, gpu in given),
        devices=gpus.devices(given),
        mounts=(
            *_weights(stack, seat, seats, serving),
            *(Mount(path=path, source=str(source)) for path, source in sorted(override.mounts.items())),
        ),
        start_order=seat.start_order,
        rules=network.rules(stack, seat, seats),
        outgoing=network.outgoing(stack, seat, seats, direct, ports),
    )


def _weights(
    stack: Stack, seat: Seat, seats: Sequence[Seat], serving: Mapping[str, Sequence[ServedModel]]
) -> Iterator[Mount]:
    """The weights of the node: to be written by the service that keeps them, to be read by engines."""
    source = weights_directory(stack, seat.node)
    keeper = any(other.role == WEIGHTS and other.node == seat.node for other in seats)
    if models.MODELS in seat.override.mounts:
        return
    if seat.role == WEIGHTS:
        yield Mount(path=models.MODELS, source=source)
    elif keeper and any(model.path for model in serving.get(seat.name, ())):
        yield Mount(path=models.MODELS, source=source, read_only=True)


def _readers(keeper: Seat, seats: Sequence[Seat], serving: Mapping[str, Sequence[ServedModel]]) -> set[str]:
    """The engines that read weights which this service keeps."""
    reading = {name for name, served in serving.items() if any(model.path for model in served)}
    return {seat.name for seat in seats if seat.node == keeper.node and seat.name in reading}


def weights_directory(stack: Stack, node: str) -> str:
    """The client's directory for weights on a node."""
    return str(stack.nodes.get(node, Node()).weights / stack.client)


def _mounts(seats: Sequence[Seat]) -> list[Problem]:
    problems = []
    for seat in seats:
        volumes = {data.path for data in seat.meta.data if data.size}
        for path, source in seat.override.mounts.items():
            key = ("hosts", seat.name, "mounts", path)
            if not path.startswith("/") or not source.is_absolute():
                problems.append(
                    Problem(key, "both paths of a mount must be absolute", found=f"{path}: {source}")
                )
            if re.search(r"[\x00-\x1f,]", f"{path}{source}"):
                # The API's form of a mount is a list with commas.
                problems.append(Problem(key, "the paths of a mount hold a comma or more than one line"))
            if path in volumes:
                problems.append(Problem(key, "a volume of the service is mounted there"))
    return problems


def _systems(seats: Sequence[Seat], roles: Path | None) -> list[Problem]:
    return [
        Problem(
            seat.key("os"),
            f'the role of "{seat.name}" is not made for it',
            found=seat.os,
            allowed=", ".join(allowed),
        )
        for seat in seats
        if seat.override.os and seat.os not in (allowed := catalog_of.systems(seat.role, roles))
    ]


def _routes(stack: Stack, seats: Sequence[Seat]) -> list[RouteTarget]:
    found: dict[str, RouteTarget] = {}
    for seat in seats:
        for route in seat.meta.routes:
            fqdn = f"{route.host}.{stack.domain}"
            if route.port not in seat.meta.ports or fqdn in found:
                reason = (
                    f'the host name "{route.host}" is taken' if fqdn in found else f"no port {route.port}"
                )
                raise FreeholdError(
                    f'a route of the service "{seat.name}" cannot be made: {reason}',
                    where=f"roles/{seat.name}/meta/service.yml: routes",
                )
            found[fqdn] = RouteTarget(
                fqdn=fqdn,
                title=route.title,
                service=seat.name,
                address=seat.address,
                port=seat.meta.ports[route.port].port,
                description=route.description,
                admin=stack.network.audience.get(seat.name, "admins" if route.admin else "users") == "admins",
                admin_paths=route.admin_paths,
                open=route.open,
                hidden=_hidden(seat.meta, route.port),
                health=seat.meta.health.path
                if seat.meta.health and seat.meta.health.port == route.port
                else None,
            )
    return list(found.values())


def _hidden(meta: ServiceMeta, port: str) -> tuple[str, ...]:
    """Metrics at a port, as paths of the gateway: applications answer a path with a slash behind it, too."""
    paths = [metrics.path.rstrip("/") for metrics in meta.metrics if metrics.port == port]
    return tuple(hidden for path in paths for hidden in (path, f"{path}/*"))


def _nodes(stack: Stack, directory: Path) -> tuple[NodeAccess, ...]:
    nodes = {stack.proxmox.node: stack.nodes.get(stack.proxmox.node, Node()), **stack.nodes}
    return tuple(
        NodeAccess(
            name=name,
            address=node.address,
            ssh_user=node.ssh_user,
            ssh_port=node.ssh_port,
            ssh_key=_text(_path(directory, node.ssh_key)),
            host_key=node.host_key,
            known_hosts=_text(_path(directory, node.known_hosts)),
            gpus=tuple(gpus.full_pci(gpu.pci) for gpu in node.gpus if gpu.vendor == "nvidia" and gpu.pci),
            driver=node.driver or _driver(node),
            weights=weights_directory(stack, name),
        )
        for name, node in sorted(nodes.items())
    )


def _driver(node: Node) -> Literal["managed", "administrator"]:
    ours = node.address and any(gpu.vendor == "nvidia" for gpu in node.gpus)
    return "managed" if ours else "administrator"


def _path(directory: Path, path: Path | None) -> Path | None:
    return directory / path.expanduser() if path else None


def _text(path: Path | None) -> str | None:
    return str(path) if path else None
