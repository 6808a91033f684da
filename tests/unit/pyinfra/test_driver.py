"""The NVIDIA driver of a node and its user space in containers: which commands would run, and what the scripts do."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from freehold import resources
from freehold.nvidia import CACHE, MARKER, UNFINISHED, Release
from freehold.pyinfra import driver
from freehold.render import render

Commands = Callable[..., list[str]]

RELEASE = Release(version="580.178.04", url="https://example.org/new.run", sha256="0" * 64)
BEFORE = Release(version="580.126.18", url="https://example.org/old.run", sha256="1" * 64)
OLDER = Release(version="580.105.08", url="https://example.org/older.run", sha256="2" * 64)
LOOK = "proxmox-boot-tool"
GUEST = MARKER


def node(*lines: str) -> dict[str, list[str]]:
    """A node on which a sound kernel runs, and what else it says."""
    kernel = ["running\t6.17.2-1-pve", "kernel\t6.17.2-1-pve", "headers\t6.17.2-1-pve"]
    return {LOOK: [*kernel, *lines]}


def cached(*releases: Release) -> list[str]:
    return [f"cached\t{each.model_dump_json()}" for each in releases]


READY = [
    f"installed\t{RELEASE.version}",
    f"nvrm\tNVRM version: NVIDIA UNIX x86_64 Kernel Module  {RELEASE.version}  Wed Mar 16 11:24:05 UTC 2022",
    f"module\t6.17.2-1-pve {RELEASE.version}",
    f"dkms\tnvidia/{RELEASE.version}, 6.17.2-1-pve, x86_64: installed",
    "loaded\tnvidia",
    "loaded\tnvidia_uvm",
    "loaded\tpersistenced",
    *cached(RELEASE, BEFORE),
]


def test_a_node_that_has_everything_is_left_alone(commands: Commands) -> None:
    there = node(*READY)
    asked = {"release": RELEASE, "replace": False}

    assert commands(driver.possible, there, client="acme", cards=["0000:01:00.0"], **asked) == []
    assert commands(driver.build_tools, there) == []
    assert commands(driver.cached, there, **asked) == []
    assert commands(driver.installed, there, **asked) == []
    assert commands(driver.modules, there) == []
    assert commands(driver.loaded, there) == []
    assert commands(driver.persistence, there, unit="nvidia-persistenced.service") == []


def test_a_bare_node_gets_it_step_by_step(commands: Commands) -> None:
    bare = {LOOK: ["running\t6.17.2-1-pve"]}
    asked = {"release": RELEASE, "replace": False}

    assert commands(driver.possible, bare, client="acme", cards=["0000:01:00.0"], **asked) == []
    (tools,) = commands(driver.build_tools, bare)
    assert "build-essential dkms" in tools
    assert tools.endswith("headers 6.17.2-1-pve")
    (fetch,) = commands(driver.cached, bare, **asked)
    assert RELEASE.sha256 in fetch
    (install,) = commands(driver.installed, bare, **asked)
    assert f"sh {CACHE}/{RELEASE.file} --silent --dkms " in install
    # a note is there while it works, and goes only when it succeeded
    assert install.index(f"echo {RELEASE.version} > {UNFINISHED}") < install.index("sh /var/cache")
    assert (
        install.index("sh /var/cache")
        < install.index(f"then rm -f {UNFINISHED}")
        < install.index("else tail")
    )


def test_what_stands_in_the_way_fails_with_its_remedy(commands: Commands) -> None:
    (shown,) = commands(
        driver.possible,
        node("card\t0000:01:00.0 vfio-pci"),
        release=RELEASE,
        client="acme",
        cards=["0000:01:00.0"],
        replace=False,
    )

    assert "vfio-pci" in shown
    assert "hostpci" in shown
    assert shown.endswith("exit 1")


def test_another_version_stays_until_somebody_asks_for_the_new_one(commands: Commands) -> None:
    there = node(f"installed\t{BEFORE.version}", *cached(BEFORE, OLDER))

    assert commands(driver.installed, there, release=RELEASE, replace=False) == []
    # neither is the way back from the version that stays taken away
    assert commands(driver.cached, there, release=RELEASE, replace=False) == []
    assert len(commands(driver.installed, there, release=RELEASE, replace=True)) == 1


def test_the_version_before_is_kept_and_older_ones_go(commands: Commands) -> None:
    there = node(f"installed\t{BEFORE.version}", *cached(BEFORE, OLDER))

    fetch, removal = commands(driver.cached, there, release=RELEASE, replace=True)

    assert RELEASE.url in fetch
    assert removal == f"rm -f {CACHE}/{OLDER.file} {CACHE}/{OLDER.file}.json"


def test_an_installation_that_was_cut_off_does_not_cost_the_way_back(commands: Commands) -> None:
    """Its libraries are gone by then, so that nothing on the node says what was installed before."""
    there = node(f"unfinished\t{RELEASE.version}", *cached(BEFORE, RELEASE))

    assert commands(driver.cached, there, release=RELEASE, replace=True) == []
    done = node(*READY, *cached(OLDER))
    assert commands(driver.cached, done, release=RELEASE, replace=True) == [
        f"rm -f {CACHE}/{OLDER.file} {CACHE}/{OLDER.file}.json"
    ]


def test_an_installation_that_was_cut_off_begins_again(commands: Commands) -> None:
    there = node(*READY, f"unfinished\t{RELEASE.version}")

    assert len(commands(driver.installed, there, release=RELEASE, replace=False)) == 1


def test_nothing_is_installed_while_nouveau_has_the_cards(commands: Commands) -> None:
    there = node("loaded\tnouveau")

    assert commands(driver.installed, there, release=RELEASE, replace=True) == []
    assert commands(driver.loaded, there) == []


def test_the_kernel_of_the_next_boot_gets_its_module_too(commands: Commands) -> None:
    there = node(*READY, "kernel\t7.0.2-6-pve", "headers\t7.0.2-6-pve")

    (shown,) = commands(driver.modules, there)

    assert shown.startswith(f"dkms install --force -m nvidia -v {RELEASE.version} -k 7.0.2-6-pve")
    (tools,) = commands(driver.build_tools, node(*READY, "kernel\t7.0.2-6-pve"))
    assert tools.endswith("headers 7.0.2-6-pve")


def test_a_driver_of_another_version_is_neither_loaded_nor_kept_loaded(commands: Commands) -> None:
    line = f"nvrm\tNVRM version: NVIDIA UNIX x86_64 Kernel Module  {BEFORE.version}  Wed"
    there = node(f"installed\t{RELEASE.version}", line, f"module\t6.17.2-1-pve {RELEASE.version}")

    assert commands(driver.loaded, there) == []
    assert commands(driver.persistence, there, unit="nvidia-persistenced.service") == []


def test_a_driver_that_was_just_installed_is_loaded(commands: Commands) -> None:
    there = node(f"installed\t{RELEASE.version}", f"module\t6.17.2-1-pve {RELEASE.version}")

    assert commands(driver.loaded, there) == ["modprobe -a nvidia nvidia_uvm"]


# --- containers -------------------------------------------------------------------------------------------------------


def test_a_container_gets_user_space_and_never_a_module(commands: Commands) -> None:
    (shown,) = commands(driver.user_space, {GUEST: []}, release=RELEASE, handler="gpu")

    for option in ("--no-kernel-modules", "--no-dkms", "--skip-module-load", "--no-nvidia-modprobe"):
        assert option in shown
    assert " --dkms" not in shown
    # the note of the version is gone before anything changes, and back when all is done
    assert shown.index(f"rm -f {MARKER}") < shown.index(f"sh {CACHE}") < shown.index(f"> {MARKER}; else")
    assert shown.index("pending/gpu") < shown.index(f"rm -f {MARKER}")


def test_what_is_run_as_root_lies_where_root_alone_writes(commands: Commands) -> None:
    guest = commands(driver.user_space, {GUEST: []}, release=RELEASE, handler="gpu")
    bare = commands(driver.installed, {LOOK: ["running\t6.17.2-1-pve"]}, release=RELEASE, replace=False)

    for (shown,) in (guest, bare):
        assert "/tmp" not in shown
        assert "mkdir -m 700 " in shown
        assert shown.index("mkdir -m 700 ") < shown.index(f"TMPDIR={CACHE}/work sh {CACHE}/{RELEASE.file}")


def test_a_file_of_the_cache_is_checked_before_it_is_run(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_LOG", str(tmp_path / "log"))
    path, note = tmp_path / "one.run", tmp_path / "one.run.json"
    path.write_bytes(b"the installer")
    note.touch()
    release = RELEASE.model_copy(update={"sha256": hashlib.sha256(b"the installer").hexdigest()})
    check = ["sh", "-c", driver._check(release, str(path))]

    assert subprocess.run(check).returncode == 0
    path.write_bytes(b"another program")
    assert subprocess.run(check).returncode == 1
    assert "FAILED" in (tmp_path / "log").read_text()
    assert not note.exists(), "the next run would not fetch it again"

    (install,) = commands(driver.installed, {LOOK: ["running\t6.17.2-1-pve"]}, release=RELEASE, replace=False)
    assert install.index("sha256sum -c") < install.index(f"sh {CACHE}")


def test_packages_of_another_driver_are_purged_first(commands: Commands) -> None:
    there = {GUEST: ["version 580.178.04", "library 580.178.04", "package libcuda1", "package nvidia-smi"]}

    (shown,) = commands(driver.user_space, there, release=RELEASE, handler="gpu")

    assert shown.index("purge -y libcuda1 nvidia-smi") < shown.index(f"sh {CACHE}")


def test_only_what_is_installed_counts_as_a_package_of_a_driver(tmp_path: Path) -> None:
    """The command runs for real, over what dpkg says of packages that it merely knows."""
    tool = tmp_path / "dpkg-query"
    rows = "installed libcuda1\nnot-installed nvidia-smi\nconfig-files libnvidia-ml1\nhalf-installed nvidia-alternative\n"
    tool.write_text(f"#!/bin/sh\nprintf '{rows}installed libnvidia-container1\n'\n")
    tool.chmod(0o755)
    command = driver.UserSpace().command().get_raw_value()

    done = subprocess.run(
        ["sh", "-c", command],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )

    found = driver.UserSpace().process(done.stdout.splitlines())
    assert found["package"] == ["libcuda1", "nvidia-alternative"]


@pytest.mark.parametrize(
    ("lines", "again"),
    [
        (["version 580.178.04", "library 580.178.04"], False),
        (["library 580.178.04"], True),
        (["version 580.178.04"], True),
        (["version 580.178.04", "library 580.126.18", "library 580.178.04"], True),
        (["version 580.126.18", "library 580.126.18"], True),
    ],
)
def test_user_space_is_done_again_unless_all_of_it_is_there(
    commands: Commands, lines: list[str], again: bool
) -> None:
    assert bool(commands(driver.user_space, {GUEST: lines}, release=RELEASE, handler="gpu")) is again


# --- scripts, for real ------------------------------------------------------------------------------------------------

CONTENT = b"#!/bin/sh\n" + bytes(range(256)) * 4096


class Served(BaseHTTPRequestHandler):
    """A server that breaks off in the middle, and then goes on where the client asks it to."""

    ranges: ClassVar[list[str | None]] = []
    broken = False

    def do_GET(self) -> None:
        if self.path == "/absent":
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        type(self).ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        if self.path == "/breaks" and not type(self).broken:
            type(self).broken = True
            self.wfile.write(CONTENT[:1000])
            self.close_connection = True
            return
        self.wfile.write(CONTENT[start:])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Served.ranges, Served.broken = [], False
    running = ThreadingHTTPServer(("127.0.0.1", 0), Served)
    Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()
    running.server_close()


def fetch(url: str, path: Path, checksum: str | None = None) -> subprocess.CompletedProcess[str]:
    checksum = checksum or hashlib.sha256(CONTENT).hexdigest()
    script = driver._FETCH.replace("time.sleep(2 << attempt)", "time.sleep(0)")
    command = [sys.executable, "-c", script, url, checksum, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_download_is_checked_and_kept(server: str, tmp_path: Path) -> None:
    path = tmp_path / "one.run"

    assert fetch(f"{server}/whole", path).returncode == 0
    assert path.read_bytes() == CONTENT
    assert fetch(f"{server}/whole", path).returncode == 0
    assert len(Served.ranges) == 1


def test_a_download_that_broke_off_goes_on(server: str, tmp_path: Path) -> None:
    path = tmp_path / "one.run"
    (tmp_path / "one.run.part").write_bytes(CONTENT[:5000])

    done = fetch(f"{server}/whole", path)

    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == CONTENT
    assert Served.ranges == ["bytes=5000-"]


def test_a_connection_that_ends_early_is_taken_up_again(server: str, tmp_path: Path) -> None:
    path = tmp_path / "one.run"

    done = fetch(f"{server}/breaks", path)

    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == CONTENT


def test_what_was_there_of_another_file_is_thrown_away(server: str, tmp_path: Path) -> None:
    path = tmp_path / "one.run"
    (tmp_path / "one.run.part").write_bytes(b"something else")

    assert fetch(f"{server}/whole", path).returncode == 0
    assert path.read_bytes() == CONTENT
    assert Served.ranges == ["bytes=14-", None]


def test_a_file_that_is_not_the_locked_one_is_refused(server: str, tmp_path: Path) -> None:
    path = tmp_path / "one.run"

    done = fetch(f"{server}/whole", path, checksum="f" * 64)

    assert done.returncode == 1
    assert "is not what the lock names" in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_address_without_the_file_is_named(server: str, tmp_path: Path) -> None:
    done = fetch(f"{server}/absent", tmp_path / "one.run")

    assert done.returncode == 1
    assert "answers HTTP 404" in done.stderr


@pytest.fixture
def verify(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the script that looks ahead, over files of a node; ``modules`` maps kernels to the version of their module."""

    def run(
        installed: str | None, kernels: list[str], modules: dict[str, str], pin: str = "", loaded: str = ""
    ) -> subprocess.CompletedProcess[str]:
        root, figures, tools = tmp_path / "root", tmp_path / "figures", tmp_path / "bin"
        libraries = root / "usr/lib/x86_64-linux-gnu"
        for folder in (
            libraries,
            root / "boot",
            root / "etc/kernel",
            root / "proc/driver/nvidia",
            figures,
            tools,
        ):
            folder.mkdir(parents=True, exist_ok=True)
        for name in ("libcuda.so", "libcuda.so.1", *([f"libcuda.so.{installed}"] if installed else [])):
            (libraries / name).touch()
        for kernel in kernels:
            (root / f"boot/vmlinuz-{kernel}").touch()
        if pin:
            (root / "etc/kernel/proxmox-boot-pin").write_text(f"{pin}\n")
        if loaded:
            line = f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {loaded}  Release Build\n"
            (root / "proc/driver/nvidia/version").write_text(line)
        cases = "\n".join(f"{kernel}) echo {version} ;;" for kernel, version in modules.items())
        (tools / "modinfo").write_text(f'#!/bin/sh\ncase "$2" in\n{cases}\n*) exit 1 ;;\nesac\n')
        (tools / "modinfo").chmod(0o755)
        environment = {
            "ROOT": str(root),
            "FIGURES": str(figures),
            "PATH": f"{tools}:{os.environ['PATH']}",
        }
        script = render("node/driver-verify.sh.j2", {})
        return subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True)

    return run


