"""The lab's node: a container with systemd and sshd that plays the Proxmox VE host (a stand-in, for development).

Deploys and root steps reach it over SSH; it holds the commands of a node as stand-ins, and no guest runs inside it:
guests run beside it on the machine that hosts the lab.
"""

from __future__ import annotations

import os
import time
from importlib.resources import files as package_files
from pathlib import Path

from freehold.lab.backend import BackendError
from freehold.lab.machine import cgroups, templates
from freehold.lab.machine.container import Container, Link, Mount, Specification
from freehold.lab.machine.guestfiles import GuestFiles
from freehold.lab.machine.network import LabNetwork, host_nameservers
from freehold.lab.machine.paths import LabPaths
from freehold.lab.machine.personality import Identity, make_ssh_key, personalise_each_start, personalise_once
from freehold.lab.machine.rootfs import NODE_IDS, Overlay, ensure_base

NAME = "pve"
COMMANDS = ("pct", "pveum", "pvesm", "pveam", "pvesh", "pveversion")
NVIDIA_COMMANDS = ("nvidia-modprobe", "nvidia-smi")
LIBRARY = "/opt/freehold-lab"
HOST_DEVICES = (Path("/dev/fuse"), Path("/dev/net/tun"))
"""Devices of the host that the node has too, as a real node does; both are safe in the hands of a container."""
GPU_DRIVER = "580.105.08"
"""Version of the driver that the stand-ins of GPUs speak of."""
CHIPS = {"2684": "AD102 [GeForce RTX 4090]", "2204": "GA102 [GeForce RTX 3090]"}


def gpus() -> tuple[dict[str, str | int], ...]:
    """What ``GET /nodes/pve/hardware/pci`` lists: stand-ins of GPUs, whose device nodes are harmless devices.

    As they are when the lab starts; ``freehold-lab-gpus`` on the node lets two of them change places.
    """
    table = (package_files("freehold.lab.machine") / "node_files/gpus_standin.txt").read_text("utf-8")
    rows = [line.split(maxsplit=7) for line in table.splitlines() if not line.startswith("#")]
    return tuple(
        {
            "id": address,
            "class": "0x030000",
            "vendor": "0x10de",
            "device": f"0x{chip}",
            "vendor_name": "NVIDIA Corporation",
            "device_name": CHIPS[chip],
            "subsystem_vendor": "0x10de",
            "subsystem_device": "0x167c",
            "iommugroup": int(group),
        }
        for _, address, _, chip, _, _, group, _ in rows
    )


