"""Bad input and faults, as a person meets them: exit code, one panel with the remedy, and nothing half-made.

The command line runs whole against the lab's API on a TLS socket, which misbehaves where a test says so; containers are
in memory alone.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tenacity import stop_after_attempt
from tests.conftest import Cli

from freehold import secrets, ssh, vault
from freehold.errors import ExitCode
from freehold.proxmox import client as client_module

from . import memory_backend_standin
from .faulty_lab_standin import Fault, FaultyLab

HOST_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIPEGnOW3Bd1tRQmi1GHn8wrBWv8Cvg4zvGzQ2ZqDwH3c"
VMIDS = [1010, 1020]
"""Caddy and Postgres, by their slots."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's home and inventory, and nobody's else."""
    for name in (vault.KEY_FILE, vault.KEY_VALUE, vault.KEY_COMMAND):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(vault, "_from_environment", None)
    monkeypatch.setattr(secrets, "handed", None)
    secrets._of.cache_clear()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("FREEHOLD_INVENTORY", str(tmp_path / "inventory"))
    monkeypatch.setattr(client_module, "wait_random_exponential", lambda **_: lambda state: 0.01)
    (tmp_path / "inventory/acme").mkdir(parents=True)
    return tmp_path


Make = Callable[..., FaultyLab]


@pytest.fixture
def make(home: Path) -> Iterator[Make]:
    """Starts a node; ``make(**options)``."""
    made: list[FaultyLab] = []

    def start(**options: Any) -> FaultyLab:
        lab = FaultyLab(home / f"node{len(made)}", **options)
        made.append(lab)
        return lab

    yield start
    for lab in made:
        lab.close()


def write_stack(home: Path, lab: FaultyLab, **changes: Any) -> None:
    """The stack file of ``acme`` for a node, with keys changed (``proxmox__storage``)."""
    (home / "root-password").write_text(lab.password)
    stack: dict[str, Any] = {
        "client": "acme",
        "domain": "acme.internal",
        "proxmox": {
            "endpoint": lab.endpoint,
            "ca_file": str(lab.certificate),
            "storage": "guests",
            "timeout": 5,
            "root_password_command": f"cat {home}/root-password",
        },
        "network": {"subnet": "10.86.0.0/24", "gateway": "10.86.0.1"},
        "services": {"caddy": None, "postgres": None},
        "egress": {"closed": False},  # two containers are enough for faults
    }
    for key, value in changes.items():
        first, _, second = key.partition("__")
        if second:
            stack[first] = {k: v for k, v in {**stack[first], second: value}.items() if v is not None}
        else:
            stack[first] = value
    (home / "inventory/acme/stack.yml").write_text(yaml.safe_dump(stack, sort_keys=False))


@pytest.fixture
def lab(home: Path, make: Make, cli: Cli) -> FaultyLab:
    """A node that is prepared for the client ``acme``, whose stack file is written."""
    node = make(pci=("0000:01:00.0",))
    prepare(home, node, cli)
    return node


def prepare(home: Path, node: FaultyLab, cli: Cli, **changes: Any) -> None:
    write_stack(home, node, **changes)
    said = cli("prepare", "acme")
    assert said.code == 0, said.err
    node.seen.clear()


