"""The NVIDIA driver of a node, in a lab of its own: installed, stopped for a reboot, upgraded, taken back, cut off.

There is no GPU and no driver: the installer is the lab's stand-in, and the node's kernel and DKMS are those of
``kernel_standin.sh``. What is proven is what Freehold does: the options, the order, the stops, and that it goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold.catalog import versions
from freehold.lab.standins import nvidia_driver

from .freehold_command import Freehold

pytestmark = [pytest.mark.lab, pytest.mark.slow]

STATE = Path("/var/lib/freehold-lab-driver")
SUBNET = "10.87.0.0/24"
FIRST, SECOND = "580.126.18", versions.load()["nvidia-driver"].version
KERNEL = platform.release()
TOOLS = ("dkms", "modinfo", "modprobe", "update-initramfs")
BOOT_UNIT = """# Stand-in (tests): what the kernel loads when the node boots.
[Unit]
After=freehold-lab-gpus.service
Before=pve-guests.service ssh.service
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/boot
[Install]
WantedBy=multi-user.target
"""


@dataclass
class Node:
    """The node of the lab, and what the test puts on it."""

    freehold: Freehold

    def run(self, command: str, check: bool = True) -> str:
        options = [
            "-i",
            f"{STATE}/node_key",
            "-o",
            f"UserKnownHostsFile={STATE}/known_hosts",
            "-o",
            "BatchMode=yes",
        ]
        done = subprocess.run(
            ["ssh", *options, "-o", "ConnectTimeout=10", "root@10.87.0.2", command],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def write(self, path: str, content: str, mode: str = "755") -> None:
        command = f"mkdir -p {path.rsplit('/', 1)[0]} && cat > {path} && chmod {mode} {path}"
        options = [
            "-i",
            f"{STATE}/node_key",
            "-o",
            f"UserKnownHostsFile={STATE}/known_hosts",
            "-o",
            "BatchMode=yes",
        ]
        subprocess.run(
            ["ssh", *options, "root@10.87.0.2", command], input=content, text=True, check=True, timeout=60
        )

    def with_kernel(self) -> None:
        """Stand-ins of kernel, DKMS, compiler and headers, the last three as packages, since it is asked for packages."""
        self.write("/usr/local/sbin/dkms", (Path(__file__).parent / "kernel_standin.sh").read_text())
        for name in ("modinfo", "modprobe", "update-initramfs", "boot"):
            self.run(f"ln -sfn dkms /usr/local/sbin/{name}")
        for name in ("dkms", "build-essential", f"proxmox-headers-{KERNEL}"):
            control = f"Package: {name}\nVersion: 0+standin\nArchitecture: all\nMaintainer: test\nDescription: stand-in\n"
            self.write(f"/tmp/{name}/DEBIAN/control", control, "644")
            self.run(
                f"dpkg-deb -b /tmp/{name} /tmp/{name}.deb >/dev/null && dpkg -i /tmp/{name}.deb >/dev/null"
            )
        self.write(f"/lib/modules/{KERNEL}/build/Makefile", "# stand-in of headers\n", "644")
        self.write("/etc/systemd/system/standin-kernel.service", BOOT_UNIT, "644")
        self.run("systemctl daemon-reload && systemctl enable standin-kernel.service 2>/dev/null")
        self.run(
            "/usr/local/sbin/boot"
        )  # the lab's own stand-ins speak of a driver: here, none is installed yet

    def loaded(self) -> str:
        return self.run(
            "sed -n 's/.*Module  \\([0-9.]*\\) .*/\\1/p' /proc/driver/nvidia/version", check=False
        )

    def installed(self) -> str:
        return self.run(
            "cd /usr/lib/x86_64-linux-gnu && ls libcuda.so.*.* | sed s/libcuda.so.//", check=False
        )

    def reboot(self) -> None:
        """Reboot by hand, as an administrator would."""
        started = self.run("cut -d ' ' -f 22 /proc/1/stat")
        self.run("systemd-run --on-active=1 systemctl reboot", check=False)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            time.sleep(1)
            now = self.run("systemctl is-active -q pve-guests && cut -d ' ' -f 22 /proc/1/stat", check=False)
            if now not in {"", started}:
                return
        raise AssertionError("the lab's node did not come back")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A lab beside the one of the other tests: what is done to its node concerns nobody."""
    home = tmp_path_factory.mktemp("home")
    (home / "inventory").mkdir()
    freehold = Freehold(home, home / "inventory", {"FREEHOLD_LAB_DIR": str(STATE)})
    freehold("lab", "reset", code=None)
    freehold("lab", "start", "--port", "8017", "--bridge", "fhdrv0", "--subnet", SUBNET)
    try:
        yield Node(freehold)
    finally:
        freehold("lab", "reset")


