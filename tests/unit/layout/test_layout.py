"""What a stack becomes: places, addresses, rules, variables."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold.catalog.services import UnknownServiceError
from freehold.errors import ExitCode, FreeholdError
from freehold.layout.compute import LayoutError, compute, load_layout
from freehold.layout.types import Layout
from freehold.schema.stack import Stack

Build = Callable[..., Layout]


def test_places_hang_on_slots(build: Build) -> None:
    layout = build()
    assert {(host.name, host.hostname, host.vmid, str(host.interface)) for host in layout.hosts} == {
        ("caddy", "acme-caddy", 1010, "10.20.0.110/24"),
        ("postgres", "acme-postgres", 1020, "10.20.0.120/24"),
        ("openwebui", "acme-openwebui", 1040, "10.20.0.140/24"),
        ("vllm", "acme-vllm", 1060, "10.20.0.160/24"),
    }
    assert {str(host.gateway) for host in layout.hosts} == {"10.20.0.1"}


def test_needs_come_along_and_wants_do_not(build: Build) -> None:
    assert [host.name for host in build(services={"openwebui": None}).hosts] == ["postgres", "openwebui"]


def test_start_order_is_by_dependency_and_the_gateway_comes_last(build: Build) -> None:
    layout = build()
    assert [(host.name, host.start_order) for host in layout.hosts] == [
        ("postgres", 10),
        ("vllm", 10),
        ("openwebui", 20),
        ("caddy", 900),
    ]
    assert layout.service("openwebui").after == ("postgres", "vllm")
    assert layout.service("caddy").after == ("openwebui", "postgres", "vllm")
    # An order that stays when a neighbour goes.
    assert build(services={"openwebui": None}).host("openwebui").start_order == 20


def test_overrides(build: Build) -> None:
    layout = build(
        hosts={
            "vllm": {
                "cores": 16,
                "memory": 65536,
                "swap": 512,
                "disk": 300,
                "storage": "fast",
                "address": "10.20.0.7",
                "vmid": 7777,
                "node": "pve2",
                "mounts": {"/models": "/tank/models"},
            }
        },
        nodes={"pve2": {}},
    )
    host = layout.host("vllm")
    assert (host.cores, host.memory, host.swap, host.disk, host.storage) == (16, 65536, 512, 300, "fast")
    assert (str(host.address), host.vmid, host.node) == ("10.20.0.7", 7777, "pve2")
    assert [(mount.path, mount.source) for mount in host.mounts] == [("/models", "/tank/models")]
    assert layout.service("openwebui").variables["openwebui_engines"][0]["url"] == "http://10.20.0.7:8000/v1"


def test_a_client_sizes_the_volume_of_a_host(build: Build) -> None:
    volumes = build(hosts={"postgres": {"data": 300}}).host("postgres").volumes
    assert [volume.size for volume in volumes] == [300]


def test_volumes_are_the_data_with_a_size(build: Build) -> None:
    volumes = build().host("postgres").volumes
    assert [(volume.path, volume.size, volume.backup) for volume in volumes] == [
        ("/var/lib/postgresql", 10, True)
    ]
    assert build().host("caddy").volumes == ()


def rules(layout: Layout, host: str) -> dict[int, list[str]]:
    return {rule.port: [str(source) for source in rule.sources] for rule in layout.host(host).rules}


def test_only_named_peers_reach_a_port(build: Build) -> None:
    layout = build()
    assert rules(layout, "postgres") == {22: ["10.20.0.0/24"], 5432: ["10.20.0.140/32"]}
    assert rules(layout, "openwebui") == {22: ["10.20.0.0/24"], 8080: ["10.20.0.110/32"]}
    assert rules(layout, "vllm") == {22: ["10.20.0.0/24"], 8000: ["10.20.0.140/32"]}
    # Nobody that may read the metrics is present, so that port stays shut.
    assert rules(layout, "caddy") == {
        22: ["10.20.0.0/24"],
        443: ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
    }
    assert 5432 not in rules(build(services={"postgres": None}), "postgres")


def test_networks_of_people(build: Build) -> None:
    network = {"subnet": "10.20.0.0/24", "admins": ["10.9.0.0/24"], "users": ["10.8.0.0/16"]}
    layout = build(network=network)
    assert rules(layout, "caddy") == {22: ["10.9.0.0/24"], 443: ["10.8.0.0/16"]}
    assert layout.admins == (IPv4Network("10.9.0.0/24"),)


def test_routes_exist_where_a_gateway_is(build: Build) -> None:
    (route,) = build().routes
    assert (route.fqdn, route.service, str(route.address), route.port) == (
        "chat.acme.internal",
        "openwebui",
        "10.20.0.140",
        8080,
    )
    assert build(services={"openwebui": None}).routes == ()


def test_variables_wire_services_to_each_other(build: Build) -> None:
    layout = build(users=[{"name": "Ada", "mail": "ada@acme.test"}])
    assert layout.service("openwebui").variables == {
        "openwebui_database_url": "postgresql://openwebui:{{ lookup('freehold.stack.secret', 'openwebui.database') }}"
        "@10.20.0.120:5432/openwebui",
        "openwebui_engines": [
            {
                "name": "vllm",
                "url": "http://10.20.0.160:8000/v1",
                "key": "{{ lookup('freehold.stack.secret', 'vllm.api_key') }}",
                "address": "10.20.0.160",
                "port": 8000,
                "models": [
                    {"name": "/models/tiny", "served": "/models/tiny", "kind": "chat"},
                    {"name": "meaning", "served": "meaning", "kind": "embedding"},
                ],
            }
        ],
        "openwebui_users": [
            {
                "name": "Ada",
                "mail": "ada@acme.test",
                "groups": [],
                "language": "en",
                "admin": False,
                "password": "{{ lookup('freehold.stack.secret', 'users.ada@acme.test') }}",
            }
        ],
        "openwebui_url": "https://chat.acme.internal",
    }
    assert layout.service("postgres").variables["postgres_databases"] == [
        {
            "name": "openwebui",
            "owner_service": "openwebui",
            "password": "{{ lookup('freehold.stack.secret', 'openwebui.database') }}",
            "extensions": ["vector"],
            "address": "10.20.0.140",
        }
    ]
    assert layout.service("caddy").variables["caddy_routes"][0]["fqdn"] == "chat.acme.internal"
    alone = build(services={"openwebui": None}).service("openwebui").variables
    assert alone["openwebui_engines"] == []
    assert alone["openwebui_url"] == "http://10.20.0.140:8080"
    assert "users.ada@acme.test" in layout.service("openwebui").secrets


def test_a_mail_address_with_a_quote_is_part_of_a_secrets_name(build: Build) -> None:
    layout = build(users=[{"name": "Pat", "mail": "o'brien@acme.test"}])

    assert "users.o'brien@acme.test" in layout.service("openwebui").secrets


def test_a_service_may_read_its_own_secrets_and_those_it_is_given(build: Build) -> None:
    layout = build()
    assert layout.service("openwebui").secrets == (
        "openwebui.database",
        "openwebui.secret_key",
        "vllm.api_key",
    )
    assert layout.service("postgres").secrets == ("openwebui.database", "postgres.superuser")
    assert layout.service("caddy").secrets == ()


def test_a_clients_setting_wins_over_a_computed_one(build: Build) -> None:
    variables = build(services={"postgres": {"shared_buffers": 64}}).service("postgres").variables
    assert variables["postgres_shared_buffers"] == 64
    variables = (
        build(services={"postgres": None}, hosts={"postgres": {"memory": 4096}}).service("postgres").variables
    )
    assert variables["postgres_shared_buffers"] == 1024


def test_gpus_reach_their_host_and_no_other(build: Build) -> None:
    nodes = {"pve": {"gpus": [{"pci": "01:00.0"}, {"pci": "0000:02:00.0"}]}}
    layout = build(nodes=nodes, hosts={"vllm": {"gpus": ["02:00"]}})
    devices = layout.host("vllm").devices
    assert [device.path for device in devices] == [
        "/dev/nvidia1",
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-uvm-tools",
    ]
    assert {(device.gid, device.mode) for device in devices} == {(2107, "0660")}
    assert all(not host.devices for host in layout.hosts if host.name != "vllm")
    assert layout.service("vllm").variables["vllm_device"] == "cuda"
    assert build().service("vllm").variables["vllm_device"] == "cpu"


def test_gpus_of_other_vendors_and_fixed_minors(build: Build) -> None:
    gpus = [
        {"pci": "01:00.0", "vendor": "amd"},
        {"pci": "02:00.0", "vendor": "nvidia", "minor": 3},
        {"pci": "03:00.0", "vendor": "intel", "minor": 131},
    ]
    layout = build(nodes={"pve": {"gpus": gpus}}, hosts={"vllm": {"gpus": [0, 1, 2]}})
    assert [device.path for device in layout.host("vllm").devices] == [
        "/dev/dri/renderD128",
        "/dev/nvidia3",
        "/dev/dri/renderD131",
        "/dev/kfd",
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-uvm-tools",
    ]


def test_paths_are_relative_to_the_clients_folder(build: Build) -> None:
    layout = build(
        proxmox={"endpoint": "https://pve:8006", "ca_file": "ca.pem"},
        nodes={"pve": {"address": "10.20.0.2", "ssh_key": "keys/pve", "known_hosts": "/etc/known"}},
    )
    (node,) = layout.nodes
    assert (node.ssh_key, node.known_hosts) == ("/inventory/acme/keys/pve", "/etc/known")
    assert layout.proxmox.ca_file == Path("/inventory/acme/ca.pem")


def test_only_takes_a_service_and_what_it_needs_as_they_are_in_the_whole(build: Build) -> None:
    whole, part = build(), build(only="openwebui")
    assert [host.name for host in part.hosts] == ["postgres", "openwebui"]
    for host in part.hosts:
        assert host == whole.host(host.name)
    for service in part.services:
        assert service.variables == whole.service(service.name).variables
    assert part.service("openwebui").after == ("postgres",)
    assert [host.name for host in build(only="caddy").hosts] == ["caddy"]
    assert build(only="caddy").service("caddy").variables == whole.service("caddy").variables


def test_only_with_an_unknown_service(build: Build) -> None:
    with pytest.raises(
        UnknownServiceError, match='no service "openwebu"; did you mean "openwebui"'
    ) as caught:
        build(only="openwebu")
    assert caught.value.exit_code == ExitCode.BAD_INPUT


def test_an_empty_stack_is_an_empty_layout(build: Build) -> None:
    assert build(services={}).hosts == ()


def test_layout_survives_json(build: Build) -> None:
    layout = build(nodes={"pve": {"gpus": [{"pci": "01:00.0"}]}}, hosts={"vllm": {"gpus": [0]}})
    assert Layout.model_validate_json(layout.model_dump_json()) == layout


def test_problems_name_the_line(tmp_path: Path) -> None:
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme/stack.yml").write_text(
        "client: acme\ndomain: acme.internal\nproxmox: {endpoint: 'https://pve:8006'}\n"
        "network:\n  subnet: 10.20.0.0/24\nservices:\n  no-such:\nhosts:\n  nobody:\n    cores: 1\n"
    )
    with pytest.raises(LayoutError) as caught:
        load_layout(tmp_path / "acme")
    places = [problem.origin.line for problem in caught.value.problems if problem.origin]
    assert places == [7, 9]
    assert caught.value.exit_code == ExitCode.BAD_INPUT


def test_a_chain_of_twenty_services_comes_along_and_starts_in_its_order(tmp_path: Path) -> None:
    for number in range(20):
        meta = tmp_path / f"service{number}" / "meta"
        meta.mkdir(parents=True)
        needs = [f"service{number - 1}"] if number else []
        (meta / "service.yml").write_text(
            yaml.safe_dump(
                {
                    "name": f"service{number}",
                    "title": f"Service {number}",
                    "slot": number,
                    "os": "debian-12",
                    "resources": {"cores": 1, "memory": 512, "disk": 4},
                    "needs": needs,
                    "ports": {"http": {"port": 8000, "sources": ["users"]}},
                    "variables": {"peer": "services | length", "address": "host.address"},
                }
            )
        )
        options = {f"service{number}_peer": {"type": "int"}, f"service{number}_address": {"type": "str"}}
        (meta / "argument_specs.yml").write_text(
            yaml.safe_dump({"argument_specs": {"main": {"options": options}}})
        )
    wanted = Stack.model_validate(
        {
            "client": "acme",
            "domain": "acme.internal",
            "proxmox": {"endpoint": "https://pve:8006"},
            "network": {"subnet": "10.20.0.0/24"},
            "services": {"service19": None},
        }
    )
    layout = compute(wanted, Path("/x"), roles=tmp_path)
    assert [host.name for host in sorted(layout.hosts, key=lambda host: host.start_order)] == [
        f"service{number}" for number in range(20)
    ]


def test_wrong_expressions_name_role_and_variable(tmp_path: Path) -> None:
    meta = tmp_path / "bad" / "meta"
    meta.mkdir(parents=True)
    service: dict[str, Any] = {
        "name": "bad",
        "title": "Bad",
        "slot": 1,
        "os": "debian-12",
        "resources": {"cores": 1, "memory": 512, "disk": 4},
    }
    (meta / "argument_specs.yml").write_text("argument_specs: {main: {options: {bad_x: {type: str}}}}\n")
    for number, (expression, reason) in enumerate(
        [
            ("services.nobody.address", "nobody"),
            ("host.adress", "adress"),
            ("[unknown]", "unknown"),
            ("1 +", "unexpected"),
            ("secret('bad.none')", "bad.none"),
            ("services.bad.__class__", "unsafe"),
            ("1 / 0", "zero"),
        ]
    ):
        roles = tmp_path / f"roles{number}"
        roles.mkdir()
        (roles / "bad").symlink_to(tmp_path / "bad")
        (meta / "service.yml").write_text(yaml.safe_dump(service | {"variables": {"x": expression}}))
        wanted = {
            "client": "acme",
            "domain": "acme.internal",
            "proxmox": {"endpoint": "https://pve:8006"},
            "network": {"subnet": "10.20.0.0/24"},
            "services": {"bad": None},
        }
        with pytest.raises(FreeholdError, match='variable "x" of the service "bad"') as caught:
            compute(Stack.model_validate(wanted), Path("/x"), roles=roles)
        assert reason in (caught.value.answer or "")
        assert "roles/bad/meta/service.yml: variables.x" in (caught.value.where or "")


def test_default_cores_are_no_more_than_the_node_has(build: Build) -> None:
    assert build(nodes={"pve": {"cores": 1}}).host("vllm").cores == 1


def test_only_takes_several_services(build: Build) -> None:
    assert {service.name for service in build(only="vllm, caddy").services} == {"vllm", "caddy"}