@pytest.fixture
def scan(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers whose SSH server shows the key that the node printed."""
    monkeypatch.setattr(memory_backend_standin, "KEY", ssh.fingerprint(HOST_KEY))
    tools = home / "tools"
    tools.mkdir()
    tool = tools / "ssh-keyscan"
    tool.write_text(f'#!/bin/sh\nfor last; do :; done\necho "$last ssh-ed25519 {HOST_KEY}"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")


# --- the stack file


@pytest.mark.parametrize(
    ("changes", "named", "remedy"),
    [
        pytest.param({"proxmox__storge": "x"}, "proxmox.storge", 'did you mean "storage"', id="unknown key"),
        pytest.param({"vmids": {"first": "many"}}, "vmids.first", "must be a whole number", id="wrong type"),
        pytest.param(
            {"hosts": {"caddy": {"address": "192.0.2.7"}}},
            "hosts.caddy.address",
            "10.86.0.0/24",
            id="address outside the subnet",
        ),
        pytest.param({"hosts": {"caddy": {"vmid": 1020}}}, "1020", "postgres", id="one VMID for two hosts"),
        pytest.param(
            {"nodes": {"pve": {"gpus": [{"pci": "0000:01:00.0"}]}}, "hosts": {"caddy": {"gpus": [3]}}},
            "hosts.caddy.gpus",
            "Correct it",
            id="GPU that is not listed",
        ),
        pytest.param(
            {
                "nodes": {"pve": {"gpus": [{"pci": "0000:01:00.0"}]}},
                "hosts": {"caddy": {"gpus": [0]}, "postgres": {"gpus": [0]}},
            },
            "gpus",
            "caddy",
            id="GPU given twice",
        ),
        pytest.param(
            {"nodes": {"pve": {"memory": 3000}}},
            "nodes.pve.memory",
            "3000",
            id="more memory than is declared",
        ),
        pytest.param({"services": {"cady": None}}, "services.cady", "caddy", id="unknown service"),
        pytest.param({"proxmox__endpoint": "http://127.0.0.1:8006"}, "proxmox.endpoint", "https", id="http"),
        pytest.param(
            {"proxmox__ca_file": "/nowhere.pem"}, "proxmox.ca_file", "pvenode|pve-root-ca", id="no CA file"
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_asked(
    home: Path, lab: FaultyLab, cli: Cli, changes: dict[str, Any], named: str, remedy: str
) -> None:
    write_stack(home, lab, **changes)
    for command in ("up", "plan", "check"):
        said = cli(command, "acme")
        assert said.code == ExitCode.BAD_INPUT, said.err
        assert named in said.panel
        assert any(word in said.panel for word in remedy.split("|"))
        assert "Nothing was touched" in said.panel
    assert lab.seen == []


def test_vmids_of_two_clients_that_overlap(home: Path, lab: FaultyLab, cli: Cli) -> None:
    stack = yaml.safe_load((home / "inventory/acme/stack.yml").read_text())
    other = stack | {"client": "beta", "vmids": {"first": 1050}}
    (home / "inventory/beta").mkdir()
    (home / "inventory/beta/stack.yml").write_text(yaml.safe_dump(other))
    said = cli("up", "beta")
    assert said.code == ExitCode.BAD_INPUT
    assert "vmids.first" in said.panel
    assert "acme" in said.panel
    assert lab.seen == []


def test_a_key_that_is_not_the_secrets_own(
    home: Path, lab: FaultyLab, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "other").write_text("another key")
    monkeypatch.setenv(vault.KEY_FILE, str(home / "other"))
    before = (home / "inventory/acme/secrets.yml").read_bytes()
    said = cli("up", "acme")
    assert said.code == ExitCode.BAD_INPUT
    assert "secrets.yml" in said.panel
    assert vault.KEY_FILE in said.panel
    assert (home / "inventory/acme/secrets.yml").read_bytes() == before
    assert lab.seen == []


def test_a_client_without_a_token(home: Path, make: Make, cli: Cli) -> None:
    node = make()
    write_stack(home, node)
    said = cli("up", "acme")
    assert said.code == ExitCode.BAD_INPUT
    assert "freehold prepare acme" in said.panel
    assert node.seen == []


def test_down_wants_the_clients_name(lab: FaultyLab, cli: Cli, scan: None) -> None:
    assert cli("up", "acme", "--until", "start").code == 0
    lab.seen.clear()
    said = cli("down", "acme", "--confirm", "amce")
    assert said.code == ExitCode.BAD_INPUT
    assert "--confirm acme" in said.panel
    assert lab.writes == []
    assert lab.guests == VMIDS


# --- what the node lacks


@pytest.mark.parametrize(
    ("options", "changes", "named", "remedy"),
    [
        pytest.param(
            {},
            {"proxmox__storage": "gone"},
            "The node has no storage gone",
            "proxmox.storage",
            id="storage missing",
        ),
        pytest.param(
            {"storages": {"guests": 9}},
            {},
            "Storage guests has 9 GiB free",
            "hosts.<name>.disk",
            id="storage without space",
        ),
        pytest.param(
            {},
            {"network__bridge": "vmbr7"},
            "Node pve has no bridge vmbr7",
            "network.bridge",
            id="bridge missing",
        ),
        pytest.param(
            {"memory": 3 * 2**30},
            {},
            "node pve has 3072 MiB",
            "hosts.<name>.memory",
            id="more memory than the node",
        ),
        pytest.param(
            {"pci": ("0000:01:00.0",)},
            {"nodes": {"pve": {"gpus": [{"pci": "0000:41:00.0"}]}}, "hosts": {"caddy": {"gpus": [0]}}},
            "Node pve has no GPU at 0000:41:00.0",
            "nodes.pve.gpus",
            id="GPU missing",
        ),
        pytest.param(
            {}, {"proxmox__node": "pve2"}, "There is no node pve2; there is pve", "proxmox.node", id="node"
        ),
        pytest.param(
            {"pci": ("0000:01:00.0",)},
            {
                "nodes": {"pve": {"gpus": [{"pci": "0000:01:00.0"}]}},
                "hosts": {"caddy": {"gpus": [0]}},
                "proxmox__root_password_command": None,
            },
            "no way to become root",
            "proxmox.root_password_command",
            id="GPU without root",
        ),
        pytest.param(
            {"templates": ()},
            {},
            "Node pve has no debian-12 template and offers none",
            "pveam update",
            id="template",
        ),
    ],
)
def test_what_the_node_lacks_is_said_before_anything_is_made(
    home: Path,
    make: Make,
    cli: Cli,
    options: dict[str, Any],
    changes: dict[str, Any],
    named: str,
    remedy: str,
) -> None:
    node = make(**options)
    prepare(home, node, cli, **{k: v for k, v in changes.items() if v is not None})
    write_stack(home, node, **changes)
    said = cli("up", "acme")
    assert said.code == ExitCode.BAD_INPUT, said.err
    assert named in said.panel
    assert remedy in said.panel
    assert node.writes == []
    looked = cli("check", "acme")
    assert looked.code == ExitCode.BAD_INPUT
    assert named in " ".join(looked.out.split())
    assert node.writes == []


def test_a_token_without_a_privilege(home: Path, lab: FaultyLab, cli: Cli) -> None:
    with lab.state.change() as data:
        data["roles"]["FreeholdContainers"].remove("VM.Allocate")
    said = cli("up", "acme")
    assert said.code == ExitCode.BAD_INPUT
    assert "VM.Allocate on /pool/freehold-acme" in said.panel
    assert "freehold prepare acme" in said.panel
    assert lab.writes == []
    assert cli("prepare", "acme").code == 0
    assert cli("check", "acme").code == 0


def test_a_token_that_is_gone(lab: FaultyLab, cli: Cli) -> None:
    with lab.state.change() as data:
        data["tokens"].clear()
    said = cli("plan", "acme")
    assert said.code == ExitCode.FAILED
    assert "did not accept the token" in said.panel
    assert "freehold prepare" in said.panel
    assert lab.writes == []


def test_a_foreign_container_is_refused_before_anything_is_touched(
    lab: FaultyLab, cli: Cli, scan: None
) -> None:
    assert cli("up", "acme", "--until", "start").code == 0
    with lab.state.change() as data:
        data["guests"]["1020"] = _without_tags(data["guests"]["1020"])
    lab.seen.clear()
    for command in ("up", "check", "plan"):
        said = cli(command, "acme")
        assert said.code == ExitCode.BAD_INPUT, said.err
        assert "1020" in said.out + said.err
    assert lab.writes == []


def _without_tags(guest: Any) -> Any:
    """A guest of the lab's state as somebody else would have made it."""
    text = yaml.safe_dump(guest)
    return yaml.safe_load(text.replace("freehold", "someone").replace("acme", "other"))


# --- the API misbehaves


def test_nobody_listens(home: Path, lab: FaultyLab, cli: Cli) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    write_stack(home, lab, proxmox__endpoint=f"https://127.0.0.1:{port}")
    said = cli("up", "acme")
    assert said.code == ExitCode.FAILED
    assert f"127.0.0.1:{port} does not answer" in said.panel
    assert "proxmox.endpoint" in said.panel
    assert lab.seen == []


def test_a_certificate_that_is_not_the_trusted_one(home: Path, lab: FaultyLab, make: Make, cli: Cli) -> None:
    other = make()
    write_stack(home, lab, proxmox__ca_file=str(other.certificate))
    said = cli("up", "acme")
    assert said.code == ExitCode.FAILED
    assert "certificate that is not trusted" in said.panel
    assert "pvenode cert info" in said.panel
    write_stack(home, lab, proxmox__ca_file=None, proxmox__fingerprint=":".join(["AB"] * 32))
    said = cli("up", "acme")
    assert said.code == ExitCode.FAILED
    assert "expected AB:AB" in said.panel
    assert lab.seen == []


FAULTS = [
    pytest.param(Fault(500, "got no worker upid - start worker failed"), "start worker failed", id="500"),
    pytest.param(Fault(502, "Bad Gateway", "<html>"), "does not answer (status 502)", id="502"),
    pytest.param(Fault(596, "Connection timed out"), "does not answer (status 596)", id="596"),
    pytest.param(
        Fault(404, "Not Found", "<html>nginx</html>"), "not the Proxmox VE API", id="another server"
    ),
    pytest.param(Fault(200, "OK", "<html>hello</html>"), "not the Proxmox VE API", id="nonsense"),
    pytest.param(Fault(), "does not answer at all", id="closed"),
    pytest.param(Fault(silence=7), "does not answer in time", id="silence"),
]


@pytest.mark.parametrize(("fault", "named"), FAULTS)
def test_an_api_that_fails_from_the_start(
    lab: FaultyLab, cli: Cli, fault: Fault, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault.silence:
        monkeypatch.setattr(client_module, "ATTEMPTS", 1)
    lab.fault = lambda method, path: fault
    said = cli("up", "acme")
    assert said.code == ExitCode.FAILED
    assert named in said.panel
    assert "Remedy:" in said.panel
    assert lab.writes == []
    assert not lab.guests


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(500, "unable to create CT 1010"), id="500"),
        pytest.param(Fault(596, "Broken pipe", after=True), id="596 after it was done"),
        pytest.param(Fault(after=True), id="closed after it was done"),
        pytest.param(Fault(), id="closed before it was done"),
    ],
)
def test_what_a_fault_in_the_middle_leaves_is_finished_by_the_next_run(
    lab: FaultyLab, cli: Cli, scan: None, fault: Fault
) -> None:
    lab.fault = lambda method, path: (
        fault if method == "POST" and path == "/nodes/pve/lxc" and _first(lab, method, path) else None
    )
    said = cli("up", "acme", "--until", "start")
    assert said.code == ExitCode.FAILED
    assert "The stage containers failed on" in said.panel
    assert "Remedy:" in said.panel
    lab.fault = lambda method, path: None
    again = cli("up", "acme", "--until", "start")
    assert again.code == 0, again.err
    assert lab.guests == VMIDS
    assert sorted(lab.backend.running) == VMIDS
    lab.seen.clear()
    third = cli("up", "acme", "--until", "start")
    assert third.code == 0
    assert lab.writes == []
    assert "Nothing had to change" in third.out


