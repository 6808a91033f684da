"""What ``check`` finds, look by look, with an API that answers from a table."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from freehold.errors import ExitCode
from freehold.proxmox import errors, in_force
from freehold.proxmox.changes import Plan
from freehold.proxmox.privileges import grants
from freehold.run import check, firewall, route_names
from freehold.run.check import Finding
from freehold.run.context import Client
from freehold.run.prepare import needs

from .conftest import STACK, Open

GIB = 2**30


class TableApi:
    """A stand-in of the API: a path and its answer, or the error that it raises."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.calls = 0

    def get(self, path: str, params: Any = None, *, doing: str = "") -> Any:
        self.calls += 1
        answer = self.answers[path]
        if isinstance(answer, Exception):
            raise answer
        return answer


def sound(client: Client) -> dict[str, Any]:
    """The answers of a node that lacks nothing."""
    return {
        "/version": {"version": "9.2.11"},
        "/access/permissions": {g.path: dict.fromkeys(g.privileges, 1) for g in grants(needs(client))},
        "/nodes": [{"node": "pve"}],
        "/nodes/pve/status": {"memory": {"total": 64 * GIB}},
        "/nodes/pve/storage": [
            {"storage": "guests", "content": "rootdir,images", "active": 1, "avail": 500 * GIB},
            {"storage": "local", "content": "iso,vztmpl", "active": 1, "avail": 50 * GIB},
        ],
        "/nodes/pve/lxc": [],
        "/nodes/pve/network": [{"iface": "vmbr0", "type": "bridge"}, {"iface": "eth0", "type": "eth"}],
        "/nodes/pve/hardware/pci": [
            {
                "id": "0000:01:00.0",
                "class": "0x030000",
                "vendor": "0x10de",
                "device": "0x2684",
                "iommugroup": 13,
            }
        ],
        "/nodes/pve/storage/local/content": [
            {"volid": f"local:vztmpl/debian-{number}-standard_{number}.1-1_amd64.tar.zst"}
            for number in (12, 13)
        ],
        "/nodes/pve/aplinfo": [],
        "/cluster/firewall/options": {"enable": 1},
        "/nodes/pve/firewall/options": {},
        "/nodes/pve/services/pve-firewall/state": {"state": "running"},
        **{f"/nodes/pve/lxc/{host.vmid}/firewall/rules": [] for host in client.layout.hosts},
    }


Look = Callable[..., list[Finding]]


@pytest.fixture
def look(open_client: Open, monkeypatch: pytest.MonkeyPatch) -> Look:
    """``look(answers, **changes)``: the findings that are no ``ok`` when answers differ so."""
    monkeypatch.setattr(check.plan, "plan", lambda client: (Plan(client="acme"), None))
    monkeypatch.setattr(check, "_source", lambda address: "10.86.0.1")

    def look(answers: dict[str, Any] | None = None, **changes: Any) -> list[Finding]:
        client = open_client(**changes)
        client.__dict__["api"] = TableApi({**sound(client), **(answers or {})})
        return [finding for finding in check.check(client) if finding.status != "ok"]

    return look


def test_nothing_is_missing(look: Look) -> None:
    assert look() == []


def test_rules_outside_the_containers_that_nothing_reads_are_a_warning(look: Look) -> None:
    (finding,) = look({"/cluster/firewall/options": {}})
    assert (finding.about, finding.status) == ("Proxmox firewall", "warning")
    assert finding.detail == f"written, not in force: {in_force.OFF}"
    assert "docs/firewall.md" in finding.remedy


def test_rules_of_an_administrator_that_accept_more_are_named(open_client: Open) -> None:
    client = open_client()
    first = client.layout.hosts[0]
    rule = {"pos": 0, "type": "in", "action": "ACCEPT", "enable": 1, "proto": "tcp", "dport": "8080"}
    listed = [
        {**rule, "comment": "backup"},
        {**rule, "pos": 1, "enable": 0},
        {**rule, "pos": 2, "action": "DROP"},
        {**rule, "pos": 3, "comment": "freehold: SSH"},
        {"pos": 4, "type": "group", "action": "backup", "enable": 1},
    ]
    rules = f"/nodes/pve/lxc/{first.vmid}/firewall/rules"
    client.__dict__["api"] = TableApi({**sound(client), rules: listed})
    finding = firewall.finding(client, Plan(client="acme"))

    assert finding.status == "ok"
    assert finding.detail == (
        f"in force: rule 0 of {first.hostname} is not Freehold's and accepts besides: in ACCEPT tcp 8080 (backup); "
        f"rule 4 of {first.hostname} is not Freehold's and accepts besides: group backup"
    )
    client.__dict__["api"] = TableApi(sound(client))
    assert firewall.finding(client, Plan(client="acme")).detail == "in force"


