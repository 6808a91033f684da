"""``init``: from answers and a node's own words to a stack file that is valid and can be laid out."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from freehold.catalog import services as catalog
from freehold.errors import BadInputError, ExitCode, FreeholdError
from freehold.layout.compute import load_layout
from freehold.proxmox.client import PveClient
from freehold.proxmox.prepare import Prepared, Step
from freehold.run import init as init_module
from freehold.run.context import TOKEN_SECRET, Client
from freehold.run.init import Wishes, init
from freehold.run.roots import NoRootError
from freehold.schema.load import inventory, load_stack

FINGERPRINT = ":".join(["AB"] * 32)
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIPEGnOW3Bd1tRQmi1GHn8wrBWv8Cvg4zvGzQ2ZqDwH3c"
GPU = {"class": "0x030000", "vendor": "0x10de", "device_name": "GeForce RTX 4090"}


class Scripted:
    """Answers by option; what is asked without an answer takes its default."""

    def __init__(self, answers: dict[str, str], *, trusting: bool = True) -> None:
        self.answers = answers
        self.trusting = trusting
        self.said: list[str] = []
        self.trusted: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def text(self, question: str, default: str | None = None, *, option: str) -> str:
        answer = self.answers.get(option, default)
        assert answer is not None, f"asked without an answer: {question}"
        return answer

    def secret(self, question: str) -> str:
        return "the-root-password"

    def trust(self, question: str) -> bool:
        self.trusted.append(question)
        return self.trusting

    def choose(self, question: str, among: Sequence[str], default: str, *, option: str) -> str:
        return self.answers.get(option, default)


class NodeStandin:
    """What a node answers to its prober."""

    def __init__(self) -> None:
        self.gateway: str | None = "192.168.10.1"
        self.cidr = "192.168.10.5/24"
        self.memory = 128 * 2**30
        self.pci: list[dict[str, Any]] = []
        self.guests: list[dict[str, Any]] = []
        self.configs: dict[int, dict[str, Any]] = {}
        self.storages = [
            {"storage": "local", "content": "iso,vztmpl", "active": 1, "avail": 1},
            {"storage": "small", "content": "rootdir", "active": 1, "avail": 10},
            {"storage": "tank", "content": "rootdir,images", "active": 1, "avail": 99},
            {"storage": "off", "content": "rootdir", "active": 0, "avail": 999},
        ]

    def get(self, path: str, params: Any = None) -> Any:
        match path.split("/")[1:]:
            case ["nodes"]:
                return [{"node": "pve2"}, {"node": "pve1"}]
            case ["nodes", _, "status"]:
                return {"cpuinfo": {"cpus": 32}, "memory": {"total": self.memory}}
            case ["nodes", _, "storage"]:
                return self.storages
            case ["nodes", _, "network"]:
                bridge = {"iface": "vmbr0", "type": "bridge", "cidr": self.cidr}
                return [
                    bridge | ({"gateway": self.gateway} if self.gateway else {}),
                    {"iface": "eth0", "type": "eth"},
                ]
            case ["cluster", "resources"]:
                return self.guests
            case ["nodes", _, "hardware", "pci"]:
                return self.pci
            case ["nodes", _, "lxc", vmid, "config"]:
                return self.configs[int(vmid)]
        raise AssertionError(path)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> NodeStandin:
    """A node that shows its certificate and its SSH key, and can be prepared."""
    made = NodeStandin()

    def prepared(client: Client, *, password: str | None = None) -> Prepared:
        assert client.layout.hosts
        client.secrets.set(TOKEN_SECRET, "5f3c")
        step = Step(what="pool freehold-acme", method="POST", path="/pools")
        return Prepared(steps=(step,), secret="5f3c")

    monkeypatch.setattr(init_module, "_Prober", lambda known, password: made)
    monkeypatch.setattr(init_module, "prepare", prepared)
    monkeypatch.setattr(init_module.tls, "shown_fingerprint", lambda *_: FINGERPRINT)
    monkeypatch.setattr(PveClient, "get", lambda *_, **__: {"version": "9.2.11"})

    def run(argv: list[str], **_: Any) -> Any:
        assert argv[0] == "ssh-keyscan"
        return subprocess.CompletedProcess(argv, 0, stdout=f"{argv[-1]} ssh-ed25519 {KEY}\n", stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    return made


def test_answers_become_a_stack_that_can_be_laid_out(node: NodeStandin) -> None:
    node.pci = [
        {"id": "0000:41:00.0", **GPU},
        {"id": "0000:01:00.0", **GPU},
        {"id": "0000:02:00.0", "class": "0x020000", "vendor": "0x10de"},
    ]
    ask = Scripted({"--endpoint": "192.168.10.5"})
    path = init(Wishes("acme"), ask)
    assert path == inventory() / "acme/stack.yml"
    stack = load_stack(path).stack
    assert stack.domain == "acme.internal"
    assert stack.proxmox.endpoint == "https://192.168.10.5:8006"
    assert stack.proxmox.fingerprint == FINGERPRINT
    assert (stack.proxmox.node, stack.proxmox.storage, stack.proxmox.template_storage) == (
        "pve1",
        "tank",
        "local",
    )
    known = stack.nodes["pve1"]
    assert (known.address, known.host_key) == ("192.168.10.5", f"ssh-ed25519 {KEY}")
    assert (known.cores, known.memory) == (32, 131072)
    assert [gpu.pci for gpu in known.gpus] == ["0000:01:00.0", "0000:41:00.0"]
    assert stack.hosts["vllm"].gpus == (0, 1)
    assert stack.services["vllm"] == {"tensor_parallel": 2}
    assert str(stack.network.gateway) == "192.168.10.1"
    assert len(ask.trusted) == 2
    assert any(FINGERPRINT in text for text in ask.said)
    assert "  pool freehold-acme" in ask.said
    assert "openwebui" in {service.name for service in load_layout(path).services}


def test_cards_are_written_by_address_and_name(node: NodeStandin) -> None:
    """NVIDIA's first, since engines take them by position; graphics of the board are no cards."""
    node.pci = [
        {"id": "0000:00:02.0", "class": "0x030000", "vendor": "0x8086", "device": "0x4680", "device_name": "UHD 770"},
        {"id": "0000:03:00.0", "class": "0x038000", "vendor": "0x1002", "device": "0x74a1"},
        {"id": "0000:41:00.0", "class": "0x030200", "vendor": "0x10de", "device": "0x2684"},
    ]  # fmt: skip
    path = init(Wishes("acme", endpoint="192.168.10.5"), Scripted({}))
    stack = load_stack(path).stack
    assert [(gpu.pci, gpu.card, gpu.vendor) for gpu in stack.nodes["pve1"].gpus] == [
        ("0000:41:00.0", "rtx-4090", "nvidia"),
        ("0000:03:00.0", "mi300x", "amd"),
    ]
    assert stack.hosts["vllm"].gpus == (0,)
    assert "# NVIDIA GeForce RTX 4090" in path.read_text()