def _first(lab: FaultyLab, method: str, path: str) -> bool:
    return lab.seen.count((method, path)) == 1


def test_a_task_that_fails_is_shown_with_its_log(
    lab: FaultyLab, cli: Cli, scan: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = lab.backend.create

    def full(guest: Any, *arguments: Any, **options: Any) -> None:
        if guest.vmid == 1020:
            raise memory_backend_standin.BackendError("mke2fs: No space left on device")
        create(guest, *arguments, **options)

    monkeypatch.setattr(lab.backend, "create", full)
    said = cli("up", "acme", "--until", "start")
    assert said.code == ExitCode.FAILED
    assert "failed on postgres" in said.panel
    assert "No space left on device" in said.panel
    assert "proxmox.storage" in said.panel
    assert lab.guests == [1010]
    monkeypatch.setattr(lab.backend, "create", create)
    assert cli("up", "acme", "--until", "start").code == 0
    assert lab.guests == VMIDS


# --- hosts


def test_a_host_that_does_not_answer_over_ssh(
    home: Path, lab: FaultyLab, cli: Cli, scan: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = home / "tools/ssh-keyscan"
    answering = tool.read_text()
    tool.write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setattr(ssh, "stop_after_delay", lambda _: stop_after_attempt(2))
    said = cli("up", "acme", "--until", "start")
    assert said.code == ExitCode.FAILED
    assert "does not answer over SSH at 10.86.0.1" in said.panel
    assert "bridge, VLAN and gateway" in said.panel
    tool.write_text(answering)
    assert cli("up", "acme", "--until", "start").code == 0
    assert (home / "inventory/acme/known_hosts").read_text().count("ssh-ed25519") == 2


def test_a_host_that_shows_a_key_of_another_machine(home: Path, lab: FaultyLab, cli: Cli, scan: None) -> None:
    tool = home / "tools/ssh-keyscan"
    tool.write_text(tool.read_text().replace(HOST_KEY, HOST_KEY.replace("Bd1t", "Bd2t")))
    said = cli("up", "acme", "--until", "start")
    assert said.code == ExitCode.FAILED
    assert "did not print when it made the container" in said.panel
    assert not (home / "inventory/acme/known_hosts").exists()


def test_a_node_that_does_not_answer_over_ssh(
    home: Path, lab: FaultyLab, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    node = {
        "gpus": [{"pci": "0000:01:00.0"}],
        "address": "127.0.0.1",
        "ssh_port": port,
        "host_key": f"ssh-ed25519 {HOST_KEY}",
    }
    write_stack(home, lab, nodes={"pve": node}, hosts={"caddy": {"gpus": [0]}})
    said = cli("up", "acme")
    assert said.code == ExitCode.BAD_INPUT
    assert "SSH to node pve" in said.panel
    assert "Connection refused" in said.panel
    assert lab.writes == []


def test_a_second_run_at_the_same_time(home: Path, lab: FaultyLab, cli: Cli) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom freehold.proxmox.lock import client_lock\n"
            "with client_lock('acme'):\n print('held', flush=True)\n sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    said = cli("up", "acme")
    holder.communicate()
    assert said.code == ExitCode.FAILED
    assert "Another run works on client acme" in said.panel
    assert f"process {holder.pid}" in said.panel
    assert lab.seen == []


# --- init


def test_init_makes_a_client_that_passes_the_check(home: Path, make: Make, cli: Cli) -> None:
    node = make(pci=("0000:01:00.0",), memory=64 * 2**30)
    (home / "root-password").write_text(node.password)
    asked = ["--yes", "--endpoint", node.endpoint, "--domain", "beta.internal", "--storage", "guests"]
    said = cli("init", "beta", *asked, "--password-command", f"cat {home}/root-password")
    assert said.code == 0, said.err
    text = (home / "inventory/beta/stack.yml").read_text()
    assert "0000:01:00.0" in text
    assert node.password not in text
    layout = cli("show", "layout", "beta")
    assert layout.code == 0, layout.err
    assert "10.86.0." in layout.out
    checked = cli("check", "beta")
    assert checked.code == 0, checked.out
    again = cli("init", "beta", *asked)
    assert again.code == ExitCode.BAD_INPUT
    assert "exists already" in again.panel


def test_init_at_a_wrong_endpoint_writes_nothing(home: Path, cli: Cli) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = cli("init", "beta", "--yes", "--endpoint", f"127.0.0.1:{port}", "--root", "password")
    assert said.code == ExitCode.BAD_INPUT
    assert f"No Proxmox VE API answers at https://127.0.0.1:{port}" in said.panel
    assert not (home / "inventory/beta").exists()


def test_init_with_a_wrong_password_writes_nothing(home: Path, make: Make, cli: Cli) -> None:
    node = make()
    asked = ["--yes", "--endpoint", node.endpoint, "--domain", "beta.internal"]
    said = cli("init", "beta", *asked, "--password-command", "echo wrong")
    assert said.code == ExitCode.FAILED
    assert "did not accept the token or password" in said.panel
    assert not (home / "inventory/beta").exists()
    assert node.writes == []


# --- the lab's own machine


@pytest.mark.parametrize("verb", ["start", "stop", "reset"])
@pytest.mark.parametrize(
    ("name", "value", "named", "remedy"),
    [
        pytest.param("sys.platform", "darwin", "cannot run on darwin", "Debian 12", id="not Linux"),
        pytest.param("is_root", lambda: False, "needs root", "sudo freehold lab", id="not root"),
        pytest.param("shutil.which", lambda *_, **__: None, "lxc", "apt", id="lxc missing"),
    ],
)
def test_a_machine_that_cannot_host_the_lab(
    home: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    name: str,
    value: Any,
    named: str,
    remedy: str,
) -> None:
    from freehold.lab.machine import setup

    monkeypatch.setattr(setup, "is_root", lambda: True)
    monkeypatch.setattr(f"freehold.lab.machine.setup.{name}", value)
    folder = home / "lab"
    said = cli("lab", verb, "--dir", str(folder))
    assert said.code == ExitCode.BAD_INPUT
    assert named in said.panel
    assert remedy in said.panel
    assert not folder.exists()
