"""What answers on the network: all ports of all hosts from three places, and every service without credentials."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from freehold.layout.types import Layout

from . import asking, port_audit
from .freehold_command import Freehold
from .vantage import Vantage, standing

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CLIENT = "ports"
STRANGER, USER, ADMIN = "10.86.0.244", "10.86.0.249", "10.86.0.254"
SUBNET = "10.86.0.0/24"
REPORT = Path(os.environ.get("FREEHOLD_PORT_AUDIT", "/tmp/freehold-port-audit"))
"""Where the report is left: ``audit.json`` and ``audit.md``."""


@pytest.fixture(scope="module")
def layout(freehold: Freehold) -> Iterator[Layout]:
    """The whole stack, whose users and administrators are one machine each; who runs Freehold comes from the bridge's own address."""
    path = freehold.write(CLIENT, "10.86.0.104", 5400)
    stack = yaml.safe_load(path.read_text(encoding="utf-8"))
    stack["network"] |= {"admins": ["10.86.0.1/32", f"{ADMIN}/32"], "users": [f"{USER}/32"]}
    path.write_text(yaml.safe_dump(stack, sort_keys=False), encoding="utf-8")
    asking.prepare(freehold, path)
    freehold.up(CLIENT, "--no-proof")
    try:
        yield Layout.model_validate(freehold.json("show", "layout", CLIENT))
    finally:
        freehold("down", CLIENT, "--confirm", CLIENT, code=None)


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, Vantage]]:
    with (
        standing("stranger", STRANGER, SUBNET) as stranger,
        standing("user", USER, SUBNET) as user,
        standing("admin", ADMIN, SUBNET) as admin,
    ):
        yield {place.name: place for place in (stranger, user, admin)}


def test_nothing_answers_but_the_gateway_and_ssh_for_administrators(
    layout: Layout, places: dict[str, Vantage]
) -> None:
    seen = {name: port_audit.scan(place, layout.hosts) for name, place in places.items()}
    REPORT.mkdir(parents=True, exist_ok=True)
    ports = {name: {host: sorted(ports) for host, ports in hosts.items()} for name, hosts in seen.items()}
    (REPORT / "ports.json").write_text(json.dumps(ports, indent=2) + "\n", encoding="utf-8")
    others = {host.name for host in layout.hosts} - {"caddy"}
    assert seen["stranger"] == dict.fromkeys({*others, "caddy"}, frozenset())
    assert seen["user"] == {"caddy": {80, 443}} | dict.fromkeys(others, frozenset())
    assert seen["admin"] == {"caddy": {22, 80, 443}} | dict.fromkeys(others, frozenset({22}))
    for name, place in places.items():
        for host in layout.hosts:
            assert seen[name][host.name] <= port_audit.allowed(host, place.address)


def test_every_service_refuses_whoever_has_no_credentials(
    freehold: Freehold, layout: Layout, places: dict[str, Vantage]
) -> None:
    tried = port_audit.knock(freehold, layout, places["user"])
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "audit.json").write_text(
        json.dumps([asdict(each) for each in tried], indent=2) + "\n", encoding="utf-8"
    )
    head = "| door | from | tried | answer | verdict |\n|---|---|---|---|---|\n"
    (REPORT / "audit.md").write_text(head + "\n".join(each.row() for each in tried) + "\n", encoding="utf-8")
    assert {each.service for each in tried} >= {service.name for service in layout.services if service.ports}
    assert [each.row() for each in tried if each.verdict == "WRONG"] == []
    # A page that is not there proves nothing: each door must have said no to something that is.
    doors = {(each.service, each.port) for each in tried if not each.port.endswith("metrics")}
    refused = {(each.service, each.port) for each in tried if not each.answer.endswith(("404", "405"))}
    assert doors <= refused