class LabNode:
    """The node's container."""

    def __init__(self, paths: LabPaths, network: LabNetwork) -> None:
        self.paths = paths
        self.network = network
        self.overlay = Overlay(paths.node)
        self.container = Container(paths.lxc, network.container_name("node"))

    @property
    def host_key(self) -> str:
        """The node's Ed25519 host key as a public key line, without comment."""
        line = GuestFiles(self.overlay.rootfs, NODE_IDS).read("/etc/ssh/ssh_host_ed25519_key.pub")
        return " ".join(line.split()[:2])

    def running(self) -> bool:
        """Whether the node is up."""
        return self.container.pid() is not None

    def ensure(self) -> None:
        """Make the node unless it exists, and start it unless it runs.

        Raises:
            BackendError: It could not be made or started.
        """
        if self.running():
            self.write_known_hosts()
            return
        files = GuestFiles(self.overlay.rootfs, NODE_IDS)
        if not self.overlay.note.exists():
            base = ensure_base(self.paths.bases, self.paths.templates / templates.NODE.name, NODE_IDS)
            self.overlay.make(base, NODE_IDS)
            keys = self._own_key()
            personalise_once(files, NAME, ssh_public_keys=keys, password=None, log=lambda _: None)
        self.overlay.mount()
        self._install(files)
        network = self.network
        net = {
            "name": "eth0",
            "ip": f"{network.node_address}/{network.subnet.prefixlen}",
            "gw": str(network.gateway),
        }
        identity = Identity(NAME, host_nameservers(), timezone="UTC")
        personalise_each_start(files, identity, {0: net})
        for folder in (self.paths.local, *self.paths.local.rglob("*")):
            if folder.is_dir():
                os.chown(folder, NODE_IDS.root, NODE_IDS.root)
        self.container.start(
            Specification(
                name=self.container.name,
                hostname=NAME,
                rootfs=self.overlay.rootfs,
                ids=NODE_IDS,
                links={0: Link("eth0", f"{network.veth}node", network.bridge, "BC:24:11:4C:41:42")},
                mounts=[
                    Mount(self.paths.api_socket.parent, f"{LIBRARY}/api"),
                    Mount(self.paths.local, "/var/lib/vz"),
                    *(Mount(p, str(p), is_file=True) for p in HOST_DEVICES if p.is_char_device()),
                ],
                nesting=True,
                limits=cgroups.lxc_lines(0, 1024, 0, None),
            )
        )
        self._wait()
        self.write_known_hosts()

    def stop(self) -> None:
        """Shut the node down, at once when it does not within seconds."""
        if not self.container.shutdown(20):
            self.container.kill()

    def remove(self) -> None:
        """Stop the node and remove its files."""
        self.container.kill()
        self.overlay.destroy()

    def _own_key(self) -> str:
        public = self.paths.node_key.with_suffix(".pub")
        if not self.paths.node_key.exists():
            private, line = make_ssh_key("ed25519", "freehold-lab")
            public.write_text(line + "\n")
            descriptor = os.open(self.paths.node_key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as stream:
                stream.write(private)
        return public.read_text()

    def _install(self, files: GuestFiles) -> None:
        """Put the stand-ins and the API's certificate in place; a newer Freehold brings newer ones."""
        certificate = self.paths.certificate.read_text("ascii")
        source = package_files("freehold.lab.machine") / "node_files"
        for name in ("pve_cli_standin.py", "nvidia_standin.sh", "gpus_standin.sh"):
            files.write(f"{LIBRARY}/{name}", (source / name).read_text("utf-8"), 0o755)
        for command in COMMANDS:
            files.link(f"/usr/bin/{command}", f"{LIBRARY}/pve_cli_standin.py")
        for command in NVIDIA_COMMANDS:
            files.link(f"/usr/bin/{command}", f"{LIBRARY}/nvidia_standin.sh")
        files.write(f"{LIBRARY}/gpus", (source / "gpus_standin.txt").read_text("utf-8"))
        files.write(f"{LIBRARY}/driver", f"{GPU_DRIVER}\n")
        files.link("/usr/bin/freehold-lab-gpus", f"{LIBRARY}/gpus_standin.sh")
        for unit in ("pve-guests.service", "freehold-lab-gpus.service"):
            files.write(f"/etc/systemd/system/{unit}", (source / unit).read_text("utf-8"))
            files.link(f"/etc/systemd/system/multi-user.target.wants/{unit}", f"/etc/systemd/system/{unit}")
        for path in (
            f"/etc/pve/nodes/{NAME}/pve-ssl.pem",
            "/etc/pve/local/pve-ssl.pem",
            "/etc/pve/pve-root-ca.pem",
        ):
            files.write(path, certificate)

    def write_known_hosts(self) -> None:
        """Pin the node's host key for SSH clients."""
        self.paths.known_hosts.write_text(f"{self.network.node_address} {self.host_key}\n")
        self.paths.known_hosts.chmod(0o644)

    def _wait(self, seconds: float = 60) -> None:
        """Wait until systemd is done and sshd listens."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self.container.inside("ss", "-Hltn", "sport", "=", ":22").strip():
                    return
            except BackendError:
                if not self.running():
                    raise
            if time.monotonic() > deadline:
                raise BackendError(f"the lab's node does not listen on port 22 after {seconds:.0f} s")
            time.sleep(0.1)
