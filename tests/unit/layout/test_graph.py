"""One service graph: who adds or removes a service changes everything that depends on it, and nothing else says so."""

from __future__ import annotations

import json
from functools import cache
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from freehold.catalog import services as catalog
from freehold.layout import network
from freehold.layout.compute import compute
from freehold.layout.types import Layout
from freehold.schema.stack import Stack

KNOWN = catalog.load()
REQUIRED = {"vllm": {"model": "acme/tiny", "revision": "0" * 40}}
"""Settings without a default."""


def dependents(name: str) -> set[str]:
    """The services that cannot be without this one."""
    direct = {other for other, meta in KNOWN.items() if name in meta.needs}
    return direct.union(*(dependents(other) for other in direct))


@cache
def layout(names: frozenset[str], closed: bool = True) -> Layout:
    stack = Stack.model_validate(
        {
            "client": "acme",
            "domain": "acme.internal",
            "proxmox": {"endpoint": "https://pve:8006"},
            "network": {"subnet": "10.20.0.0/24"},
            "services": {name: REQUIRED.get(name) for name in names},
            "egress": {"closed": closed},
            "users": [{"name": "Ada", "mail": "ada@acme.internal"}],
        }
    )
    return compute(stack, Path("/inventory/acme"))


def whole() -> Layout:
    return layout(frozenset(KNOWN))


def variables(made: Layout, service: str) -> str:
    return json.dumps(made.service(service).variables)


def reaches(made: Layout, source: str, target: str, port: int) -> bool:
    address = IPv4Network(made.host(source).address)
    return any(address in rule.sources for rule in made.host(target).rules if rule.port == port)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_nothing_is_left_of_a_service_that_is_removed(name: str) -> None:
    without = layout(frozenset(KNOWN) - {name} - dependents(name), closed=name != "egress")
    address = f'"{whole().host(name).address}'

    assert {service.name for service in without.services} == set(KNOWN) - {name} - dependents(name)
    text = without.model_dump_json()
    assert address not in text
    assert f"{address}/32" not in text
    assert f"lookup('freehold.stack.secret', '{name}." not in text
    assert all(name not in service.after for service in without.services)
    assert all(route.service != name for route in without.routes)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_what_needs_or_wants_a_service_is_let_in_and_waits(name: str) -> None:
    made, meta = whole(), KNOWN[name]
    users = [other for other, its in KNOWN.items() if name in {*its.needs, *its.wants}]
    for other in users:
        for port in meta.ports.values():
            if "dependents" in port.sources:
                assert reaches(made, other, name, port.port), other
        if "caddy" not in (name, other):
            assert name in made.service(other).after


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_everything_that_serves_a_service_knows_it(name: str) -> None:
    made, meta = whole(), KNOWN[name]
    address = str(made.host(name).address)
    for route in meta.routes:
        assert f"{route.host}.acme.internal" in variables(made, "caddy")
        assert reaches(made, "caddy", name, meta.ports[route.port].port)
        # A slash at the end is another path to the gateway, and the same one to most applications.
        paths = [metrics.path.rstrip("/") for metrics in meta.metrics if metrics.port == route.port]
        hidden = [hidden for path in paths for hidden in (path, f"{path}/*")]
        assert f'"hidden": {json.dumps(hidden)}' in variables(made, "caddy")
    for database in meta.databases:
        assert f'"name": "{database.name}"' in variables(made, database.server)
        assert any(
            reaches(made, name, database.server, port.port) for port in KNOWN[database.server].ports.values()
        )
    for bucket in meta.buckets:
        assert f'"name": "{bucket.name}"' in variables(made, bucket.server)
    for metrics in meta.metrics:
        assert f'"address": "{address}"' in variables(made, network.MONITOR)
        if name != network.MONITOR:
            assert reaches(made, network.MONITOR, name, meta.ports[metrics.port].port)
    for alert in meta.alerts:
        assert f'"name": "{alert.name}"' in variables(made, network.MONITOR)
    if meta.engine:
        assert address in variables(made, "litellm")
        assert reaches(made, "litellm", name, meta.ports["http"].port)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_removing_a_service_moves_no_other(name: str) -> None:
    made, without = whole(), layout(frozenset(KNOWN) - {name} - dependents(name))
    for host in without.hosts:
        same = made.host(host.name)
        assert (host.vmid, host.address, host.start_order) == (same.vmid, same.address, same.start_order)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_service_brings_what_it_needs(name: str) -> None:
    assert set(KNOWN[name].needs) < {service.name for service in layout(frozenset({name})).services} | {""}
