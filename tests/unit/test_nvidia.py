"""What a node says of its NVIDIA driver, read from recorded outputs of the real tools, and what is made of it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from freehold import nvidia
from freehold.nvidia import Claim, Guest, NodeDriver, Release, Trouble

RECORDED = Path(__file__).parent / "data/nvidia"
RELEASE = Release(version="580.178.04", url="https://example.org/new.run", sha256="0" * 64)
BEFORE = Release(version="580.126.18", url="https://example.org/old.run", sha256="1" * 64)


def recorded(name: str) -> list[str]:
    return (RECORDED / name).read_text().splitlines()


def lines(key: str, values: list[str]) -> str:
    return "".join(f"{key}\t{value}\n" for value in values)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("version-open", "555.42.06"),
        ("version-proprietary", "515.65.01"),
        ("version-two-parts", "384.81"),
    ],
)
def test_the_loaded_version_is_read(name: str, version: str) -> None:
    assert NodeDriver.parse(lines("nvrm", recorded(name)[:1])).loaded == version


def test_dkms_is_read_in_both_of_its_forms() -> None:
    assert dict(nvidia.dkms_status(recorded("dkms-2"))) == {("460.73.01", "5.4.203-1-pve"): "installed"}
    assert dict(nvidia.dkms_status(recorded("dkms-3"))) == {("570.133.07", "7.0.6-2-pve"): "installed"}


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("boot-tool", "6.17.0-2-pve"),
        ("boot-tool-pinned", "5.15.39-3-pve"),
        ("boot-tool-next-boot", "6.8.12-8-pve"),
    ],
)
def test_the_next_kernel_is_the_pinned_one_else_the_newest(name: str, kernel: str) -> None:
    assert nvidia.next_boot(recorded(name), [], "5.0") == kernel


def test_newest_is_meant_by_number() -> None:
    assert nvidia.next_boot([], ["6.8.12-9-pve", "6.8.12-10-pve"], "6.8.12-9-pve") == "6.8.12-10-pve"
    assert nvidia.next_boot([], [], "6.8.12-9-pve") == "6.8.12-9-pve"


def test_secure_boot_and_its_key_are_read() -> None:
    state, key = recorded("mokutil-on")
    on = NodeDriver.parse(f"secure-boot\t{state}\nkey\tthere\nkey\t{key}\n")
    assert (on.secure_boot, on.key_enrolled) == (True, False)
    off = NodeDriver.parse(lines("secure-boot", recorded("mokutil-bios")))
    assert (off.secure_boot, off.key_enrolled) == (False, None)
    assert NodeDriver.parse("").secure_boot is None


TOOLS = {
    "uname": "echo 6.17.0-2-pve",
    "proxmox-boot-tool": f"cat {RECORDED}/boot-tool",
    "dkms": f"cat {RECORDED}/dkms-3",
    "modinfo": '[ "$2" = 6.17.0-2-pve ] && echo 580.126.18',
    "mokutil": f'case "$1" in --sb-state) sed 1q {RECORDED}/mokutil-on ;; *) sed 1d {RECORDED}/mokutil-on ;; esac',
    "systemctl": "true",
    "dpkg-query": "printf 'installed nvidia-kernel-dkms\\nnot-installed nvidia-smi\\nconfig-files libcuda1\\ninstalled libnvidia-container1\\n'",
}


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A folder with the files of a node, and tools beside it that print what was recorded."""
    root = tmp_path / "root"
    for name, script in TOOLS.items():
        tool = tmp_path / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
    files = {
        "boot/vmlinuz-6.14.11-2-pve": "",
        "boot/vmlinuz-6.17.0-2-pve": "",
        "lib/modules/6.17.0-2-pve/build/Makefile": "",
        "lib/modules/6.14.11-2-pve/modules.dep": "",
        "sys/module/nvidia/version": "",
        "sys/firmware/efi/runtime": "",
        "var/lib/dkms/mok.pub": "",
        "proc/driver/nvidia/version": (RECORDED / "version-open").read_text(),
        "usr/lib/x86_64-linux-gnu/libcuda.so.580.126.18": "",
        "usr/lib/x86_64-linux-gnu/libcuda.so.1": "",
        "var/cache/freehold/nvidia/a.run.json": BEFORE.model_dump_json() + "\n",
        "var/cache/freehold/nvidia/b.run.json": '{"version": "580.1',
        "etc/freehold/nvidia/acme": Claim("580.126.18", own=True).line(),
        "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
        "sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
        "sys/bus/pci/devices/0000:01:00.1/vendor": "0x10de\n",
        "sys/bus/pci/devices/0000:01:00.1/class": "0x040300\n",
        "sys/bus/pci/devices/0000:02:00.0/vendor": "0x8086\n",
        "sys/bus/pci/devices/0000:02:00.0/class": "0x030000\n",
        # Proxmox VE writes keys in this order, and snapshots as sections after them
        "etc/pve/lxc/1060.conf": "arch: amd64\ndev0: /dev/nvidia0,gid=2107\nhostname: acme-vllm\ntags: client-acme;freehold\n"
        "\n[before]\nhostname: other\ntags: x\n",
        "etc/pve/lxc/2060.conf": "dev1: path=/dev/nvidiactl\nhostname: beta-vllm\ntags: freehold;client-beta\n",
        "etc/pve/lxc/300.conf": "dev0: /dev/nvidia1\nhostname: games\n",
        "etc/pve/lxc/301.conf": "hostname: mail\ntags: freehold;client-acme\n",
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (root / "sys/bus/pci/devices/0000:01:00.0/driver").symlink_to("../../drivers/vfio-pci")
    return tmp_path


def test_one_look_finds_everything(node: Path) -> None:
    """The script runs for real, with files and tools in place of a node's."""
    environment = os.environ | {"ROOT": str(node / "root"), "PATH": f"{node}/bin:{os.environ['PATH']}"}

    done = subprocess.run(["sh", "-c", nvidia.PROBE], env=environment, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert NodeDriver.parse(done.stdout) == NodeDriver(
        running="6.17.0-2-pve",
        next_boot="6.17.0-2-pve",
        headers=frozenset({"6.17.0-2-pve"}),
        modules={"6.17.0-2-pve": "580.126.18"},
        dkms={("570.133.07", "7.0.6-2-pve"): "installed"},
        loaded="555.42.06",
        installed="580.126.18",
        flags=frozenset({"nvidia", "persistenced"}),
        cards={"0000:01:00.0": "vfio-pci"},
        secure_boot=True,
        key_enrolled=False,
        packages=("nvidia-kernel-dkms",),
        cache=(BEFORE,),
        claims={"acme": Claim("580.126.18", own=True)},
        guests=(
            Guest(1060, "acme-vllm", "acme"),
            Guest(2060, "beta-vllm", "beta"),
            Guest(300, "games", None),
        ),
    )


def test_a_bare_node_has_nothing_and_the_look_does_not_fail(tmp_path: Path) -> None:
    environment = {"ROOT": str(tmp_path), "PATH": os.environ["PATH"]}

    done = subprocess.run(
        ["sh", "-c", nvidia.PROBE], env=environment, capture_output=True, text=True, check=True
    )

    state = NodeDriver.parse(done.stdout)
    assert state.running == state.next_boot == os.uname().release
    assert (state.loaded, state.installed, state.cards, state.cache) == (None, None, {}, ())


def of(**parts: Any) -> NodeDriver:
    kernel = parts.pop("kernel", "6.17.2-1-pve")
    return NodeDriver(**{"running": kernel, "next_boot": kernel, "secure_boot": False, **parts})


def found(state: NodeDriver, release: Release = RELEASE, *, installs: bool = True) -> list[Trouble]:
    return list(nvidia.troubles(state, release, client="acme", cards=["0000:01:00.0"], installs=installs))


def test_nothing_stands_in_the_way_of_a_sound_node() -> None:
    assert found(of(cards={"0000:01:00.0": "nvidia"})) == []


@pytest.mark.parametrize(
    ("parts", "detail", "remedy"),
    [
        ({"cards": {"0000:01:00.0": "vfio-pci"}}, "bound to vfio-pci", "hostpci"),
        ({"secure_boot": True, "key_enrolled": False}, "Secure Boot is on", "mokutil --import"),
        ({"secure_boot": True}, "Secure Boot is on", "dkms generate_mok"),
        ({"packages": ("nvidia-smi",)}, "from Debian packages (nvidia-smi)", "apt-get purge"),
    ],
)
def test_what_stands_in_the_way_is_explained(parts: dict[str, Any], detail: str, remedy: str) -> None:
    (one,) = found(of(**parts))
    assert one.blocks
    assert detail in one.detail
    assert remedy in one.remedy


def test_a_key_that_is_enrolled_makes_secure_boot_no_obstacle() -> None:
    assert found(of(secure_boot=True, key_enrolled=True)) == []


def test_an_old_driver_does_not_build_for_a_new_kernel() -> None:
    old = Release(version="550.163.01", url="https://example.org", sha256="0" * 64)

    running, after = found(of(running="6.17.2-1-pve", next_boot="7.0.2-6-pve"), old)

    assert "takes 580.105.08 or newer" in running.detail
    assert "7.0.2-6-pve that the next boot starts" in after.detail
    assert "proxmox-boot-tool kernel pin" in after.remedy


def test_of_a_kernel_newer_than_the_table_nothing_is_claimed() -> None:
    (one,) = found(of(kernel="7.4.1-1-pve"))
    assert not one.blocks
    assert "is not known" in one.detail


def test_two_clients_of_one_node_cannot_lock_two_versions() -> None:
    theirs = Guest(2060, "beta-vllm", "beta")
    state = of(claims={"beta": Claim("580.126.18", own=True)}, guests=(theirs,))

    (one,) = found(state)

    assert "beta (beta-vllm) locks 580.126.18, and acme 580.178.04" in one.detail
    assert found(state, installs=False) == []


@pytest.mark.parametrize(
    "parts",
    [
        # follows Freehold's lock, which moves for both
        {"claims": {"beta": Claim("580.126.18", own=False)}, "guests": (Guest(2060, "b", "beta"),)},
        # has no container on the GPUs any more
        {"claims": {"beta": Claim("580.126.18", own=True)}},
        # is the client itself
        {"claims": {"acme": Claim("580.126.18", own=True)}, "guests": (Guest(1060, "a", "acme"),)},
    ],
)
def test_a_client_that_need_not_be_asked_is_not(parts: dict[str, Any]) -> None:
    assert found(of(**parts)) == []


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"installed": "580.178.04", "loaded": "580.126.18"}, "still has 580.126.18 loaded"),
        ({"flags": frozenset({"nouveau"})}, "nouveau"),
        ({"installed": "580.178.04", "loaded": "580.178.04", "flags": frozenset({"nouveau"})}, None),
        ({"installed": "580.178.04"}, None),
        ({"installed": "580.178.04", "loaded": "580.126.18", "unfinished": "580.178.04"}, None),
    ],
)
def test_when_a_node_waits_for_a_reboot(parts: dict[str, Any], reason: str | None) -> None:
    state = of(**parts)
    assert (reason in str(state.waits_for_reboot)) if reason else state.waits_for_reboot is None


