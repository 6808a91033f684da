"""What cannot be laid out, each with the key that the client has to change."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from freehold.layout.types import Layout

Problems = Callable[..., list[str]]

TWO_GPUS = {"pve": {"gpus": [{"pci": "01:00.0"}, {"pci": "02:00.0"}]}}


def one(found: list[str]) -> str:
    assert len(found) == 1, found
    return found[0]


def test_unknown_service(problems: Problems) -> None:
    assert one(problems(services={"openwebu": None})) == (
        'services.openwebu: unknown service; did you mean "openwebui"? (allowed: caddy, openwebui, postgres, vllm)'
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"log_day": 1},
            'services.caddy.log_day: unknown setting; did you mean "log_days"? (allowed: domain, email, ',
        ),
        (
            {"log_days": "seven"},
            'services.caddy.log_days: must be a whole number, found "seven" (allowed: a whole number; Days',
        ),
        ({"log_days": True}, "services.caddy.log_days: must be a whole number, found true"),
        (
            {"email": 17},
            'services.caddy.email: must be text, found 17 (allowed: text; Contact; write it in quotes: "17")',
        ),
        (
            {"tls": "intern"},
            'services.caddy.tls: is not one of the choices, found "intern"; did you mean "internal"? (allowed: internal, acme)',
        ),
        ({"headers": []}, "services.caddy.headers: must be keys and values, found []"),
        ({"domain": None}, "services.caddy.domain: must have a value"),
    ],
)
def test_settings(problems: Problems, settings: dict[str, object], expected: str) -> None:
    assert one(problems(services={"caddy": settings})).startswith(expected)


def test_nested_settings(problems: Problems) -> None:
    extra = [{"user": "ada"}, {"usr": "ada", "days": "x"}, "ada"]
    assert [text.split(" (")[0] for text in problems(services={"postgres": {"extra": extra}})] == [
        'services.postgres.extra[1].usr: unknown setting; did you mean "user"?',
        'services.postgres.extra[1].days: must be a whole number, found "x"',
        "services.postgres.extra[1].user: is missing",
        'services.postgres.extra[2]: must be keys and values, found "ada"',
    ]


def test_required_setting(problems: Problems) -> None:
    assert one(problems(services={"vllm": None})) == (
        "services.vllm.model: is missing (allowed: a path; Directory of the language model)"
    )


def test_address_outside_the_subnet(problems: Problems) -> None:
    assert one(problems(hosts={"caddy": {"address": "10.21.0.5"}})) == (
        'hosts.caddy.address: the address of the host "caddy" is outside the subnet 10.20.0.0/24, found "10.21.0.5" '
        "(allowed: 10.20.0.1 to 10.20.0.254)"
    )


def test_first_address_too_late(problems: Problems) -> None:
    found = one(problems(network={"subnet": "10.20.0.0/24", "first": "10.20.0.200"}))
    assert found.startswith('network.first: the address of the host "vllm" is outside the subnet')
    assert "with 60 more after it" in found


def test_first_address_outside(problems: Problems) -> None:
    assert one(problems(network={"subnet": "10.20.0.0/24", "first": "10.30.0.1"})).startswith(
        "network.first: is outside the subnet 10.20.0.0/24"
    )


def test_small_subnet_asks_for_a_first_address(problems: Problems) -> None:
    assert problems(network={"subnet": "10.20.0.0/26"})[0].startswith(
        "network.subnet: the address of the host"
    )
    assert one(problems(network={"subnet": "10.20.0.0/30"})).startswith("network.subnet: is too small")


@pytest.mark.parametrize(
    ("gateway", "reason"),
    [
        ("10.21.0.1", "network.gateway: is outside the subnet"),
        ("10.20.0.0", "network.gateway: is the network's own address"),
        ("10.20.0.255", "network.gateway: is its broadcast address"),
        ("10.20.0.110", 'network.subnet: the address of the host "caddy" is the gateway\'s address'),
    ],
)
def test_gateway(problems: Problems, gateway: str, reason: str) -> None:
    assert one(problems(network={"subnet": "10.20.0.0/24", "gateway": gateway})).startswith(reason)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("10.20.0.0", "the network's own address"),
        ("10.20.0.255", "its broadcast address"),
        ("10.20.0.1", "the gateway's address"),
        ("10.20.0.120", 'the address of the host "postgres"'),
        ("10.20.0.2", 'the address of the node "pve"'),
    ],
)
def test_address_taken(problems: Problems, address: str, reason: str) -> None:
    found = one(problems(hosts={"caddy": {"address": address}}, nodes={"pve": {"address": "10.20.0.2"}}))
    assert found.startswith(
        f'hosts.caddy.address: the address of the host "caddy" is {reason}, found "{address}"'
    )


def test_vmid_taken(problems: Problems) -> None:
    assert one(problems(hosts={"caddy": {"vmid": 1020}})) == (
        'hosts.caddy.vmid: is the VMID of the host "postgres" too, found 1020'
    )
    assert len(problems(hosts={"caddy": {"vmid": 5000}, "vllm": {"vmid": 5000}})) == 1


def test_more_memory_than_the_node_has(problems: Problems) -> None:
    assert one(problems(nodes={"pve": {"memory": 12000}})) == (
        "nodes.pve.memory: is too little: the containers ask for 11776 MiB (vllm 8192, openwebui 2048, postgres 1024, "
        "caddy 512), and 2048 MiB stay with the node, found 12000 (allowed: at least 13824, or less memory for hosts)"
    )


def test_memory_is_counted_by_node(build: Callable[..., object]) -> None:
    build(nodes={"pve": {"memory": 5632}, "pve2": {"memory": 10240}}, hosts={"vllm": {"node": "pve2"}})


def test_more_cores_than_the_node_has(problems: Problems) -> None:
    assert one(problems(nodes={"pve": {"cores": 3}}, hosts={"vllm": {"cores": 4}})) == (
        'hosts.vllm.cores: are more than the node "pve" has, found 4 (allowed: at most 3)'
    )


def test_gpu_that_does_not_exist(problems: Problems) -> None:
    assert one(problems(nodes=TWO_GPUS, hosts={"vllm": {"gpus": [2]}})) == (
        'hosts.vllm.gpus[0]: there is no such GPU in the node "pve", found 2 (allowed: 0 (0000:01:00.0), 1 (0000:02:00.0))'
    )
    assert "none: list the node's GPUs under nodes.pve.gpus" in one(problems(hosts={"vllm": {"gpus": [0]}}))
    assert "no such GPU" in one(problems(nodes=TWO_GPUS, hosts={"vllm": {"gpus": ["03:00.0"]}}))


def test_gpu_given_twice(problems: Problems) -> None:
    hosts = {"vllm": {"gpus": [0]}, "openwebui": {"gpus": ["0000:01:00.0"]}}
    assert "this GPU is given twice: the host" in one(problems(nodes=TWO_GPUS, hosts=hosts))
    assert one(problems(nodes=TWO_GPUS, hosts={"vllm": {"gpus": [0, "01:00.0"]}})) == (
        'hosts.vllm.gpus[1]: this GPU is given twice: the host "vllm" has it already, found "01:00.0"'
    )


def test_gpu_listed_twice(problems: Problems) -> None:
    nodes = {"pve": {"gpus": [{"pci": "01:00.0"}, {"pci": "0000:01:00.0"}]}}
    assert one(problems(nodes=nodes)).startswith('nodes.pve.gpus[1].pci: is listed twice in the node "pve"')
    nodes = {"pve": {"gpus": [{"pci": "01:00.0", "minor": 1}, {"pci": "02:00.0"}]}}
    assert one(problems(nodes=nodes)).startswith("nodes.pve.gpus[1].minor: is listed twice")


def test_unknown_host_and_node(problems: Problems) -> None:
    assert one(problems(hosts={"vlm": {"cores": 1}})).startswith(
        'hosts.vlm: there is no such host: a host bears the name of its service; did you mean "vllm"?'
    )
    assert one(problems(hosts={"vllm": {"node": "pve9"}}, nodes={"pve2": {}})) == (
        'hosts.vllm.node: unknown node, found "pve9"; did you mean "pve"? (allowed: pve, pve2)'
    )


def test_people(problems: Problems) -> None:
    found = problems(
        groups=[{"name": "staff"}, {"name": "staff"}],
        users=[
            {"name": "Ada", "mail": "ada@acme.test", "groups": ["staf"]},
            {"name": "Ada", "mail": "ADA@acme.test"},
        ],
    )
    assert found == [
        'groups[1].name: this group is declared twice, found "staff"',
        'users[0].groups[0]: unknown group, found "staf"; did you mean "staff"? (allowed: staff)',
        'users[1].mail: another user has this mail address, found "ADA@acme.test"',
    ]


def test_mounts(problems: Problems) -> None:
    mounts = {"models": "/tank", "/var/lib/postgresql": "/tank", "/x": "tank", "/y": "/tank,mp=/etc"}
    found = problems(hosts={"postgres": {"mounts": mounts}})
    assert [text.split(":")[0] for text in found] == [
        "hosts.postgres.mounts.models",
        "hosts.postgres.mounts./var/lib/postgresql",
        "hosts.postgres.mounts./x",
        "hosts.postgres.mounts./y",
    ]


def test_all_problems_at_once(problems: Problems) -> None:
    found = problems(
        services={"caddy": {"x": 1}, "nobody": None},
        hosts={"caddy": {"vmid": 100, "gpus": [0]}, "ghost": {}},
        users=[{"name": "Ada", "mail": "a@b.c", "groups": ["none"]}],
    )
    assert len(found) == 5


def test_a_system_that_the_role_is_made_for(build: Callable[..., Layout]) -> None:
    layout = build(services={"caddy": None}, hosts={"caddy": {"os": "debian-13"}})
    assert layout.host("caddy").os == "debian-13"


def test_a_system_that_the_role_is_not_made_for(problems: Problems) -> None:
    assert one(problems(services={"postgres": None}, hosts={"postgres": {"os": "debian-12"}})) == (
        'hosts.postgres.os: the role of "postgres" is not made for it, found "debian-12" (allowed: debian-13)'
    )