def lock(lab: Node, version: str) -> None:
    """The client's lock names a version, whose stand-in the lab serves."""
    folder = STATE / "www/drivers"
    folder.mkdir(exist_ok=True)
    file = nvidia_driver.write(folder, version)
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    entry = {
        "version": version,
        "url": f"http://10.87.0.1:8080/drivers/{file.name}",
        "sha256": checksum,
        "stand_in": True,
    }
    overlay = lab.freehold.inventory / "driverlab/versions.yml"
    overlay.write_text(yaml.safe_dump({"nvidia-driver": entry}))


@pytest.fixture(scope="module")
def client(lab: Node) -> Freehold:
    """A client with one small host that has a GPU: what runs on it does not matter here."""
    path = lab.freehold.write(
        "driverlab", "10.87.0.9", 4300, services={"valkey": None}, hosts={"valkey": {"gpus": [0]}}
    )
    stack = yaml.safe_load(path.read_text())
    stack.pop("models", None)
    stack["proxmox"] |= {
        "endpoint": "https://127.0.0.1:8017",
        "ca_file": f"{STATE}/api.pem",
        "root_password_command": f"cat {STATE}/root-password",
    }
    stack["network"] |= {"subnet": SUBNET, "gateway": "10.87.0.1"}
    stack["nodes"]["pve"] |= {
        "address": "10.87.0.2",
        "ssh_key": f"{STATE}/node_key",
        "known_hosts": f"{STATE}/known_hosts",
        "driver": "managed",
    }
    path.write_text(yaml.safe_dump(stack, sort_keys=False))
    lock(lab, FIRST)
    lab.with_kernel()
    lab.freehold("prepare", "driverlab")
    return lab.freehold


def status(client: Freehold) -> dict[str, Any]:
    (node,) = client.json("driver", "status", "driverlab")
    return dict(node)


