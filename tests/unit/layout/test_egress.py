"""The one way out: it comes along, what each host may reach past it, and which names through it."""

from __future__ import annotations

import re
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from freehold.catalog.versions import load as lock
from freehold.layout.compute import compute
from freehold.layout.egress import way_out
from freehold.layout.types import Layout
from freehold.render import render
from freehold.routing import providers
from freehold.schema.stack import PROVIDER_KINDS, Stack


def build(only: str | None = None, **changes: Any) -> Layout:
    document = {
        "client": "acme",
        "domain": "acme.internal",
        "proxmox": {"endpoint": "https://pve:8006"},
        "network": {"subnet": "10.20.0.0/24"},
        "services": {"caddy": None, "postgres": None, "openwebui": None, "vllm": {"device": "cpu"}},
        **changes,
    }
    return compute(Stack.model_validate(document), Path("/inventory/acme"), only)


def leaves(layout: Layout, name: str) -> set[tuple[str, int]]:
    rules = layout.host(name).outgoing
    assert rules is not None
    return {(str(destination), rule.port) for rule in rules for destination in rule.destinations}


def entry(layout: Layout, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = layout.service("egress").variables["egress_hosts"]
    return next(host for host in found if host["name"] == name)


def names(layout: Layout, name: str) -> set[str]:
    return {way["name"] for way in entry(layout, name)["ways"]}


def address(layout: Layout, name: str) -> str:
    return f"{layout.host(name).address}/32"


def test_it_comes_along_starts_first_and_is_configured_before_the_others() -> None:
    layout = build()

    assert layout.hosts[0].name == "egress"
    assert layout.egress == layout.host("egress").address
    assert layout.service("egress").after == ()
    assert all("egress" in service.after for service in layout.services if service.name != "egress")
    assert {"egress", "postgres"} == {host.name for host in build(only="postgres").hosts}


def test_it_is_the_clients_word_that_everything_gets_out() -> None:
    layout = build(egress={"closed": False})

    assert layout.egress is None
    assert all(host.name != "egress" and host.outgoing is None for host in layout.hosts)
    assert way_out(layout) == {}


def test_it_moves_no_host_and_changes_no_start_order() -> None:
    with_it, without = build(), build(egress={"closed": False})

    for host in without.hosts:
        there = with_it.host(host.name)
        assert (there.vmid, there.address, there.start_order) == (host.vmid, host.address, host.start_order)


def test_a_host_reaches_the_way_out_and_what_lets_it_in_by_name() -> None:
    layout = build()
    out = (address(layout, "egress"), 3128)

    assert leaves(layout, "postgres") == {out}
    assert leaves(layout, "vllm") == {out}
    assert leaves(layout, "openwebui") == {
        out,
        (address(layout, "postgres"), 5432),
        (address(layout, "litellm"), 4000),
    }
    # its port is open to the networks of people, in which the hosts lie; that is no way for a host
    assert (address(layout, "caddy"), 443) not in leaves(layout, "openwebui")


def test_every_way_between_hosts_is_open_at_its_other_end() -> None:
    layout = build(
        services=dict.fromkeys(("openwebui", "n8n", "langfuse", "grafana", "qdrant", "valkey", "prometheus"))
        | {"vllm": {"device": "cpu"}, "ollama": {"device": "cpu"}}
    )
    by_network = {IPv4Network(host.address): host for host in layout.hosts}
    for host in layout.hosts:
        for rule in host.outgoing or ():
            for target in [by_network[one] for one in rule.destinations if one in by_network]:
                there = [door for door in target.rules if (door.port, door.last) == (rule.port, rule.last)]
                assert any(
                    source.supernet_of(IPv4Network(host.address)) for door in there for source in door.sources
                ), f"{host.name} to {target.name}:{rule.port}"


def test_the_monitoring_reaches_every_host_and_node() -> None:
    layout = build(
        services={"prometheus": None, "postgres": None, "caddy": None},
        nodes={"pve": {"address": "10.20.0.2"}},
    )
    exporters = {destination for destination, port in leaves(layout, "prometheus") if port == 9100}

    assert exporters == {
        address(layout, name) for name in ("egress", "alertmanager", "postgres", "caddy")
    } | {"10.20.0.2/32"}
    assert (address(layout, "caddy"), 443) in leaves(layout, "prometheus")
    assert not any(port == 53 for _, port in leaves(layout, "prometheus"))


def test_a_mail_server_is_reached_past_it() -> None:
    def mail(server: str) -> set[tuple[str, int]]:
        own = {"mail_to": ["it@acme.example"], "mail_from": "ai@acme.example", "smtp_server": server}
        return leaves(build(services={"alertmanager": own}), "alertmanager")

    assert ("10.20.0.9/32", 587) in mail("10.20.0.9:587")
    assert {port for destination, port in mail("mail.acme.example:465") if destination == "0.0.0.0/0"} == {
        465,
        53,
    }


def test_what_leads_to_anybody_is_for_the_services_own_users() -> None:
    mail = {"mail_to": ["it@acme.example"], "mail_from": "ai@acme.example", "smtp_server": "mail.example:465"}
    acme = {
        "certificate": "acme",
        "acme_mail": "it@acme.example",
        "acme_dns": "rfc2136",
        "acme_dns_server": "192.0.2.53",
    }
    layout = build(
        services={"alertmanager": mail, "prometheus": None, "caddy": acme},
        nodes={"pve": {"address": "pve.acme.internal"}},
        network={"subnet": "10.20.0.0/24", "dns": ["10.20.0.3"]},
    )
    known = {f"{host.address}/32" for host in layout.hosts}
    users = {
        host.name: {
            rule.users for rule in host.outgoing or () if {str(to) for to in rule.destinations} - known
        }
        for host in layout.hosts
    }

    assert users == {
        "egress": {("proxy", "_apt")},
        "alertmanager": {("prometheus",)},
        "prometheus": {("prometheus",)},
        "caddy": {("root",)},
    }
    rules = layout.host("alertmanager").outgoing or ()
    assert {rule.port for rule in rules if rule.users} == {465, 53}


def test_only_the_way_out_asks_for_names() -> None:
    layout = build(network={"subnet": "10.20.0.0/24", "dns": ["10.20.0.3"]})

    assert ("10.20.0.3/32", 53) in leaves(layout, "egress")
    for host in layout.hosts:
        assert host.name == "egress" or not any(port == 53 for _, port in leaves(layout, host.name))


def test_cloud_providers_are_reached_by_the_router_alone() -> None:
    routing = {
        "providers": {
            "anthropic": None,
            "azure": {"endpoint": "https://acme.openai.azure.com:8443/x", "api_version": "2025-04-01"},
        },
        "cloud": {name: {"provider": name, "model": "m"} for name in ("anthropic", "azure")},
    }
    layout = build(routing=routing)
    cloud = {"api.anthropic.com", "acme.openai.azure.com"}

    assert cloud <= names(layout, "litellm")
    assert {way["port"] for way in entry(layout, "litellm")["ways"] if way["name"] in cloud} == {443, 8443}
    for host in layout.hosts:
        assert host.name == "litellm" or not names(layout, host.name) & cloud
    assert not names(build(), "litellm") & cloud


@pytest.mark.parametrize("kind", PROVIDER_KINDS)
def test_every_kind_of_provider_has_an_address(kind: str) -> None:
    given = "https://ai.acme.example/v1" if kind in {"azure", "openai-compatible"} else None
    name, port = providers.destination(kind, given)

    assert port == 443
    assert "." in name


def test_weights_and_registries_are_reached_by_who_fetches_from_them() -> None:
    layout = build(
        services={
            "vllm": {"device": "cpu"},
            "ollama": {"device": "cpu"},
            "weights": None,
            "n8n": None,
            "qdrant": None,
        }
    )

    assert {"huggingface.co", ".hf.co"} <= names(layout, "weights")
    assert "registry.ollama.ai" not in names(layout, "weights")
    assert {"github.com", "release-assets.githubusercontent.com"} <= names(layout, "qdrant")
    assert not names(layout, "postgres")
    assert entry(layout, "n8n")["clients"] == ["debian", "python", "npm"]
    assert entry(layout, "postgres")["clients"] == ["debian"]
    assert layout.service("n8n").variables["n8n_egress"] == "egress"


def test_a_mirror_takes_the_place_of_everything_but_what_runs() -> None:
    layout = build(sources={"mirror": "http://10.20.0.4:8080/"}, egress={"allow": ["login.acme.example"]})

    for host in layout.hosts:
        assert entry(layout, host.name)["clients"] == []
        assert entry(layout, host.name)["ways"] == [
            {"name": "10.20.0.4", "port": 8080, "tls": False, "private": True},
            {"name": "login.acme.example", "port": 443, "tls": True, "private": True},
        ]


def test_what_the_client_names_may_be_private_and_what_others_name_may_not() -> None:
    layout = build(sources={"wheels": ["https://wheels.acme.internal/simple/"]})
    private = {way["name"]: way["private"] for way in entry(layout, "vllm")["ways"]}

    assert private["wheels.acme.internal"]
    assert not private["download.pytorch.org"]


def test_roles_install_through_it_and_ask_each_other_directly() -> None:
    layout = build()
    environment = way_out(layout)

    assert environment["https_proxy"] == environment["http_proxy"] == f"http://{layout.egress}:3128"
    assert {str(host.address) for host in layout.hosts} <= set(environment["no_proxy"].split(","))


def rendered(layout: Layout) -> list[str]:
    """Squid's configuration, with registries of the test."""
    own = {
        "debian": [{"name": "archive.test", "port": 80, "tls": False}],
        "python": [{"name": "index.test", "port": 443, "tls": True}],
    }
    variables = layout.service("egress").variables | {"egress__registries": own}
    return [line for line in render("egress/squid.conf.j2", variables).splitlines() if line]


def test_squid_lets_each_host_reach_its_own_list_and_ends_with_no() -> None:
    cloud = {"mistral": {"provider": "mistral", "model": "mistral-large"}}
    routing = {"providers": {"mistral": None}, "cloud": cloud}
    layout = build(routing=routing, egress={"allow": ["login.acme.example"]})
    lines = rendered(layout)
    allowed = [line for line in lines if line.startswith("http_access allow")]
    names_of = {line.split()[1]: line.split()[4:] for line in lines if " dstdomain " in line}

    assert lines[-1] == "http_access deny all"
    for line in lines:  # a name that is not on the list must not be resolved
        if line.endswith(" private"):
            assert line.replace(" deny ", " allow ").removesuffix(" private") in allowed, line
    for line in allowed:  # who, how, at which port, which name
        assert re.fullmatch(r"http_access allow from_\S+ (CONNECT|reading) \S+_port \S+", line), line
    assert names_of["litellm_tls_443"] == ["api.mistral.ai"]
    assert not [
        name for name, listed in names_of.items() if "api.mistral.ai" in listed and "litellm" not in name
    ]
    assert (
        "http_access allow from_postgres reading postgres_debian_http_80_port postgres_debian_http_80"
        in lines
    )
    assert "http_access allow from_vllm CONNECT vllm_python_tls_443_port vllm_python_tls_443" in lines
    assert "http_access allow from_postgres CONNECT postgres_own_tls_443_port postgres_own_tls_443" in lines
    guarded = {line.split()[-2] for line in lines if line.endswith(" private")}
    assert {line.split()[-1] for line in allowed if "_own_" not in line} == guarded


def test_it_holds_what_its_role_installs() -> None:
    assert {"squid", "logrotate"} <= set(lock()["egress"].packages)


def test_the_language_models_of_presidio_are_fetched_where_it_is_on() -> None:
    def router(sensitive: dict[str, Any]) -> set[str]:
        models = [{"name": "chat", "url": "https://models.example/x.gguf", "sha256": "1" * 64}]
        cloud = {"claude": {"provider": "anthropic", "model": "x"}}
        layout = build(
            services={"litellm": None, "ollama": {"device": "cpu", "models": models}},
            routing={"providers": {"anthropic": None}, "cloud": cloud, "sensitive": sensitive},
        )
        return names(layout, "litellm")

    assert "github.com" not in router({})
    assert {"github.com", "release-assets.githubusercontent.com"} <= router(
        {"presidio": {"languages": ["de"]}}
    )
