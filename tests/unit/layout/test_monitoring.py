"""What the monitoring is told, computed from the real roles: hosts, nodes, metrics, alerts, and who lets it in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from freehold.layout.compute import compute
from freehold.layout.types import Layout
from freehold.schema.stack import Stack


def build(only: str | None = None, **changes: Any) -> Layout:
    document = {
        "client": "acme",
        "domain": "acme.internal",
        "proxmox": {"endpoint": "https://pve:8006"},
        "network": {"subnet": "10.20.0.0/24"},
        "services": {"prometheus": None, "postgres": None},
        "egress": {"closed": False},
        **changes,
    }
    return compute(Stack.model_validate(document), Path("/inventory/acme"), only)


def exporters(layout: Layout) -> dict[str, list[str]]:
    return {
        host.name: [str(source) for rule in host.rules if rule.port == 9100 for source in rule.sources]
        for host in layout.hosts
    }


def test_every_host_lets_the_monitoring_in_and_nobody_else() -> None:
    layout = build()

    assert str(layout.monitor) == "10.20.0.180"
    assert exporters(layout) == {
        "alertmanager": ["10.20.0.180/32"],
        "postgres": ["10.20.0.180/32"],
        "prometheus": [],  # it asks itself over the loopback
    }


def test_a_part_of_the_stack_is_watched_like_the_whole() -> None:
    layout = build(only="postgres")

    assert str(layout.monitor) == "10.20.0.180"
    assert exporters(layout) == {"postgres": ["10.20.0.180/32"]}


def test_without_a_monitoring_nobody_is_let_in() -> None:
    layout = build(services={"postgres": None})

    assert layout.monitor is None
    assert exporters(layout) == {"postgres": []}


def test_hosts_and_nodes_are_those_of_the_layout() -> None:
    layout = build(
        proxmox={"endpoint": "https://pve:8006", "node": "pve1"},
        nodes={
            "pve1": {"address": "10.20.0.2", "gpus": [{"pci": "01:00"}, {"pci": "02:00", "vendor": "amd"}]},
            "pve2": {},  # no SSH: nothing can be installed there
        },
    )
    variables = layout.service("prometheus").variables

    assert {host["name"]: host["address"] for host in variables["prometheus_hosts"]} == {
        host.name: str(host.address) for host in layout.hosts
    }
    assert variables["prometheus_nodes"] == [{"name": "pve1", "address": "10.20.0.2", "gpus": 1}]
    assert {node.name: node.gpus for node in layout.nodes} == {"pve1": ("0000:01:00.0",), "pve2": ()}


def test_a_service_that_comes_is_asked_and_one_that_goes_is_forgotten() -> None:
    def asked(layout: Layout) -> set[str]:
        scrapes = layout.service("prometheus").variables["prometheus_scrapes"]
        return {scrape["service"] for scrape in scrapes}

    def watched(layout: Layout) -> set[str]:
        return {alert["service"] for alert in layout.service("prometheus").variables["prometheus_alerts"]}

    assert asked(build()) == {"prometheus", "alertmanager", "postgres"}
    assert "postgres" in watched(build())
    assert asked(build(services={"prometheus": None})) == {"prometheus", "alertmanager"}
    assert "postgres" not in watched(build(services={"prometheus": None}))
