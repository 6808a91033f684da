"""What services know of each other: the names that expressions see, and the variables that come of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from freehold.catalog.services import ServiceMeta, argument_specs
from freehold.catalog.versions import Artifact, UnknownArtifactError, mirrored
from freehold.layout import aliases, egress, settings, sso, variables
from freehold.layout.aliases import Alias
from freehold.layout.choices import choices
from freehold.layout.network import admins
from freehold.layout.placement import EGRESS, Seat
from freehold.layout.routing import ROUTER, RoutingPolicy, names_for_role, policy
from freehold.layout.types import AssignedGpu, RouteTarget, ServedModel, ServicePlacement
from freehold.routing import markers
from freehold.schema.problems import Problem
from freehold.schema.stack import Stack


def own_settings(stack: Stack, seat: Seat, given: Mapping[str, Sequence[AssignedGpu]]) -> dict[str, Any]:
    """What the client sets for a service. With a layout of GPUs, an engine that gets none computes without, if it can."""
    settings = stack.services.get(seat.name) or {}
    without = seat.meta.engine and stack.gpu_layout and not given.get(seat.name)
    can = without and f"{seat.role}_device" in argument_specs(seat.role)
    return {"device": "cpu", **settings} if can else dict(settings)


GIVEN = "given"
"""Type of secrets that a service has only where its variables read them."""


class Wiring:
    """The names that expressions see, gathered once for all services."""

    def __init__(
        self,
        stack: Stack,
        catalog: Mapping[str, ServiceMeta],
        seats: Sequence[Seat],
        given: Mapping[str, list[AssignedGpu]],
        serving: Mapping[str, Sequence[ServedModel]],
        own: Mapping[str, dict[str, Any]],
        options: Mapping[str, settings.Options],
        routes: Sequence[RouteTarget],
        lock: Mapping[str, Artifact],
        names_lead: Mapping[str, Alias],
    ) -> None:
        self.stack = stack
        self.seats = seats
        self.given = given
        self.options = options
        self.serving = {
            seat.name: [model.model_dump(mode="json") for model in serving.get(seat.name, ())]
            for seat in seats
        }
        self.own = own
        self.services_by_name: dict[str, dict[str, Any]] = {
            seat.name: {
                "host": seat.name,
                "address": str(seat.address),
                "ports": {name: port.port for name, port in seat.meta.ports.items()},
                "settings": settings.defaults(options[seat.name]) | own[seat.name],
            }
            for seat in seats
        }
        self.names: dict[str, Any] = {
            "client": stack.client,
            "domain": stack.domain,
            "present": sorted(own),
            "admins": [str(network) for network in admins(stack)],
            "routes": [route.model_dump(mode="json") for route in routes],
            "buckets": [
                bucket
                for seat in seats
                for bucket in _buckets(
                    seat, self.services_by_name[seat.name]["settings"], retention_days(stack)
                )
            ],
            "scrapes": [scrape for seat in seats for scrape in _scrapes(seat)],
            "alerts": [alert for seat in seats for alert in _alerts(seat)],
            "hosts": [{"name": seat.name, "address": str(seat.address)} for seat in seats],
            "nodes": _nodes(stack),
            "engines": [self._engine(seat) for seat in seats if seat.meta.engine],
            "routed": [],
            "policy": {},
            "audit": stack.audit.model_dump(mode="json") | {"retention_days": retention_days(stack)},
            "provenance": self._provenance(),
            "routing": stack.routing.model_dump(mode="json"),
            "context_mark": markers.CONTEXT_MARK,
            "users": [
                user.model_dump(mode="json") | {"password": variables.lookup(f"users.{user.mail}")}
                for user in stack.users
            ],
            "groups": [group.model_dump(mode="json") for group in stack.groups],
            "sources": stack.sources.model_dump(mode="json"),
            "system": stack.system.model_dump(mode="json"),
            "secret": variables.secret_function(catalog, own),
            "egress": egress.proxy(seats),
            "leaving": [],
            "artifact": _artifact_function(lock, stack.sources.mirror),
        }
        self.names["choices"] = choices(stack.routing, self.names["engines"])
        self.lock = lock
        self.names_lead = names_lead
        self.policy: RoutingPolicy | None = None
        self.databases = [database for seat in seats for database in _databases(seat)]

    def services(self, problems: list[Problem]) -> list[ServicePlacement]:
        """Every service with its variables; required settings without a value are added to ``problems``."""
        served = [ServedModel(**model) for models in self.serving.values() for model in models]
        self.names["routed"] = aliases.lay_over(self.names["engines"], self.names_lead, problems, served)
        # Engines that a client names itself take the place of the stack's own, for the router and for its policy.
        engines = self.own.get(ROUTER, {}).get("engines") or self.names["routed"]
        self.policy = policy(self.stack, engines, problems, self.own)
        self.names["policy"] = names_for_role(self.policy, self.names["artifact"])
        found = {seat.name: self._place(seat, problems) for seat in self.seats if seat.role != EGRESS}
        if len(found) < len(self.seats):  # last: what each host may reach hangs on what its service is told
            self.names["leaving"] = egress.hosts(
                self.stack,
                self.seats,
                found,
                self.lock,
                {seat.name: self.outside(seat) for seat in self.seats},
                {name for name, gpus in self.given.items() if any(gpu.vendor == "nvidia" for gpu in gpus)},
            )
        return [found.get(seat.name) or self._place(seat, problems) for seat in self.seats]

    def _place(self, seat: Seat, problems: list[Problem]) -> ServicePlacement:
        values = variables.evaluate(seat.meta, self._names(seat)) | self.own[seat.name]
        if mirror := self.stack.sources.mirror:
            values = mirrored(values, mirror)
        problems += settings.missing(values, self.options[seat.name], ("services", seat.name))
        prefix = f"{seat.role.replace('-', '_')}_"
        return ServicePlacement(
            name=seat.name,
            role=seat.role,
            title=seat.meta.title,
            host=seat.name,
            address=seat.address,
            ports={name: port.port for name, port in seat.meta.ports.items()},
            variables={f"{prefix}{key}": value for key, value in values.items()},
            secrets=tuple(
                sorted(
                    {f"{seat.name}.{name}" for name, kind in seat.meta.secrets.items() if kind.type != GIVEN}
                    | variables.looked_up(values)
                )
            ),
            after=seat.after,
        )

    def _names(self, seat: Seat) -> dict[str, Any]:
        roles = {seat.role, *seat.meta.needs, *seat.meta.wants}
        visible = {other.name for other in self.seats if other.role in roles}
        return self.names | {
            "services": {name: value for name, value in self.services_by_name.items() if name in visible},
            "settings": self.services_by_name[seat.name]["settings"],
            "serving": self.serving[seat.name],
            "egress": self._way_out(seat),
            "sso": sso.of_service(self.stack.sso, seat.name),
            "weights": self._weights(seat.node),
            "secret": self._secret(seat),
            "databases": [
                {key: value for key, value in database.items() if key != "server"}
                for database in self.databases
                if database["server"] == seat.name
            ],
            "host": {
                "name": seat.name,
                "address": str(seat.address),
                "cores": seat.cores,
                "memory": seat.memory,
                "gpus": [gpu.model_dump(mode="json") for gpu in self.given.get(seat.name, [])],
            },
        }

    def _way_out(self, seat: Seat) -> dict[str, str]:
        told: dict[str, str] = self.names["egress"]
        return told | {"way": told["proxy"] if egress.asks(self.stack, seat) else ""}

    @property
    def ports(self) -> list[int]:
        """Ports at which the one way out reaches what is listed, once the services are placed."""
        return [way["port"] for host in self.names["leaving"] for way in host["ways"]]

    def outside(self, seat: Seat) -> list[str]:
        """Addresses that a service asks through the one way out while it runs."""
        return variables.listed(seat.meta, "outside", seat.meta.outside, self._names(seat))

    def direct(self, seat: Seat) -> list[tuple[str, int]]:
        """Names or addresses with ports that a service reaches past the one way out."""
        found = variables.listed(seat.meta, "direct", seat.meta.direct, self._names(seat))
        parts = (one.rpartition(":") for one in found)
        return [(name, int(port)) for name, _, port in parts if name and port.isdecimal()]

    def _provenance(self) -> dict[str, dict[str, dict[str, str]]]:
        """Digest and revision of each language model by engine and name at the engine, for the audit trail."""
        known: dict[str, dict[str, dict[str, str]]] = {}
        for models in self.serving.values():
            for model in map(ServedModel.model_validate, models):
                sums = "".join(f"{file.sha256}  {file.name}\n" for file in model.files if file.sha256)
                digest = model.digest or (
                    f"sha256:{hashlib.sha256(sums.encode()).hexdigest()}" if sums else None
                )
                told = {"digest": digest, "revision": model.revision}
                known.setdefault(model.engine, {})[model.served] = {k: v for k, v in told.items() if v}
        return known

    def _weights(self, node: str) -> list[dict[str, Any]]:
        """The weights that engines of a node read, each once."""
        here = [model for seat in self.seats if seat.node == node for model in self.serving[seat.name]]
        keys = ("id", "quantization", "repository", "revision", "path", "licence", "files")
        return list({m["path"]: {key: m[key] for key in keys} for m in here if m["path"]}.values())

    def _secret(self, seat: Seat) -> Callable[[str], str]:
        """The function ``secret``, for which the role's own secrets are those of the service at hand."""
        known: Callable[[str], str] = self.names["secret"]

        def secret(name: str) -> str:
            own = name.startswith(f"{seat.role}.")
            return known(f"{seat.name}.{name.removeprefix(f'{seat.role}.')}" if own else name)

        return secret

    def _engine(self, seat: Seat) -> dict[str, Any]:
        port = seat.meta.ports["http"].port
        has_key = variables.ENGINE_KEY in seat.meta.secrets
        return {
            "name": seat.name,
            "url": f"http://{seat.address}:{port}/v1",
            "key": variables.lookup(f"{seat.name}.{variables.ENGINE_KEY}") if has_key else "",
            "address": str(seat.address),
            "port": port,
            "models": variables.models(
                seat.meta, self.services_by_name[seat.name]["settings"], self.serving[seat.name]
            ),
        }