def test_the_largest_language_model_that_fits_is_proposed(node: NodeStandin) -> None:
    card = {"class": "0x030000", "vendor": "0x10de", "device": "0x2684"}
    node.pci = [{"id": "0000:01:00.0", **card}, {"id": "0000:41:00.0", **card}]
    path = init(Wishes("acme", endpoint="192.168.10.5"), Scripted({}))
    (served,) = load_layout(path).models
    assert (served.name, served.engine, served.tensor_parallel) == ("assistant", "vllm", 2)
    assert served.sizing is not None
    assert served.sizing["fits"]
    assert [gpu.card for gpu in load_layout(path).host("vllm").gpus] == ["rtx-4090", "rtx-4090"]


def test_a_node_without_gpus_gets_an_engine_on_the_cpu(node: NodeStandin) -> None:
    path = init(Wishes("acme", endpoint="https://pve.acme.internal:8006", root="password"), Scripted({}))
    stack = load_stack(path).stack
    assert stack.services["vllm"]["device"] == "cpu"
    assert list(stack.models) == ["qwen3-0.6b"]
    assert stack.nodes["pve1"].address is None
    assert stack.hosts["vllm"].gpus == ()


@pytest.mark.parametrize(("there", "taken"), [(1, 1), (3, 2), (4, 4)])
def test_a_language_model_is_spread_over_gpus_that_divide_it(
    node: NodeStandin, there: int, taken: int
) -> None:
    node.pci = [{"id": f"0000:0{number}:00.0", **GPU} for number in range(there)]
    stack = load_stack(init(Wishes("acme", endpoint="192.168.10.5"), Scripted({}))).stack
    assert len(stack.nodes["pve1"].gpus) == there
    assert len(stack.hosts["vllm"].gpus) == taken
    assert (stack.services["vllm"] or {}).get("tensor_parallel", 1) == taken