def test_a_node_whose_next_boot_has_the_driver(
    verify: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = verify(
        "580.178.04", ["6.17.2-1-pve", "6.8.12-9-pve"], {"6.17.2-1-pve": "580.178.04"}, loaded="580.178.04"
    )

    assert done.returncode == 0, done.stderr
    figures = (tmp_path / "figures/freehold-driver.prom").read_text()
    assert 'freehold_driver_next_boot_ready{kernel="6.17.2-1-pve",driver="580.178.04"} 1\n' in figures
    assert "freehold_driver_waits_for_reboot 0\n" in figures


def test_a_kernel_without_a_module_is_said_before_the_reboot(
    verify: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = verify(
        "580.178.04", ["6.17.2-1-pve", "7.0.2-6-pve"], {"6.17.2-1-pve": "580.178.04"}, loaded="580.126.18"
    )

    assert done.returncode == 1
    assert "DO NOT REBOOT THIS NODE: the kernel 7.0.2-6-pve" in done.stderr
    figures = (tmp_path / "figures/freehold-driver.prom").read_text()
    assert 'freehold_driver_next_boot_ready{kernel="7.0.2-6-pve",driver="580.178.04"} 0\n' in figures
    assert "freehold_driver_waits_for_reboot 1\n" in figures


def test_a_pinned_kernel_is_the_one_that_counts(
    verify: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    kernels = ["6.17.2-1-pve", "7.0.2-6-pve"]

    assert verify("580.178.04", kernels, {"6.17.2-1-pve": "580.178.04"}, pin="6.17.2-1-pve").returncode == 0


def test_a_node_without_a_driver_has_nothing_to_lose(
    verify: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    assert verify(None, ["6.17.2-1-pve"], {}).returncode == 0
    assert not (tmp_path / "figures/freehold-driver.prom").exists()


def test_services_of_a_host_are_restarted_by_its_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text(
        '{"services": {"vllm": {"units": {"vllm.service": "active", "proxy.service": "active"}}}}'
    )
    tool = tmp_path / "systemctl"
    tool.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/called\n')
    tool.chmod(0o755)
    script = driver.RESTART_SERVICES.replace("/etc/freehold/manifest.json", str(manifest))
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    subprocess.run(["sh", "-c", script], env=environment, check=True)
    assert (tmp_path / "called").read_text().splitlines() == [
        "reset-failed proxy.service vllm.service",
        "restart --no-block proxy.service vllm.service",
    ]

    manifest.unlink()
    subprocess.run(["sh", "-c", script], env=environment, check=True)
    assert len((tmp_path / "called").read_text().splitlines()) == 2


def test_the_deploy_never_reboots() -> None:
    for name in ("gpu.py", "node.py", "base.py"):
        text = (resources.deploys() / name).read_text()
        assert "systemctl reboot" not in text
        assert "server.reboot" not in text