def retention_days(stack: Stack) -> int:
    """Days for which the record of requests is kept: the months of the stack, each a twelfth of a year."""
    return round(stack.audit.retention_months * 365 / 12)


def _buckets(seat: Seat, own: Mapping[str, Any], retention: int) -> list[dict[str, Any]]:
    return [
        {
            "name": bucket.name,
            "owner_service": seat.name,
            "access_key": variables.lookup(f"{seat.name}.{bucket.access_key}"),
            "secret_key": variables.lookup(f"{seat.name}.{bucket.secret_key}"),
            "expire_days": variables.days(seat.meta, bucket, own, retention),
        }
        for bucket in seat.meta.buckets
    ]


def _nodes(stack: Stack) -> list[dict[str, Any]]:
    """The nodes that are reached over SSH."""
    return [
        {
            "name": name,
            "address": node.address,
            "gpus": sum(gpu.vendor == "nvidia" for gpu in node.gpus),
        }
        for name, node in sorted(stack.nodes.items())
        if node.address
    ]


def _alerts(seat: Seat) -> list[dict[str, Any]]:
    """The alerts of a service; their expressions name its role."""
    of_role, of_service = f'service="{seat.role}"', f'service="{seat.name}"'
    return [
        {
            "service": seat.name,
            **alert.model_dump(mode="json", by_alias=True),
            "expr": alert.expr.replace(of_role, of_service),
        }
        for alert in seat.meta.alerts
    ]


