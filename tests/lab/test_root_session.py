"""A node that gives no SSH: the token, its template and its root steps all go through the API.

The node is a lab of its own, since it must offer templates that are not fetched yet, and must have no GPU device nodes.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold.lab import service
from freehold.lab.machine.paths import LabPaths
from freehold.lab.machine.setup import LabSettings

from .freehold_command import Freehold

pytestmark = pytest.mark.lab

CLIENT = "session"
SETTINGS = LabSettings(port=18009, bridge="fhuser9", subnet="10.98.89.0/24")

Node = Callable[[str], str]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    # not pytest's own folders: containers have to pass through those above their files, and paths of sockets are short
    with tempfile.TemporaryDirectory(prefix="fhsession-") as place:
        Path(place).chmod(0o755)
        yield Path(place)


@pytest.fixture(scope="module")
def lab(home: Path) -> Iterator[dict[str, Any]]:
    paths = LabPaths.from_environment(home / "lab")
    try:
        yield service.start(paths, SETTINGS, print)
    finally:
        service.reset(paths, print, purge=False)


@pytest.fixture(scope="module")
def node(lab: dict[str, Any]) -> Node:
    """What the administrator does at the node; Freehold has no such way."""
    access = lab["node"]
    ssh = ["ssh", "-i", access["ssh_key"], "-o", f"UserKnownHostsFile={access['known_hosts']}"]

    def run(command: str) -> str:
        done = subprocess.run(
            [*ssh, f"root@{access['address']}", command], capture_output=True, text=True, check=True
        )
        return done.stdout

    return run


@pytest.fixture(scope="module")
def client(home: Path, lab: dict[str, Any], node: Node) -> Freehold:
    node("mkdir /srv/models && echo tiny > /srv/models/name && chmod -R a+rX /srv/models")
    stack = {
        "client": CLIENT,
        "domain": f"{CLIENT}.internal",
        "proxmox": {
            "endpoint": lab["endpoint"],
            "ca_file": lab["certificate"],
            "storage": "guests",
            "root_password_command": f"cat {lab['root_password_file']}",
        },
        "network": {"subnet": SETTINGS.subnet, "gateway": "10.98.89.1", "first": "10.98.89.100"},
        "nodes": {"pve": {"gpus": [{"pci": "0000:01:00.0"}, {"pci": "0000:02:00.0"}]}},
        "services": {"caddy": None},
        "egress": {"closed": False},
        "hosts": {"caddy": {"gpus": [1], "mounts": {"/srv/models": "/srv/models"}}},
    }
    path = home / "inventory" / CLIENT / "stack.yml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(stack), encoding="utf-8")
    return Freehold(home, home / "inventory")


def test_the_token_is_made_in_a_session(client: Freehold) -> None:
    assert f"freehold@pve!{CLIENT}" in client("prepare", CLIENT).stdout


def test_check_says_what_the_administrator_has_to_do(client: Freehold) -> None:
    findings = client.json("check", CLIENT)
    told = {finding["about"]: finding for finding in findings if finding["status"] != "ok"}
    # The lab's datacenter firewall is off, as that of a new Proxmox VE is.
    assert told.keys() == {"GPU device nodes of pve", "Proxmox firewall"}
    assert "nvidia-modprobe -u -c 0" in told["GPU device nodes of pve"]["remedy"]


def test_without_device_nodes_it_stops_and_says_why(client: Freehold, node: Node) -> None:
    assert "standard" not in node("pveam list local")
    stopped = client("up", CLIENT, code=1).stderr
    assert "nvidia-modprobe" in stopped
    assert "debian-12-standard" in node("pveam list local")


def test_it_goes_on_and_proves_the_host(client: Freehold, node: Node) -> None:
    node("nvidia-modprobe -c 0 -c 1 && nvidia-modprobe -u -c 0")
    summary = client.up(CLIENT)
    assert "start" in summary["changes"]
    assert summary["passed"] > 10


def test_devices_and_directories_are_in_the_container(client: Freehold) -> None:
    assert client.ssh(CLIENT, "caddy", "cat /srv/models/name").stdout == "tiny\n"
    assert client.ssh(CLIENT, "caddy", "stat -c '%G %a' /dev/nvidia1").stdout == "gpu 660\n"
    assert client.ssh(CLIENT, "caddy", "ls /dev/nvidia0").returncode != 0


def test_a_second_run_changes_nothing_and_needs_no_root(client: Freehold) -> None:
    stack = client.inventory / CLIENT / "stack.yml"
    text = stack.read_text(encoding="utf-8")
    stack.write_text(text.replace("root_password_command: cat ", "root_password_command: cat /nowhere"))
    assert client.up(CLIENT, "--no-proof")["changes"] == {}
    stack.write_text(text)


def test_the_password_is_in_nothing_that_runs_write(client: Freehold, lab: dict[str, Any]) -> None:
    password = Path(lab["root_password_file"]).read_bytes().strip()
    written = client.written(CLIENT)
    assert len(written) > 5
    assert [path for path in written if password in path.read_bytes()] == []


def test_down_removes_the_container(client: Freehold, node: Node) -> None:
    client("down", CLIENT, "--confirm", CLIENT)
    assert CLIENT not in node("pct list")