@pytest.mark.parametrize("device", ["0x2684", "0xffff"], ids=["a known card", "an unknown card"])
def test_the_engine_takes_the_memory_that_a_small_node_has_left(node: NodeStandin, device: str) -> None:
    there = 22 * 1024
    node.memory = there * 2**20
    node.pci = [{"id": "0000:01:00.0", "class": "0x030000", "vendor": "0x10de", "device": device}]
    path = init(Wishes("acme", endpoint="192.168.10.5"), Scripted({}))
    hosts = load_layout(path).hosts
    assert there - 2048 - 512 < sum(host.memory for host in hosts) <= there - 2048
    assert 8192 <= load_layout(path).host("vllm").memory < 16384


def test_a_node_with_memory_enough_gets_no_figure_for_the_engine(node: NodeStandin) -> None:
    node.pci = [{"id": "0000:01:00.0", **GPU}]
    assert (
        load_stack(init(Wishes("acme", endpoint="192.168.10.5"), Scripted({}))).stack.hosts["vllm"].memory
        is None
    )


def test_a_node_that_is_too_small_is_said_after_the_file_is_written(node: NodeStandin) -> None:
    node.memory = 8 * 2**30
    with pytest.raises(FreeholdError, match="is too little") as caught:
        init(Wishes("acme", endpoint="192.168.10.5"), Scripted({}))
    assert caught.value.exit_code is ExitCode.FAILED, "the panel must not say that nothing was touched"
    assert "stack.yml is written" in (caught.value.remedy or "")
    assert "freehold prepare acme" in (caught.value.remedy or "")


def test_vmids_and_addresses_avoid_what_is_there(node: NodeStandin) -> None:
    node.guests = [{"vmid": number, "type": "lxc", "node": "pve1"} for number in (1005, 1150)]
    node.configs = {
        1005: {"net0": "name=eth0,bridge=vmbr0,ip=192.168.10.104/24"},
        1150: {"net0": "name=eth0,bridge=vmbr0,ip=dhcp"},
    }
    stack = load_stack(init(Wishes("acme", endpoint="192.168.10.5"), Scripted({}))).stack
    assert stack.vmids.first == 1200
    assert str(stack.network.first) == "192.168.10.150"


def test_a_bridge_that_the_node_routes_has_the_node_as_gateway(node: NodeStandin) -> None:
    node.gateway = None
    stack = load_stack(init(Wishes("acme", endpoint="192.168.10.5"), Scripted({}))).stack
    assert str(stack.network.gateway) == "192.168.10.5"


def test_wishes_are_not_asked_again(node: NodeStandin) -> None:
    wishes = Wishes(
        "acme",
        endpoint="192.168.10.5",
        domain="ai.acme.example",
        fingerprint=FINGERPRINT.replace("AB", "CD"),
        root="password",
        node="pve2",
        storage="small",
        bridge="vmbr0",
        subnet="192.168.10.0/25",
    )
    ask = Scripted({})
    stack = load_stack(init(wishes, ask)).stack
    assert ask.trusted == []
    assert (stack.domain, stack.proxmox.node, stack.proxmox.storage) == ("ai.acme.example", "pve2", "small")
    assert str(stack.network.subnet) == "192.168.10.0/25"