def error(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_check_says_what_is_going_to_happen(client: Freehold) -> None:
    findings = client.json("check", "driverlab")

    (found,) = (each for each in findings if each["about"] == "NVIDIA driver of pve")
    assert (found["status"], found["detail"]) == ("ok", f"{FIRST} is going to be installed")


def test_up_installs_the_locked_version_on_the_node_and_in_the_container(lab: Node, client: Freehold) -> None:
    client.up("driverlab", "--no-proof")

    assert lab.installed() == lab.loaded() == FIRST
    found = status(client)
    assert found["in_lockstep"]
    assert found["containers"] == {"valkey": FIRST}
    assert found["next_boot_ready"]
    node = lab.run("cat /var/log/nvidia-installer.log")
    assert " --silent --dkms " in node
    container = client.ssh(
        "driverlab", "valkey", "cat /var/log/nvidia-installer.log; find / -xdev -name 'nvidia*.ko'"
    ).stdout
    assert " --no-kernel-modules " in container
    assert "nvidia.ko" not in container
    assert "blacklist nouveau" in lab.run("cat /etc/modprobe.d/freehold-nvidia.conf")
    assert lab.run("cat /run/update-initramfs") == "-u -k all"
    for unit in (
        "nvidia-persistenced.service",
        "freehold-driver-verify.timer",
        "freehold-gpu-driverlab.service",
    ):
        assert lab.run(f"systemctl is-active {unit}") == "active", unit


def test_the_proof_holds_and_says_what_it_cannot_prove(client: Freehold) -> None:
    client("verify", "driverlab")

    report = sorted((client.inventory / "driverlab/runs").glob("*/proof.xml"))[-1].read_text()
    assert "test_user_space_of_the_driver_is_whole" in report
    assert "is not proven here" in report


def test_a_second_run_changes_nothing(client: Freehold) -> None:
    lines = client("up", "driverlab", "--json", "--no-proof").stdout.splitlines()

    changed = [json.loads(line) for line in lines if '"status":"changed"' in line]
    assert [(event["host"], event["step"]) for event in changed] == []


def test_a_kernel_without_a_module_is_seen_before_the_reboot(lab: Node, client: Freehold) -> None:
    lab.run("touch /boot/vmlinuz-99.1.0-1-pve")
    try:
        lab.run("systemctl start freehold-driver-verify.service", check=False)
        assert "DO NOT REBOOT THIS NODE" in lab.run("journalctl -q -o cat -u freehold-driver-verify -n 5")
        findings = client.json("check", "driverlab", code=None)
        assert any("would come back without GPUs" in each["detail"] for each in findings)
    finally:
        lab.run("rm -f /boot/vmlinuz-99.1.0-1-pve")
    lab.run("systemctl start freehold-driver-verify.service")


def test_another_lock_changes_nothing_until_it_is_asked_for(lab: Node, client: Freehold) -> None:
    lock(lab, SECOND)

    client.up("driverlab", "--no-proof")

    assert lab.installed() == lab.loaded() == FIRST
    steps = client.json("driver", "upgrade", "driverlab", "--dry-run")["pve"]
    assert steps[0].startswith("Stop valkey of driverlab (container ")
    assert f"Install the driver {SECOND} on pve in place of {FIRST}" in steps
    assert lab.installed() == FIRST


def test_an_upgrade_that_is_killed_goes_on(lab: Node, client: Freehold) -> None:
    """Killed while the installer has the old files gone and the new ones not there."""
    lab.run("echo PAUSE=60 >> /etc/environment")
    child = client.start("driver", "upgrade", "driverlab", "--json")
    try:
        deadline = time.monotonic() + 120
        while "sleep 60" not in lab.run("ps -eo args"):
            assert time.monotonic() < deadline, "the installer never ran"
            assert child.poll() is None, "the upgrade ended before it could be cut off"
            time.sleep(0.3)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    lab.run("sed -i /^PAUSE/d /etc/environment")
    lab.run("pkill -x sleep; true")
    assert lab.run("cat /var/lib/freehold/nvidia-unfinished") == SECOND
    assert status(client)["unfinished"] == SECOND

    stopped = client("driver", "upgrade", "driverlab", "--json", code=1)

    assert error(stopped)["error"] == "RebootNeededError"
    assert "same command again" in error(stopped)["remedy"]
    assert (lab.installed(), lab.loaded()) == (SECOND, FIRST)
    assert status(client)["reboot"]


def test_after_the_reboot_the_same_command_ends_it(lab: Node, client: Freehold) -> None:
    lab.reboot()

    client("driver", "upgrade", "driverlab")

    found = status(client)
    assert lab.loaded() == SECOND
    assert found["in_lockstep"]
    assert found["containers"] == {"valkey": SECOND}
    assert found["former"] == FIRST
    old = client.ssh("driverlab", "valkey", f"ls /usr/lib/x86_64-linux-gnu/libcuda.so.{FIRST}")
    assert old.returncode != 0


def test_the_way_back_comes_from_the_cache(lab: Node, client: Freehold) -> None:
    """With ``--reboot`` it goes through; the node needs nothing from outside."""
    served = STATE / f"www/drivers/NVIDIA-Linux-x86_64-{FIRST}.run"
    assert f"NVIDIA-Linux-x86_64-{FIRST}.run" in lab.run("ls /var/cache/freehold/nvidia")
    assert served.exists()  # containers fetch it anew

    client("driver", "rollback", "driverlab", "--reboot")

    assert lab.installed() == lab.loaded() == FIRST
    found = status(client)
    assert found["in_lockstep"]
    assert found["containers"] == {"valkey": FIRST}
    assert found["locked"] == SECOND


def test_another_client_that_locks_its_own_version_is_heard(lab: Node, client: Freehold) -> None:
    """Its folder is not here: the other client is named, and nobody is touched."""
    lab.write("/etc/freehold/nvidia/other", f"{FIRST} own\n", "644")
    lab.write(
        "/etc/pve/lxc/9001.conf",
        "dev0: /dev/nvidia1\nhostname: other-vllm\ntags: client-other;freehold\n",
        "644",
    )
    try:
        refused = client("driver", "upgrade", "driverlab", "--json", code=2)
        assert error(refused)["error"] == "SharedNodeError"
        assert "other-vllm of other" in error(refused)["message"]

        locked = client("driver", "upgrade", "driverlab", "--json", "--leave-stopped", code=2)
        assert f"other (other-vllm) locks {FIRST}, and driverlab {SECOND}" in error(locked)["answer"]
        assert lab.installed() == FIRST
        assert client.json("status", "driverlab")[0]["state"] == "running"
    finally:
        lab.run("rm -f /etc/freehold/nvidia/other /etc/pve/lxc/9001.conf")
