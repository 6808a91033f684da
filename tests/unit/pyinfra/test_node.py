"""What is done on a node: templates and root steps."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from freehold.layout.types import WEIGHTS_OWNER
from freehold.proxmox.changes import RootStep
from freehold.pyinfra import node
from freehold.render import render

Commands = Callable[..., list[str]]

LIST = ["NAME                                                         SIZE"]
OLD = "local:vztmpl/debian-12-standard_12.2-1_amd64.tar.zst                       120.29MB"
OFFERED = [
    "system          debian-12-standard_12.2-1_amd64.tar.zst",
    "system          debian-12-standard_12.12-1_amd64.tar.zst",
    "system          debian-13-standard_13.1-2_amd64.tar.zst",
]


def test_a_template_that_is_there_is_kept(commands: Commands) -> None:
    answers = {"pveam list": [*LIST, OLD], "pveam available": OFFERED}

    assert commands(node.template, answers, node="pve", storage="local", system="debian-12") == []


def test_the_newest_template_is_downloaded(commands: Commands) -> None:
    answers = {"pveam list": LIST, "pveam available": OFFERED}

    assert commands(node.template, answers, node="pve", storage="local", system="debian-12") == [
        "pveam download local debian-12-standard_12.12-1_amd64.tar.zst >&2"
    ]


def test_with_a_mirror_the_node_fetches_the_template_there(commands: Commands) -> None:
    name = "debian-12-standard_12.12-1_amd64.tar.zst"
    mirrored = {"url": f"http://mirror.acme.internal/files/abc/{name}", "sha256": "abc"}

    assert commands(
        node.template,
        {"pveam list": LIST},
        node="pve",
        storage="local",
        system="debian-12",
        mirrored=mirrored,
    ) == [
        f"pvesh create /nodes/pve/storage/local/download-url --content vztmpl --filename {name}"
        f" --url {mirrored['url']} --checksum abc --checksum-algorithm sha256 >&2"
    ]


def test_a_template_that_proxmox_does_not_offer_fails_with_a_reason(commands: Commands) -> None:
    shown = commands(node.template, {"pveam list": LIST}, node="pve", storage="local", system="debian-13")

    assert shown[0] == "pveam update"
    assert "debian-13" in shown[1]
    assert shown[1].endswith("exit 1")


def test_root_steps_carry_the_digest_of_the_moment(commands: Commands) -> None:
    step = RootStep(node="pve", vmid=1060, options={"dev0": "/dev/nvidia0,gid=2107,mode=0660"})

    shown = commands(
        node.root_steps,
        {"pvesh get /nodes/pve/lxc/1060/config": ['{"digest":"abc123","cores":2}']},
        steps=[step],
    )

    assert shown == ["pct set 1060 --dev0 /dev/nvidia0,gid=2107,mode=0660 --digest abc123"]


UNIT = "freehold-gpu-acme.service"
THERE = {"/etc/systemd/system/freehold-gpu": [f"/etc/systemd/system/{UNIT}\tfile\t644\troot\troot\t00"]}


def test_a_unit_that_is_not_wanted_any_more_goes(commands: Commands) -> None:
    (shown,) = commands(node.no_gpu_unit, THERE, unit=UNIT, client="acme", vmids=[1060])

    assert f"systemctl disable --now {UNIT}" in shown
    assert f"rm -f /etc/systemd/system/{UNIT}" in shown
    assert commands(node.no_gpu_unit, {}, unit=UNIT, client="acme", vmids=[]) == []


def test_a_unit_stays_for_a_container_that_was_left_out_of_the_stack(commands: Commands) -> None:
    """It stays until it is pruned, and could not start after a boot of the node without its device nodes."""
    of_1060 = THERE | {"/etc/pve/lxc": ["/etc/pve/lxc/1060.conf"]}

    assert commands(node.no_gpu_unit, of_1060, unit=UNIT, client="acme", vmids=[1010]) == []
    # in the stack, but without a GPU from now on: its devices go in this same run
    assert len(commands(node.no_gpu_unit, of_1060, unit=UNIT, client="acme", vmids=[1010, 1060])) == 1


def test_containers_with_devices_are_those_of_the_client(tmp_path: Path) -> None:
    """The command runs for real over files as Proxmox VE writes them."""
    for vmid, tags, more in [
        (1010, "client-acme;freehold", "dev0: /dev/nvidia0"),
        (1020, "client-acme;freehold", "memory: 512"),
        (1030, "client-acme2;freehold", "dev0: /dev/nvidia0"),
        (1040, "a;client-acme", "dev12: /dev/nvidia0"),
    ]:
        (tmp_path / f"{vmid}.conf").write_text(f"arch: amd64\n{more}\ntags: {tags}\n")
    command = node.WithDevices().command("acme").get_raw_value().replace("/etc/pve/lxc", str(tmp_path))

    output = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)

    assert node.WithDevices().process(output.stdout.splitlines()) == {1010, 1040}
    nothing = command.replace(str(tmp_path), f"{tmp_path}/none")
    assert subprocess.run(["sh", "-c", nothing], capture_output=True, text=True, check=True).stdout == ""


def test_minors_are_those_of_gpus() -> None:
    assert node.nvidia_minors(["/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0"]) == [0, 1]


def test_unit_makes_the_nodes_before_guests_start() -> None:
    devices = ["/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidia1"]

    text = render("node/gpu-devices.service.j2", {"client": "acme", "devices": devices, "nvidia": [0, 1]})

    lines = text.splitlines()
    assert "Before=pve-guests.service" in lines
    # a oneshot has no limit of its own, and all guests wait for this one
    assert "TimeoutStartSec=120" in lines
    # -u turns the numbers after -c into minors of /dev/nvidia-uvm, so the two never stand in one call
    assert "ExecStart=nvidia-modprobe -c 0 -c 1" in lines
    assert "ExecStart=nvidia-modprobe -u -c 0" in lines
    assert [line for line in lines if line.startswith("ExecStart=test")] == [
        f"ExecStart=test -c {path}" for path in devices
    ]


def test_unit_of_other_makers_only_checks() -> None:
    text = render("node/gpu-devices.service.j2", {"client": "acme", "devices": ["/dev/kfd"], "nvidia": []})

    assert [line for line in text.splitlines() if line.startswith("ExecStart")] == [
        "ExecStart=test -c /dev/kfd"
    ]


def test_a_directory_with_another_use_is_not_given_to_the_weights(commands: Commands, tmp_path: Path) -> None:
    def told(owner: str, kind: str = "directory") -> dict[str, list[str]]:
        return {"paths": [f"{tmp_path}\t{kind}\t755\t{owner}\t{owner}\t"]}

    assert commands(node.free_for_weights, {"paths": []}, place=str(tmp_path)) == []
    assert commands(node.free_for_weights, told(str(WEIGHTS_OWNER)), place=str(tmp_path)) == []
    (shown,) = commands(node.free_for_weights, told("root"), place=str(tmp_path))

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", "-c", shown], capture_output=True, text=True)

    assert run().returncode == 0, "an empty one may be taken"
    (tmp_path / "lost+found").mkdir()
    assert run().returncode == 0, "so may the top of a file system"
    (tmp_path / "passwd").touch()
    assert run().returncode == 1
    assert "holds files of somebody else" in run().stderr
