"""Bringing the lab's machine up and down (lab: a stand-in of a Proxmox VE node, for development)."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network
from pathlib import Path

from freehold.errors import BadInputError, FreeholdError
from freehold.lab import standins
from freehold.lab.backend import BackendError
from freehold.lab.machine import mirror, smallstorage, templates
from freehold.lab.machine.commands import SYSTEM_PATH, is_root, lxc, run
from freehold.lab.machine.container import Container
from freehold.lab.machine.network import IP_FORWARD, LabNetwork
from freehold.lab.machine.node import LabNode
from freehold.lab.machine.paths import LabPaths

Say = Callable[[str], None]
"""Tells a person what goes on, in a few words."""

TOOLS = {
    "lxc-start": "lxc",
    "lxc-usernsexec": "lxc",
    "ip": "iproute2",
    "ss": "iproute2",
    "nft": "nftables",
    "tar": "tar",
    "zstd": "zstd",
    "openssl": "openssl",
    "mkfs.ext4": "e2fsprogs",
    "nsenter": "util-linux",
}
"""Programs of the host that the lab runs, and the Debian packages that hold them."""


KERNEL_LIMITS = {
    "fs/inotify/max_user_instances": 65536,
    "fs/inotify/max_user_watches": 4194304,
    "kernel/keys/maxkeys": 20000,
    "kernel/keys/maxbytes": 2000000,
}
"""Least values of kernel limits that all containers share; with a distribution's own, the tenth systemd ends at once.

The inotify figures are those of pve-container (``10-pve-ct-inotify-limits.conf``)."""


@dataclass(frozen=True)
class LabSettings:
    """What a lab was started with."""

    port: int = 8006
    bridge: str = "fhlab0"
    subnet: str = "10.86.0.0/24"

    @classmethod
    def load(cls, paths: LabPaths) -> LabSettings:
        """The settings of the last start, or the defaults."""
        return cls(**json.loads(paths.settings.read_text())) if paths.settings.exists() else cls()

    def save(self, paths: LabPaths) -> None:
        """Keep the settings for the other commands."""
        paths.settings.write_text(json.dumps(asdict(self)))

    def network(self) -> LabNetwork:
        """The lab's network.

        Raises:
            BadInputError: Bridge or subnet are no such thing.
        """
        if not re.fullmatch(r"[a-z][a-z0-9]{1,9}", self.bridge):
            raise BadInputError(
                f"'{self.bridge}' cannot be the lab's bridge",
                remedy="Use 2 to 10 lower-case letters and digits, such as fhlab0.",
            )
        try:
            subnet = IPv4Network(self.subnet)
        except ValueError as error:
            raise BadInputError(
                f"'{self.subnet}' is not an IPv4 subnet: {error}", remedy="Use the form 10.86.0.0/24."
            ) from error
        if subnet.prefixlen > 28:
            raise BadInputError(
                f"the subnet {subnet} is too small", remedy="Use a prefix of 28 bits or fewer."
            )
        return LabNetwork(
            self.bridge, subnet, "fhv" if self.bridge == "fhlab0" else self.bridge[:1] + self.bridge[-2:]
        )


def check_host(paths: LabPaths) -> None:
    """Refuse a machine that cannot host the lab.

    Raises:
        BadInputError: It is not Linux, the user is not root, or programs are missing.
    """
    if sys.platform != "linux":
        raise BadInputError(
            f"the lab makes Linux containers and cannot run on {sys.platform}",
            remedy="Run it on a Linux machine or in a virtual machine with Debian 12 or newer.",
        )
    if not is_root():
        raise BadInputError(
            "the lab needs root to make containers and a bridge", remedy="Run: sudo freehold lab start"
        )
    tools = dict(TOOLS)
    if templates.missing(paths.templates):
        tools["mmdebstrap"] = "mmdebstrap"
    packages = sorted(
        {package for tool, package in tools.items() if shutil.which(tool, path=SYSTEM_PATH) is None}
    )
    if packages:
        raise BadInputError(
            f"the lab needs Debian packages that are not installed: {', '.join(packages)}",
            remedy=f"Run: apt-get install -y {' '.join(packages)}",
        )


def bring_up(paths: LabPaths, settings: LabSettings, say: Say) -> bool:
    """Make what is missing of the machine and start its node; returns whether the node had to be started.

    Raises:
        FreeholdError: A step failed, with the answer of the tool that did it.
    """
    network = settings.network()
    node = LabNode(paths, network)
    try:
        paths.make()
        settings.save(paths)
        raise_kernel_limits()
        if network.ensure():
            forwarding_mark(paths).touch()
        if wanted := templates.missing(paths.templates):
            say(f"building {len(wanted)} templates with mmdebstrap, once")
            templates.build_all(
                paths.templates, wanted, lambda one, took: say(f"built {one.name} in {took:.0f} s")
            )
        smallstorage.ensure(paths)
        standins.build_all(paths.standins, say)
        mirror.fill(paths, network)
        if not paths.root_password.exists():
            write_secret(paths.root_password, secrets.token_urlsafe(18) + "\n")
        was_running = node.running()
        if not was_running:
            say("starting the node")
        node.ensure()
    except BackendError as error:
        raise FreeholdError(
            "the lab's machine could not be brought up",
            doing="preparing network, storages and node of the lab",
            answer=str(error),
            remedy="Remove the cause, then run `freehold lab start` again; it goes on from here.",
        ) from error
    return not was_running


def raise_kernel_limits() -> None:
    """Raise the kernel's limits to what a node has; higher ones stay."""
    for name, least in KERNEL_LIMITS.items():
        path = Path("/proc/sys") / name
        if int(path.read_text()) < least:
            path.write_text(f"{least}\n")