def test_a_cut_off_installation_counts_as_none() -> None:
    assert of(installed="580.178.04", unfinished="580.178.04").settled is None


def test_the_way_back_leads_to_the_same_version_however_far_it_went() -> None:
    """A rollback that stopped for a reboot goes on with the same command: it must not turn round."""
    for installed in (RELEASE.version, BEFORE.version):
        assert of(installed=installed, cache=(BEFORE, RELEASE)).former(RELEASE.version) == BEFORE
    assert of(installed=RELEASE.version, cache=(RELEASE,)).former(RELEASE.version) is None


def test_claims_survive_their_file() -> None:
    for claim in (Claim("580.178.04", own=True), Claim("580.178.04", own=False)):
        assert NodeDriver.parse(f"claim\tacme {claim.line()}").claims == {"acme": claim}


def test_a_release_is_noted_as_one_line() -> None:
    assert "\n" not in RELEASE.model_dump_json()
    assert Release.model_validate(json.loads(RELEASE.model_dump_json())) == RELEASE


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": "580.178.04; reboot"},
        {"version": "$(reboot)"},
        {"url": "https://example.org/x.run' --post-file=/etc/shadow"},
        {"sha256": "0" * 63},
    ],
)
def test_a_release_is_nothing_but_a_release_because_roots_shell_sees_it(wrong: dict[str, str]) -> None:
    told = {**RELEASE.model_dump(), **wrong}

    with pytest.raises(ValidationError):
        Release.model_validate(told)
    assert NodeDriver.parse(f"running\t6.17.2-1-pve\ncached\t{json.dumps(told)}").cache == ()