def _scrapes(seat: Seat) -> list[dict[str, Any]]:
    return [
        {
            "service": seat.name,
            "title": seat.meta.title,
            "host": seat.name,
            "address": str(seat.address),
            "port": seat.meta.ports[metrics.port].port,
            "path": metrics.path,
            "scheme": metrics.scheme,
            "user": metrics.user,
            "password": _own_secret(seat, metrics.password),
            "bearer": _own_secret(seat, metrics.bearer),
        }
        for metrics in seat.meta.metrics
    ]


def _own_secret(seat: Seat, name: str | None) -> str | None:
    return variables.lookup(f"{seat.name}.{name}") if name else None


def _artifact_function(lock: Mapping[str, Artifact], mirror: str | None) -> Callable[[str], dict[str, Any]]:
    def artifact(name: str) -> dict[str, Any]:
        if name not in lock:
            raise UnknownArtifactError(f'there is no artifact "{name}" in versions.yml')
        return lock[name].for_role(mirror)

    return artifact


def _databases(seat: Seat) -> list[dict[str, Any]]:
    return [
        {
            "name": database.name,
            "server": database.server,
            "owner_service": seat.name,
            "password": variables.lookup(f"{seat.name}.{database.password}"),
            "extensions": list(database.extensions),
            "address": str(seat.address),
        }
        for database in seat.meta.databases
    ]
