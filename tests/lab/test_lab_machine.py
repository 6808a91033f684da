"""The lab's machine on real containers: root, LXC and a Debian archive are needed (`make lab-test`).

A lab of its own, with its own folder, bridge and subnet, so that a lab that runs on this machine is left alone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest

from freehold.errors import BadInputError
from freehold.lab import service
from freehold.lab.backend import BackendError, Guest
from freehold.lab.machine import setup, smallstorage, templates
from freehold.lab.machine.lxc import LxcBackend
from freehold.lab.machine.network import LabNetwork
from freehold.lab.machine.node import LabNode
from freehold.lab.machine.paths import LabPaths
from freehold.lab.machine.rootfs import remove_tree
from freehold.lab.machine.setup import LabSettings

pytestmark = pytest.mark.lab

SETTINGS = LabSettings(port=18006, bridge="fhtest0", subnet="10.98.86.0/24")
DEBIAN_12, DEBIAN_13 = (template.name for template in templates.OFFERED)


class Machine:
    """What the tests of the machine share: a backend with its node, a key, guests that are removed at the end."""

    def __init__(self, paths: LabPaths, key: Path) -> None:
        self.paths = paths
        self.network: LabNetwork = SETTINGS.network()
        self.node = LabNode(paths, self.network)
        self.backend = LxcBackend(paths, self.network, self.node.overlay.rootfs)
        self.key = key
        self.guests: dict[int, Guest] = {}

    def address(self, vmid: int) -> str:
        return str(self.network.subnet[vmid % 200 + 20])

    def guest(self, vmid: int, storage: Path | None = None, **config: str) -> Guest:
        values = {
            "hostname": f"ct{vmid}",
            "memory": "256",
            "swap": "128",
            "cores": "1",
            "unprivileged": "1",
            "features": "nesting=1",
            "rootfs": f"guests:{vmid}/vm-{vmid}-disk-0.raw,size=2G",
            "net0": f"name=eth0,bridge=vmbr0,gw={self.network.gateway},hwaddr=BC:24:11:00:01:{vmid % 256:02X},"
            f"ip={self.address(vmid)}/24,type=veth",
            **config,
        }
        folder = (storage or self.paths.guests) / "images" / str(vmid)
        keys = [
            k for k, v in values.items() if k == "rootfs" or (k.startswith("mp") and not v.startswith("/"))
        ]
        volumes = {key: folder / f"vm-{vmid}-{key}" for key in keys}
        guest = Guest(vmid, values, volumes)
        self.guests[vmid] = guest
        return guest

    def create(self, guest: Guest, template: str = DEBIAN_12) -> list[str]:
        log: list[str] = []
        public = self.key.with_suffix(".pub").read_text()
        archive = self.paths.templates / template
        self.backend.create(guest, archive, ssh_public_keys=public, password="tests-only", log=log.append)
        return log

    def start(self, guest: Guest) -> None:
        self.backend.start(guest, lambda _: None)
        self.ssh(guest.vmid, "systemctl is-system-running --wait")

    def ssh(self, vmid: int | str, command: str, *, check: bool = True) -> str:
        address = self.address(vmid) if isinstance(vmid, int) else vmid
        key = self.key if isinstance(vmid, int) else self.paths.node_key
        options = [
            "-i",
            str(key),
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "LogLevel=ERROR",
        ]
        options += ["-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5"]
        deadline = time.monotonic() + 30
        while True:
            done = subprocess.run(
                ["ssh", *options, f"root@{address}", command], capture_output=True, text=True
            )
            if done.returncode != 255 or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout if check else done.stdout + done.stderr

    def on_node(self, command: str, *, check: bool = True) -> str:
        return self.ssh(str(self.network.node_address), command, check=check)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="freehold-lab-test-", dir="/var/lib"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def machine(folder: Path) -> Iterator[Machine]:
    paths = LabPaths.from_environment(folder / "machine")
    setup.check_host(paths)
    before = os.umask(0o022)
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    paths.make()
    service.publish_certificate(paths)
    setup.bring_up(paths, SETTINGS, print)
    yield Machine(paths, key)
    setup.take_down(paths, SETTINGS, print)
    setup.remove(paths, purge=False)
    os.umask(before)


@pytest.fixture
def guests(machine: Machine) -> Iterator[Machine]:
    yield machine
    for guest in machine.guests.values():
        machine.backend.destroy(guest, lambda _: None)
    machine.guests.clear()


@pytest.mark.parametrize("template", [DEBIAN_12, DEBIAN_13])
def test_a_container_from_creation_to_removal(guests: Machine, template: str) -> None:
    guest = guests.guest(101, searchdomain="example.internal", timezone="Europe/Berlin")
    log = guests.create(guest, template)
    assert log[0] == f"extracting archive '/var/lib/vz/template/cache/{template}'"
    assert log[1].startswith("Total bytes read: ")
    assert not guests.backend.status(101).running
    guests.start(guest)

    keys = subprocess.run(
        ["ssh-keyscan", "-t", "ed25519", guests.address(101)], capture_output=True, text=True
    )
    shown = subprocess.run(
        ["ssh-keygen", "-lf", "-"], input=keys.stdout, capture_output=True, text=True, check=True
    )
    assert f"done: {shown.stdout.split()[1]} root@ct101" in log, (
        "the key that the task log names is the one that serves"
    )

    assert guests.ssh(101, "systemctl is-system-running").strip() == "running"
    assert guests.ssh(101, "hostname -f").strip() == "ct101.example.internal"
    assert guests.ssh(101, "awk 'NR==1{print $2}' /proc/self/uid_map").strip() == "100000"
    assert guests.ssh(101, "nproc").strip() == "1"
    assert "CET" in guests.ssh(101, "date -d 2026-01-01 +%Z")
    assert "search example.internal" in guests.ssh(101, "cat /etc/resolv.conf")
    # hardened units, as the services of a stack are
    guests.ssh(
        101, "systemd-run --wait -q -p DynamicUser=1 -p ProtectSystem=strict -p ProtectProc=invisible true"
    )
    guests.ssh(101, "apt-get update -q && apt-get install -qy --no-install-recommends jq && jq --version")
    status = guests.backend.status(101)
    assert status.running
    assert status.pid
    assert 0 < status.mem < 256 * 1024 * 1024
    deadline = time.monotonic() + 60
    while (disk := guests.backend.status(101).disk) == 0 and time.monotonic() < deadline:
        time.sleep(0.2)  # it is counted beside the answers
    assert disk > 100 * 1024 * 1024
    assert [f"{guests.address(101)}/24"] == [
        i.inet[0] for i in guests.backend.interfaces(101) if i.name == "eth0"
    ]

    assert guests.backend.shutdown(101, 30, lambda _: None)
    assert not guests.backend.status(101).running
    guests.start(guest)
    guests.ssh(101, "jq --version")
    guests.backend.stop(101, lambda _: None)
    guests.backend.destroy(guest, lambda _: None)
    assert not guest.volumes["rootfs"].exists()
    assert str(guest.volumes["rootfs"]) not in Path("/proc/self/mountinfo").read_text()


def test_two_containers_reach_each_other_and_nothing_else_of_the_host(guests: Machine) -> None:
    for vmid in (101, 102):
        guests.create(guests.guest(vmid))
        guests.start(guests.guests[vmid])
    assert guests.ssh(101, f"head -c 4 </dev/tcp/{guests.address(102)}/22") == "SSH-"
    with socket.create_server((str(guests.network.gateway), 0)) as listener:
        port = listener.getsockname()[1]
        answer = guests.ssh(
            101,
            f"timeout 5 bash -c 'echo </dev/tcp/{guests.network.gateway}/{port}' && echo open || echo closed",
        )
    assert "closed" in answer


def test_devices_come_from_the_node_with_the_owner_asked_for(guests: Machine) -> None:
    guest = guests.guest(103, dev0="/dev/nvidia0,gid=2107,mode=0660", dev1="/dev/nvidia-uvm,uid=5,mode=0666")
    other = guests.guest(104)
    guests.create(guest)
    guests.create(other)
    assert not guests.backend.device_exists("/dev/nvidia0")
    log: list[str] = []
    with pytest.raises(BackendError, match="startup for container '103' failed"):
        guests.backend.start(guest, log.append)
    assert log == ["Could not get mode or device ID of /dev/nvidia0"]

    guests.on_node("nvidia-modprobe -u -c 0")
    assert not guests.backend.device_exists("/dev/nvidia0")
    guests.on_node("nvidia-modprobe -c 0 -c 1 && nvidia-smi -L")
    assert guests.backend.device_exists("/dev/nvidia0")
    assert not guests.backend.device_exists("/etc/passwd")
    guests.start(guest)
    guests.start(other)
    shown = guests.ssh(103, "stat -c '%n %F %u %g %a %t:%T' /dev/nvidia*").splitlines()
    assert shown == [
        "/dev/nvidia-uvm character special file 5 0 666 1:3",
        "/dev/nvidia0 character special file 0 2107 660 1:3",
    ]
    assert guests.ssh(103, "head -c 1 /dev/nvidia0 | wc -c && echo x > /dev/nvidia-uvm").strip() == "0"
    assert guests.ssh(104, "ls /dev/nvidia* 2>/dev/null | wc -l").strip() == "0"

    hot = replace(guest, config={**guest.config, "dev2": "/dev/nvidia1,gid=2107"})
    guests.backend.apply(hot, frozenset({"dev2"}), lambda _: None)
    assert guests.ssh(103, "stat -c '%u %g %a %t:%T' /dev/nvidia1").strip() == "0 2107 660 1:3"


def test_volumes_and_bind_mounts(guests: Machine) -> None:
    guests.on_node(
        "mkdir -p /srv/models && echo weights > /srv/models/m && chown -R 100000:100000 /srv/models"
    )
    guest = guests.guest(
        105, mp0="guests:105/vm-105-disk-1.raw,mp=/data,size=1G", mp1="/srv/models,mp=/models,ro=1"
    )
    guests.create(guest)
    guests.start(guest)
    assert guests.ssh(105, "cat /models/m && stat -c %u:%g /models /data").split() == [
        "weights",
        "0:0",
        "0:0",
    ]
    assert "Read-only" in guests.ssh(105, "touch /models/x", check=False)
    guests.ssh(105, "echo kept > /data/file")
    volume = guests.paths.guests / "images/105/vm-105-mp2"
    hot = Guest(105, {**guest.config, "mp2": "guests:105/x,mp=/new/place"}, {**guest.volumes, "mp2": volume})
    guests.guests[105] = hot
    guests.backend.apply(hot, frozenset({"mp2"}), lambda _: None)
    guests.ssh(105, "echo hot > /new/place/file")
    guests.backend.shutdown(105, 30, lambda _: None)
    guests.start(hot)
    assert guests.ssh(105, "cat /data/file /new/place/file").split() == ["kept", "hot"]
    missing = guests.guest(106, mp0="/srv/none,mp=/none")
    with pytest.raises(BackendError, match=r"^directory '/srv/none' does not exist$"):
        guests.create(missing)


def test_changes_of_a_running_container(guests: Machine) -> None:
    guest = guests.guest(107)
    guests.create(guest)
    guests.start(guest)
    config = {**guest.config, "memory": "512", "hostname": "renamed"}
    config["net0"] = config["net0"].replace(guests.address(107), guests.address(108))
    config["net1"] = "name=eth1,bridge=vmbr0,hwaddr=BC:24:11:00:02:02,ip=10.99.0.2/24,tag=30,type=veth"
    changed = replace(guest, config=config)
    guests.backend.apply(changed, frozenset({"memory", "net0", "net1", "hostname"}), lambda _: None)
    limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    assert guests.ssh(108, limit).strip() == str(512 * 1024 * 1024)
    addresses = {i.name: list(i.inet) for i in guests.backend.interfaces(107)}
    assert addresses["eth0"] == [f"{guests.address(108)}/24"]
    assert addresses["eth1"] == ["10.99.0.2/24"]
    assert "10.99.0.2/24" in guests.ssh(108, "cat /etc/network/interfaces")
    shown = subprocess.check_output(
        ["ip", "-j", "-6", "addr", "show", "scope", "link", "dev", f"{guests.network.bridge}v30"]
    )
    (bridge,) = (address["local"] for link in json.loads(shown) for address in link["addr_info"])
    with socket.create_server(("::", 0), family=socket.AF_INET6) as door:
        knock = f"timeout 3 bash -c 'exec 3<>/dev/tcp/{bridge}%eth1/{door.getsockname()[1]}' && echo opened"
        assert "opened" not in guests.ssh(108, knock, check=False)
    del config["net1"]
    guests.backend.apply(replace(guest, config=config), frozenset({"net1"}), lambda _: None)
    assert [i.name for i in guests.backend.interfaces(107)] == ["lo", "eth0"]


def test_a_clone_has_its_own_name_and_machine_id(guests: Machine) -> None:
    guest = guests.guest(109)
    guests.create(guest)
    guests.start(guest)
    guests.ssh(109, "echo cloned > /root/file")
    before = guests.ssh(109, "cat /etc/machine-id")
    guests.backend.shutdown(109, 30, lambda _: None)
    copy = guests.guest(110)
    guests.backend.clone(guest, copy, lambda _: None)
    guests.start(copy)
    assert guests.ssh(110, "hostname && cat /root/file").split() == ["ct110", "cloned"]
    assert guests.ssh(110, "cat /etc/machine-id") != before


def test_a_full_disk_is_full(guests: Machine) -> None:
    assert os.path.ismount(guests.paths.small)
    guest = guests.guest(111, storage=guests.paths.small)
    guests.create(guest)
    guests.start(guest)
    answer = guests.ssh(111, f"dd if=/dev/zero of=/fill bs=1M count={smallstorage.SIZE >> 20}", check=False)
    assert "No space left on device" in answer
    guests.ssh(111, "rm /fill")


def test_a_link_in_a_container_never_leads_to_the_hosts_files(guests: Machine) -> None:
    guest = guests.guest(112)
    guests.create(guest)
    guests.start(guest)
    victim = guests.paths.state / "victim"
    victim.write_text("untouched")
    for path in ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/etc/network/interfaces"):
        guests.ssh(112, f"ln -sf {victim} {path}")
    guests.backend.stop(112, lambda _: None)
    guests.start(guest)
    assert victim.read_text() == "untouched"
    assert not victim.is_symlink()
    guests.ssh(112, "rm -r /etc/network && ln -s /etc /etc/network")
    guests.backend.stop(112, lambda _: None)
    with pytest.raises(BackendError):
        guests.backend.start(guest, lambda _: None)


@pytest.mark.parametrize("folder", ["mount", "a/b/c/d/e/mount"], ids=["beside the files", "deep among them"])
def test_what_is_mounted_in_a_volume_is_not_removed_with_it(tmp_path: Path, folder: str) -> None:
    volume = tmp_path / "volume"
    mount = volume / folder
    mount.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(mount)], check=True)
    try:
        (mount / "kept").touch()
        with pytest.raises(BackendError):
            remove_tree(volume)
        assert (mount / "kept").exists()
    finally:
        subprocess.run(["umount", str(mount)], check=True)
    remove_tree(volume)
    assert not volume.exists()


def test_a_host_that_cannot_hold_the_lab_is_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freehold.lab.machine.setup.is_root", lambda: False)
    with pytest.raises(BadInputError, match="needs root"):
        setup.check_host(machine.paths)
    monkeypatch.undo()
    monkeypatch.setattr("freehold.lab.machine.setup.sys.platform", "darwin")
    with pytest.raises(BadInputError, match="cannot run on darwin"):
        setup.check_host(machine.paths)
    monkeypatch.undo()
    monkeypatch.setattr(
        "freehold.lab.machine.setup.shutil.which", lambda tool, path: None if "lxc" in tool else tool
    )
    with pytest.raises(BadInputError, match="not installed: lxc") as refused:
        setup.check_host(machine.paths)
    assert refused.value.remedy == "Run: apt-get install -y lxc"


def test_a_bridge_or_subnet_of_the_host_is_refused(machine: Machine) -> None:
    with pytest.raises(BadInputError, match="overlaps"):
        LabNetwork("fhtest9", machine.network.subnet).ensure()
    with pytest.raises(BadInputError, match="an interface named lo exists"):
        LabNetwork("lo").ensure()


def test_the_lab_survives_kill_and_the_node_serves_its_commands(folder: Path) -> None:
    """The whole lab: start, a guest by `pct` over SSH to the node, kill -9, start, stop, start, reset."""
    paths = LabPaths.from_environment(folder / "whole")
    settings = LabSettings(port=18016, bridge="fhtest1", subnet="10.98.87.0/24")
    try:
        first = service.start(paths, settings, print)
        assert first["running"]
        with ThreadPoolExecutor(max_workers=3) as pool:
            again = list(pool.map(lambda _: service.start(paths, settings, print), range(3)))
        assert [one["pid"] for one in again] == [first["pid"]] * 3
        node = first["node"]
        ssh = [
            "ssh",
            "-i",
            node["ssh_key"],
            "-o",
            "BatchMode=yes",
            "-o",
            f"UserKnownHostsFile={node['known_hosts']}",
        ]

        def on_node(command: str, status: int = 0) -> str:
            done = subprocess.run([*ssh, f"root@{node['address']}", command], capture_output=True, text=True)
            assert done.returncode == status, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
            return done.stdout if status == 0 else done.stderr

        assert "pve-manager/" in on_node("pveversion")
        assert DEBIAN_12 in on_node("pveam available --section system")
        on_node(f"pveam download local {DEBIAN_12}")
        assert f"local:vztmpl/{DEBIAN_12}" in on_node("pveam list local")
        on_node(f"test -s /var/lib/vz/template/cache/{DEBIAN_12}")
        assert "does not exist" in on_node("pct status 100", status=2)
        net = "name=eth0,bridge=vmbr0,ip=10.98.87.50/24,gw=10.98.87.1"
        on_node(
            f"pct create 100 local:vztmpl/{DEBIAN_12} --hostname web --rootfs guests:1 --memory 256 --onboot 1 "
            f"--unprivileged 1 --features nesting=1 --net0 {net} --password tests-only"
        )
        on_node("nvidia-modprobe -c 0 && pct set 100 --dev0 /dev/nvidia0,gid=2107 && pct start 100")
        assert on_node("pct status 100") == "status: running\n"
        assert "dev0: /dev/nvidia0,gid=2107" in on_node("pct config 100")
        assert "100        running                 web" in on_node("pct list")
        on_node(
            'pveum role add Tests --privs "VM.Audit" && pveum user add a@pve && pveum acl modify / -user a@pve -role Tests'
        )
        token = json.loads(on_node("pveum user token add a@pve tests --privsep 0 --output-format json"))
        assert token["full-tokenid"] == "a@pve!tests"
        assert "guests" in on_node("pvesm status")

        with urlopen(first["files"]) as page:
            assert page.status == 200

        os.kill(first["pid"], signal.SIGKILL)
        deadline = time.monotonic() + 10
        while service.status(paths)["running"] and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not service.status(paths)["running"]
        second = service.start(paths, settings, print)
        assert second["pid"] != first["pid"]
        assert second["fingerprint"] == first["fingerprint"]
        assert second["node"] == first["node"]
        assert second["guests"] == [{"vmid": 100, "name": "web", "status": "running"}]
        assert on_node("pct status 100") == "status: running\n"
        assert service.start(paths, settings, print)["pid"] == second["pid"], "starting twice changes nothing"

        service.stop(paths, print)
        assert not Path("/sys/class/net/fhtest1").exists()
        assert not service.status(paths)["running"]
        on_again = service.start(paths, settings, print)
        assert on_again["guests"][0]["name"] == "web"
        deadline = (
            time.monotonic() + 30
        )  # it has onboot=1, and what it was given is there again or it would not start
        on_node("nvidia-modprobe -c 0 && { pct start 100 || true; }")
        while on_node("pct status 100") != "status: running\n" and time.monotonic() < deadline:
            time.sleep(0.2)
        assert on_node("pct status 100") == "status: running\n"
    finally:
        service.reset(paths, print, purge=False)
    assert not paths.state.exists()
    assert str(paths.state) not in Path("/proc/self/mountinfo").read_text()