def take_down(paths: LabPaths, settings: LabSettings, say: Say) -> None:
    """Stop all containers of the lab and take its mounts and its network away; data stays.

    Raises:
        FreeholdError: Something would not stop.
    """
    try:
        names = sorted(path.name for path in paths.lxc.glob("*")) if paths.lxc.is_dir() else []
        running = [one for one in (Container(paths.lxc, name) for name in names) if one.pid() is not None]
        if running:
            say(f"stopping {len(running)} containers")
            with ThreadPoolExecutor(max_workers=8) as pool:
                list(pool.map(_stop, running))
        unmount_below(paths.state)
        settings.network().remove()
    except BackendError as error:
        raise FreeholdError(
            "the lab could not be stopped whole",
            doing="stopping its containers and network",
            answer=str(error),
        ) from error
    if forwarding_mark(paths).exists():
        IP_FORWARD.write_text("0\n")
        forwarding_mark(paths).unlink()


def remove(paths: LabPaths, *, purge: bool) -> None:
    """Remove what is left of a stopped lab: guests, state, and with ``purge`` the built templates."""
    unmount_below(paths.state)
    for folder in (paths.state, *((paths.cache,) if purge else ())):
        if folder.exists():
            run(["rm", "-rf", "--one-file-system", str(folder)], timeout=600)


def unmount_below(folder: Path) -> None:
    """Unmount everything that is mounted below a folder, the last mounted first."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for path in reversed([path for path in mounts if Path(path).is_relative_to(folder)]):
        run(["umount", path.replace("\\040", " ")])


def forwarding_mark(paths: LabPaths) -> Path:
    """A file that says that the lab switched the host's IPv4 forwarding on, and has to switch it off."""
    return paths.state / "switched-forwarding-on"


def write_secret(path: Path, text: str) -> None:
    """Write a file that only root can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(text)


def _stop(container: Container) -> None:
    if not container.shutdown(20):
        container.kill()
        run(lxc("lxc-wait", "-P", str(container.home), "-n", container.name, "-s", "STOPPED", "-t", "10"))