CLOUD = {"providers": {"anthropic": None}, "cloud": {"claude": {"provider": "anthropic", "model": "m"}}}
ENGINE = {"services": {"vllm": {"device": "cpu", "model": "/models/tiny"}, "litellm": None}}


def test_an_empty_list_of_names_is_a_warning_where_something_may_leave(look: Look, home: Path) -> None:
    def about(**routing: Any) -> list[str]:
        found = look(**ENGINE, routing={**CLOUD, **routing})
        return [f"{each.status}: {each.detail}" for each in found if each.about.startswith("names")]

    (told,) = about()
    assert told.startswith("warning: names.yml has no name")
    assert about(sensitive={"names": False}) == []
    assert [each for each in look(**ENGINE) if each.about.startswith("names")] == []
    route_names.add(Client.open(home / "freehold_inventory/acme/stack.yml"), ["Hans Wurstinger"])
    assert about() == []


def test_a_controller_that_containers_would_shut_out_is_told_before_they_are_made(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut = {"network": {**STACK["network"], "admins": ["192.168.9.0/24"]}}
    (certain,) = look(**shut)
    assert (certain.about, certain.status) == ("this controller", "problem")
    assert "10.86.0.1" in certain.detail
    assert "192.168.9.0/24" in certain.detail
    monkeypatch.setattr(check, "_source", lambda address: "172.20.0.5")
    (uncertain,) = look()
    assert (uncertain.status, uncertain.remedy) == (
        "warning",
        "Add its network to network.admins in the stack file.",
    )
    monkeypatch.setattr(check, "_source", lambda address: "192.168.9.7")
    assert look(**shut) == []
    monkeypatch.setattr(check, "_source", lambda address: None)
    assert look(**shut) == []


def test_the_controllers_address_is_that_of_the_way_there() -> None:
    assert check._source("127.0.0.1") == "127.0.0.1"


def test_an_engine_without_its_gpu_is_seen_before_anything_is_made(look: Look) -> None:
    (finding,) = look(services={"vllm": None})
    assert (finding.about, finding.status) == ("GPU for vllm", "problem")
    assert "hosts.vllm.gpus: [0]" in finding.remedy
    assert look(services={"vllm": {"device": "cpu"}}) == []
    (finding,) = look(services={"sglang": None}, gpu_layout="cpu")
    assert finding.about == "GPU for sglang"
    assert finding.remedy.endswith("or leave the service out.")


def test_what_a_licence_leaves_to_a_person_is_a_warning(look: Look) -> None:
    gpus = {"pve": {"gpus": [{"pci": "0000:01:00.0", "card": "rtx-4090"}]}}
    given = {"nodes": gpus, "services": {"ollama": None}, "hosts": {"ollama": {"gpus": [0]}}}
    finding = next(finding for finding in look(**given) if finding.about.startswith("licence of"))
    assert finding.about == "licence of the driver of NVIDIA GeForce RTX 4090"
    assert finding.status == "warning"
    assert "not licensed for datacenter deployment" in finding.detail
    assert finding.remedy.startswith("Read https://www.nvidia.com/")


def test_of_a_few_services_the_licences_of_what_they_use_are_looked_at(open_client: Open) -> None:
    whole = open_client(
        nodes={"pve": {"gpus": [{"pci": "0000:01:00.0", "card": "rtx-4090"}]}},
        services={"postgres": None, "vllm": None},
        hosts={"vllm": {"gpus": [0]}},
        models={"qwen3-8b": {"quantization": "awq"}},
    )

    def titles(only: str | None) -> list[str]:
        client = Client.open(whole.directory / "stack.yml", only)
        findings = list(check._licences(client))
        return [finding.about for finding in findings if finding.status != "ok"]

    assert titles(None) == titles("vllm") == ["licence of the driver of NVIDIA GeForce RTX 4090"]
    assert titles("postgres") == []


def test_licences_are_looked_at(open_client: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check.plan, "plan", lambda client: (Plan(client="acme"), None))
    client = open_client(use={"commercial": False, "customers": True, "region": "EU"})
    client.__dict__["api"] = TableApi(sound(client))
    (finding,) = (finding for finding in check.check(client) if finding.about == "licences")
    assert finding.status == "ok"
    assert finding.detail == "nothing forbids use in EU, not commercial, for customers"


@pytest.mark.parametrize(
    ("answers", "about", "detail", "remedy"),
    [
        ({"/version": {"version": "8.1.4"}}, "Proxmox VE", "runs Proxmox VE 8.1.4", "Upgrade"),
        ({"/version": {"version": "6.4-13"}}, "Proxmox VE", "runs Proxmox VE 6.4-13", "Upgrade"),
        ({"/nodes": [{"node": "one"}, {"node": "two"}]}, "node pve", "there is one, two", "proxmox.node"),
        (
            {"/nodes/pve/status": {"memory": {"total": 3 * GIB}}},
            "memory of pve",
            "3072 MiB and keeps 2048",
            "hosts.<name>.memory",
        ),
        (
            {"/nodes/pve/storage": [{"storage": "local", "content": "vztmpl,rootdir", "active": 1}]},
            "storage guests",
            "no storage guests",
            "the token may use local",
        ),
        (
            {"/nodes/pve/network": [{"iface": "eth0", "type": "eth"}]},
            "bridge vmbr0",
            "no bridge vmbr0",
            "network.bridge",
        ),
        (
            {"/nodes/pve/storage/local/content": []},
            "template debian-12",
            "no debian-12 template",
            "pveam update",
        ),
        (
            {"/nodes/pve/lxc": errors.PveError("It broke", remedy="Mend it")},
            "node pve",
            "It broke",
            "Mend it",
        ),
    ],
)
def test_one_thing_is_missing(
    look: Look, answers: dict[str, Any], about: str, detail: str, remedy: str
) -> None:
    first = look(answers)[0]
    assert first.status == "problem"
    assert first.about == about
    assert detail in first.detail
    assert remedy in first.remedy


@pytest.mark.parametrize(
    ("entry", "detail"),
    [
        ({"content": "images"}, "does not hold rootdir"),
        ({"active": 0}, "is not active"),
        ({"enabled": 0}, "is not active"),
        ({"avail": 5 * GIB}, "has 5 GiB free"),
    ],
)
def test_storages_that_cannot_take_the_containers(look: Look, entry: dict[str, Any], detail: str) -> None:
    good = {"storage": "guests", "content": "rootdir", "active": 1, "avail": 500 * GIB}
    local = {"storage": "local", "content": "vztmpl", "active": 1}
    found = look({"/nodes/pve/storage": [{**good, **entry}, local]})
    assert [finding.about for finding in found] == ["storage guests"]
    assert detail in found[0].detail
    assert found[0].remedy


def test_containers_that_exist_want_no_more_space(look: Look, open_client: Open) -> None:
    vmids = [{"vmid": host.vmid} for host in open_client().layout.hosts]
    full = [
        {"storage": "guests", "content": "rootdir", "active": 1, "avail": 0},
        {"storage": "local", "content": "vztmpl", "active": 1},
    ]
    assert look({"/nodes/pve/storage": full, "/nodes/pve/lxc": vmids}) == []


def test_a_missing_privilege_is_named_and_the_rest_is_not_guessed(look: Look, open_client: Open) -> None:
    held = sound(open_client())["/access/permissions"]
    del held["/storage/guests"]["Datastore.AllocateSpace"]
    found = look({"/access/permissions": held, "/nodes": errors.PveError("never asked")})
    assert [finding.about for finding in found] == ["API token"]
    assert "Datastore.AllocateSpace on /storage/guests" in found[0].detail
    assert "freehold prepare acme" in found[0].remedy


GPUS: dict[str, Any] = {
    "nodes": {"pve": {"gpus": [{"pci": "01:00.0"}]}},
    "hosts": {"postgres": {"gpus": [0]}},
}


def test_a_gpu_without_a_way_to_become_root(look: Look) -> None:
    found = look(**GPUS)
    assert [finding.about for finding in found] == ["root steps on pve"]
    assert "proxmox.root_password_command" in found[0].remedy


def test_gpus_through_a_session_need_device_nodes_that_the_node_makes_itself(look: Look) -> None:
    found = look(**GPUS, proxmox=STACK["proxmox"] | {"root_password_command": "true"})
    assert [(finding.status, finding.about) for finding in found] == [("warning", "GPU device nodes of pve")]
    assert "nodes.pve.address" in found[0].remedy


def test_weights_need_a_directory_that_is_made_by_hand_without_ssh(look: Look) -> None:
    found = look(services={"weights": None}, proxmox=STACK["proxmox"] | {"root_password_command": "true"})
    (finding,) = [finding for finding in found if finding.about == "weights on pve"]
    assert finding.status == "warning"
    assert finding.remedy.endswith("install -d -o 102108 -g 102108 /var/lib/freehold-weights/acme")


def test_a_gpu_that_is_not_in_the_node(look: Look) -> None:
    found = look({"/nodes/pve/hardware/pci": []}, **GPUS)
    assert found[0].about == "GPU 01:00.0"
    assert "lspci" in found[0].remedy


PROBED = "== devices\n0000:01:00.0|0x10de|0x2684|nvidia|13|-1|||\n== version\n== information 0000:01:00.0\nDevice Minor: 0\n== end\n"
SSH_NODE = {**GPUS, "nodes": {"pve": {"gpus": [{"pci": "01:00.0"}], "address": "192.0.2.5"}}}


@pytest.mark.parametrize(
    ("code", "text", "remedy"),
    [
        (0, "", None),
        (255, "Host key verification failed.", "nodes.pve.host_key"),
        (255, "root@192.0.2.5: Permission denied (publickey).", "ssh-copy-id root@192.0.2.5"),
        (255, "connect to host 192.0.2.5 port 22: No route to host", "nodes.<name>.address"),
        (127, "pct: not found", "nodes.<name>.address"),
    ],
)
def test_ssh_to_the_node(
    look: Look, monkeypatch: pytest.MonkeyPatch, code: int, text: str, remedy: str | None
) -> None:
    def run(argv: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        output = PROBED if code == 0 and "== devices" in argv[-1] else ""
        return subprocess.CompletedProcess(argv, code, stdout=output, stderr=text)

    monkeypatch.setattr(subprocess, "run", run)
    found = look(**SSH_NODE)
    assert [finding.about for finding in found] == ([] if remedy is None else ["SSH to node pve"])
    if remedy is not None:
        assert text in found[0].detail
        assert remedy in found[0].remedy


@pytest.mark.parametrize("error", [subprocess.TimeoutExpired("ssh", 60), FileNotFoundError("ssh")])
def test_ssh_that_hangs_or_is_not_there(
    look: Look, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def run(argv: list[str], **_: Any) -> Any:
        raise error

    monkeypatch.setattr(subprocess, "run", run)
    found = look(**SSH_NODE)
    assert [finding.about for finding in found] == ["SSH to node pve"]
    assert found[0].remedy


def test_guests_of_others_and_impossible_changes_are_found_before_anything_is_made(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    def foreign(client: Client) -> Any:
        raise errors.ForeignGuestError("Foreign guest", answer="VM 1010 (mail)", remedy="Choose other VMIDs")

    monkeypatch.setattr(check.plan, "plan", foreign)
    found = look()
    assert found == [Finding("containers", "problem", "Foreign guest: VM 1010 (mail)", "Choose other VMIDs")]


def test_all_problems_stand_in_one_error() -> None:
    found = [
        Finding("a", "ok", "fine"),
        Finding("b", "problem", "b is missing", "Make b"),
        Finding("c", "warning", "odd"),
        Finding("d", "problem", "d is missing", "Make d"),
    ]
    with pytest.raises(check.CheckFailedError) as caught:
        check.require(found)
    assert caught.value.exit_code is ExitCode.BAD_INPUT
    assert caught.value.message == "2 things are missing"
    assert caught.value.answer == "- b: b is missing\n- d: d is missing"
    assert caught.value.remedy == "Make b\nMake d"
    check.require([found[0], found[2]])