@pytest.mark.parametrize(
    ("wishes", "named"),
    [
        ({"client": "Acme Corp"}, "Acme Corp"),
        ({"client": "../acme"}, "../acme"),
        ({"endpoint": "http://192.168.10.5"}, "http://192.168.10.5"),
        ({"endpoint": "192.168.10.5:port"}, "192.168.10.5:port"),
        ({"root": "sudo"}, "sudo"),
        ({"node": "pve9"}, "pve9"),
        ({"storage": "off"}, "off"),
        ({"bridge": "vmbr9"}, "vmbr9"),
        ({"subnet": "192.168.10.5/24"}, "192.168.10.5/24"),
        ({"domain": "no domain"}, "domain"),
        ({"fingerprint": "AB:CD"}, "fingerprint"),
    ],
)
def test_a_wrong_answer_writes_nothing(node: NodeStandin, wishes: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInputError) as caught:
        init(Wishes(**{"client": "acme", "endpoint": "192.168.10.5", **wishes}), Scripted({}))
    assert named in caught.value.message
    assert caught.value.remedy
    assert list(inventory().iterdir()) == []


def test_a_certificate_or_key_that_is_not_trusted_writes_nothing(node: NodeStandin) -> None:
    for wishes in (Wishes("acme", endpoint="h"), Wishes("acme", endpoint="h", fingerprint=FINGERPRINT)):
        with pytest.raises(BadInputError, match="not trusted"):
            init(wishes, Scripted({}, trusting=False))
        assert list(inventory().iterdir()) == []


def test_nobody_answers(node: NodeStandin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init_module.tls, "shown_fingerprint", lambda *_: None)
    with pytest.raises(BadInputError, match="No Proxmox VE API answers at https://h:8006"):
        init(Wishes("acme", endpoint="h"), Scripted({}))
    assert list(inventory().iterdir()) == []


def test_a_node_without_a_place_for_containers(node: NodeStandin) -> None:
    node.storages = node.storages[:1]
    with pytest.raises(FreeholdError, match="no active storage for containers"):
        init(Wishes("acme", endpoint="h"), Scripted({}))
    assert list(inventory().iterdir()) == []


def test_a_client_that_exists_is_left_alone(node: NodeStandin) -> None:
    path = init(Wishes("acme", endpoint="192.168.10.5"), Scripted({}))
    before = path.read_text()
    with pytest.raises(BadInputError, match="exists already"):
        init(Wishes("acme", endpoint="192.168.10.6"), Scripted({}))
    assert path.read_text() == before


def test_a_token_that_cannot_be_made_says_how_to_go_on(
    node: NodeStandin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(client: Client, *, password: str | None = None) -> Prepared:
        raise FreeholdError("The node refused", remedy="Mend it.")

    monkeypatch.setattr(init_module, "prepare", refused)
    with pytest.raises(FreeholdError) as caught:
        init(Wishes("acme", endpoint="192.168.10.5"), Scripted({}))
    remedy = caught.value.remedy or ""
    assert remedy.startswith("Mend it.")
    assert "freehold prepare acme" in remedy
    assert load_stack("acme").stack.client == "acme"


@pytest.mark.parametrize("command", ["false", "/nowhere/command", "true", "sh -c 'echo no >&2; exit 2'"])
def test_a_password_command_that_fails(command: str) -> None:
    wishes = Wishes("acme", "h", domain="a.internal", fingerprint=FINGERPRINT, password_command=command)
    with pytest.raises(NoRootError) as caught:
        init(wishes, Scripted({}))
    assert caught.value.where == "--password-command"
    assert caught.value.answer
    assert list(inventory().iterdir()) == []


def test_every_service_stands_in_the_file_and_works_as_it_stands_there(node: NodeStandin) -> None:
    path = init(Wishes("acme"), Scripted({"--endpoint": "192.168.10.5"}))
    assert {service.name for service in load_layout("acme").services} >= {"openwebui", "vllm"}
    path.write_text(re.sub(r"^  # (?=[a-z ])", "  ", path.read_text(), flags=re.MULTILINE))
    assert {service.name for service in load_layout("acme").services} == set(catalog.load())
