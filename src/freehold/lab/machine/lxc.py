"""The containers of the lab: the ``Backend`` of a stand-in of the Proxmox VE API, for development."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from freehold.lab.backend import BackendError, Guest, GuestStatus, Interface, Log
from freehold.lab.machine import cgroups
from freehold.lab.machine.commands import run
from freehold.lab.machine.container import Container, Link, Mount, Specification
from freehold.lab.machine.guestfiles import GuestFiles
from freehold.lab.machine.network import LabNetwork, host_nameservers
from freehold.lab.machine.paths import LabPaths
from freehold.lab.machine.personality import (
    Identity,
    forget_machine_id,
    personalise_each_start,
    personalise_once,
    static_address,
    write_interfaces,
)
from freehold.lab.machine.properties import indexed, parse_property
from freehold.lab.machine.rootfs import GUEST_IDS, Overlay, ensure_base

DISK_USAGE_AGE = 300.0
"""Seconds for which the measured size of a root file system is good enough."""


class LxcBackend:
    """Real containers under ``paths``, on ``network``; implements ``freehold.lab.backend.Backend``."""

    def __init__(self, paths: LabPaths, network: LabNetwork, node_root: Path) -> None:
        self.paths = paths
        self.network = network
        self.node_root = node_root
        self._containers: dict[int, Container] = {}
        self._cpu: dict[int, tuple[float, float]] = {}
        self._disk: dict[int, tuple[float, int]] = {}
        self._counting = threading.Lock()
        self._roots: dict[int, Path] = {}
        self._lock = threading.Lock()

    def container(self, vmid: int) -> Container:
        """The LXC container of a guest, whether it exists or not."""
        with self._lock:
            return self._containers.setdefault(
                vmid, Container(self.paths.lxc, self.network.container_name(vmid))
            )

    def create(
        self, guest: Guest, template: Path, *, ssh_public_keys: str | None, password: str | None, log: Log
    ) -> None:
        """See ``Backend.create``."""
        if guest.config.get("unprivileged", "1") != "1":
            raise BackendError(
                "this stand-in of Proxmox VE makes unprivileged containers only (unprivileged=1)"
            )
        for source in (parse_property(v, "volume")["volume"] for v in indexed(guest.config, "mp").values()):
            if source.startswith("/"):
                self._on_node(source, log)
        overlay = Overlay(guest.volumes["rootfs"])
        try:
            log(f"extracting archive '/var/lib/vz/template/cache/{template.name}'")
            base = ensure_base(self.paths.bases, template, GUEST_IDS)
            log(base.totals)
            overlay.make(base, GUEST_IDS)
            log("Detected container architecture: amd64")
            for key, volume in guest.volumes.items():
                if key != "rootfs":
                    self._make_volume(volume)
            files = GuestFiles(overlay.rootfs, GUEST_IDS)
            name = self._hostname(guest)
            personalise_once(files, name, ssh_public_keys=ssh_public_keys, password=password, log=log)
            personalise_each_start(files, self._identity(guest), self._nets(guest))
        except (BackendError, OSError) as error:
            self.destroy(guest, lambda _: None)
            raise error if isinstance(error, BackendError) else BackendError(str(error)) from error

    def start(self, guest: Guest, log: Log) -> None:
        """See ``Backend.start``."""
        try:
            overlay = Overlay(guest.volumes["rootfs"])
            overlay.mount()
            nets = self._nets(guest)
            personalise_each_start(GuestFiles(overlay.rootfs, GUEST_IDS), self._identity(guest), nets)
            config = guest.config
            cores = int(config["cores"]) if "cores" in config else None
            specification = Specification(
                name=self.network.container_name(guest.vmid),
                hostname=self._hostname(guest),
                rootfs=overlay.rootfs,
                ids=GUEST_IDS,
                links={index: self._link(guest.vmid, index, net) for index, net in nets.items()},
                mounts=[*self._mounts(guest, log), *self._devices(guest, log)],
                nesting=parse_property(config.get("features", "")).get("nesting") == "1",
                limits=cgroups.lxc_lines(
                    guest.vmid, int(config.get("memory", "512")), int(config.get("swap", "512")), cores
                ),
            )
            self.container(guest.vmid).start(specification)
        except (BackendError, OSError) as error:
            # a real node says why in the log and ends the task with this one sentence (PVE::LXC::vm_start)
            for line in str(error).splitlines():
                log(line)
            raise BackendError(f"startup for container '{guest.vmid}' failed") from error
        with self._lock:
            self._roots[guest.vmid] = overlay.volume

    def stop(self, vmid: int, log: Log) -> None:  # noqa: ARG002 - a real stop logs nothing
        """See ``Backend.stop``."""
        self.container(vmid).kill()

    def shutdown(self, vmid: int, timeout: int, log: Log) -> bool:  # noqa: ARG002 - nor does a shutdown
        """See ``Backend.shutdown``."""
        return self.container(vmid).shutdown(timeout)

    def apply(self, guest: Guest, keys: frozenset[str], log: Log) -> None:
        """See ``Backend.apply``."""
        container = self.container(guest.vmid)
        pid = container.pid()
        if pid is None:
            return
        config = guest.config
        if keys & {"memory", "swap"}:
            cgroups.set_memory(pid, int(config.get("memory", "512")), int(config.get("swap", "512")))
        if "cores" in keys:
            cgroups.set_cores(pid, guest.vmid, int(config["cores"]) if "cores" in config else None)
        rootfs = Overlay(guest.volumes["rootfs"]).rootfs
        if "hostname" in keys:
            files = GuestFiles(rootfs, GUEST_IDS)
            personalise_each_start(files, self._identity(guest), self._nets(guest))
        changed_nets = {int(key[3:]) for key in keys if key.startswith("net") and key[3:].isdigit()}
        if changed_nets:
            nets = self._nets(guest)
            for index in sorted(changed_nets):
                self._change_net(container, guest.vmid, index, nets.get(index))
            write_interfaces(GuestFiles(rootfs, GUEST_IDS), nets)
        for index, value in indexed(config, "mp").items():
            if f"mp{index}" in keys:
                self._inject(pid, self._mount(guest, index, value, log))
        for index, value in indexed(config, "dev").items():
            if f"dev{index}" in keys:
                self._inject(pid, self._device(guest.vmid, index, value))

    def destroy(self, guest: Guest, log: Log) -> None:  # noqa: ARG002 - a real destroy logs nothing of this
        """See ``Backend.destroy``."""
        self.container(guest.vmid).kill()
        for volume in guest.volumes.values():
            Overlay(volume).destroy()  # of a volume that is no overlay, the folder alone
        shutil.rmtree(self.container(guest.vmid).folder, ignore_errors=True)
        with self._lock:
            for memory in (self._containers, self._cpu, self._disk, self._roots):
                memory.pop(guest.vmid, None)

    def clone(self, source: Guest, target: Guest, log: Log) -> None:
        """See ``Backend.clone``."""
        try:
            for key, volume in target.volumes.items():
                if key == "rootfs":
                    Overlay(source.volumes[key]).copy_to(Overlay(volume))
                else:
                    volume.parent.mkdir(parents=True, exist_ok=True)
                    run(["cp", "-a", "--reflink=auto", str(source.volumes[key]), str(volume)], timeout=600)
            files = GuestFiles(Overlay(target.volumes["rootfs"]).rootfs, GUEST_IDS)
            forget_machine_id(files)
            personalise_each_start(files, self._identity(target), self._nets(target))
        except (BackendError, OSError) as error:
            self.destroy(target, log)
            raise error if isinstance(error, BackendError) else BackendError(str(error)) from error

    def resize(self, guest: Guest, key: str, size: int, log: Log) -> None:  # noqa: ARG002 - folders have no size
        """See ``Backend.resize``: volumes are folders, so growing one is the API's accounting alone."""
        log("Image resized.")

    def status(self, vmid: int) -> GuestStatus:
        """See ``Backend.status``."""
        container = self.container(vmid)
        pid = container.pid()
        if pid is None:
            return GuestStatus(running=False)
        try:
            memory, swap = cgroups.memory_used(pid)
            received, sent = _traffic(pid)
            return GuestStatus(
                running=True,
                pid=pid,
                uptime=container.uptime(),
                cpu=self._cpu_share(vmid, pid),
                mem=memory,
                swap=swap,
                disk=self._disk_used(vmid, pid),
                netin=received,
                netout=sent,
            )
        except OSError:  # it stopped while being looked at
            return GuestStatus(running=container.pid() is not None)

    def interfaces(self, vmid: int) -> Sequence[Interface]:
        """See ``Backend.interfaces``."""
        found = []
        for link in json.loads(self.container(vmid).inside("ip", "-j", "addr")):
            addresses: dict[str, list[str]] = {"inet": [], "inet6": []}
            for info in link.get("addr_info", []):
                addresses.setdefault(info["family"], []).append(f"{info['local']}/{info['prefixlen']}")
            found.append(
                Interface(link["ifname"], link.get("address", ""), addresses["inet"], addresses["inet6"])
            )
        return found

    def device_exists(self, path: str) -> bool:
        """See ``Backend.device_exists``."""
        return self._node_device(path) is not None

    # --- what a guest's configuration means on this machine

    def _hostname(self, guest: Guest) -> str:
        return guest.config.get("hostname", f"CT{guest.vmid}")

    def _identity(self, guest: Guest) -> Identity:
        servers = guest.config.get("nameserver", "").replace(",", " ").split()
        return Identity(
            hostname=self._hostname(guest),
            nameservers=servers or host_nameservers(),
            searchdomain=guest.config.get("searchdomain"),
            timezone=guest.config.get("timezone"),
        )

    def _nets(self, guest: Guest) -> dict[int, dict[str, str]]:
        return {index: parse_property(value) for index, value in indexed(guest.config, "net").items()}

    def _link(self, vmid: int, index: int, net: Mapping[str, str]) -> Link:
        return Link(
            name=net["name"],
            veth=self.network.veth_name(vmid, index),
            bridge=self.network.bridge_for(net),
            hwaddr=net.get("hwaddr"),
            mtu=net.get("mtu"),
            up=net.get("link_down") != "1",
        )

    def _make_volume(self, volume: Path) -> None:
        """Give a new volume to the container's root; one that it has already stays as it is."""
        volume.mkdir(parents=True, exist_ok=True)
        if volume.stat().st_uid == 0:
            os.chown(volume, GUEST_IDS.root, GUEST_IDS.root)
            volume.chmod(0o755)

    def _mounts(self, guest: Guest, log: Log) -> list[Mount]:
        return [self._mount(guest, i, value, log) for i, value in sorted(indexed(guest.config, "mp").items())]

    def _mount(self, guest: Guest, index: int, value: str, log: Log) -> Mount:
        options = parse_property(value, "volume")
        source = options["volume"]
        if source.startswith("/"):
            host = self._on_node(source, log)
        else:
            host = guest.volumes[f"mp{index}"]
            self._make_volume(host)
        return Mount(host, options["mp"], read_only=options.get("ro") == "1")

    def _on_node(self, source: str, log: Log) -> Path:
        """The folder of the host that the node sees at ``source``."""
        if Path(source).is_relative_to("/var/lib/vz"):
            path, root = self.paths.local / Path(source).relative_to("/var/lib/vz"), self.paths.local
        else:
            path, root = self.node_root / source.lstrip("/"), self.node_root
        resolved = path.resolve()
        if not resolved.is_relative_to(root.resolve()) or not resolved.exists():
            log("mounting container failed")
            raise BackendError(f"directory '{source}' does not exist")
        return resolved

    def _devices(self, guest: Guest, log: Log) -> list[Mount]:
        del log
        # made anew at each start, so that numbers which changed on the node are followed
        shutil.rmtree(self._device_folder(guest.vmid), ignore_errors=True)
        return [
            self._device(guest.vmid, i, value) for i, value in sorted(indexed(guest.config, "dev").items())
        ]

    def _device_folder(self, vmid: int) -> Path:
        return self.container(vmid).folder / "passthrough"

    def _device(self, vmid: int, index: int, value: str) -> Mount:
        """A device node with the owner and mode that ``devN`` asks for, to be bound into the container's /dev.

        Source: pve-container ``src/lxc-pve-prestart-hook`` and ``src/PVE/LXC.pm`` (default mode 0660, root:root).
        """
        options = parse_property(value, "path")
        path = options["path"]
        found = self._node_device(path)
        if found is None:
            raise BackendError(f"Could not get mode or device ID of {path}")
        node = self._device_folder(vmid) / f"{index}{path.replace('/', '-')}"
        node.parent.mkdir(parents=True, exist_ok=True)
        node.parent.chmod(0o711)
        node.unlink(missing_ok=True)
        os.mknod(node, 0o600 | stat.S_IFMT(found.st_mode), found.st_rdev)
        uid, gid = (GUEST_IDS.host_id(int(options.get(key, "0"))) for key in ("uid", "gid"))
        os.chown(node, uid, gid)
        node.chmod(int(options.get("mode", "0660"), 8))
        return Mount(node, path, read_only=options.get("deny-write") == "1", is_file=True)

    def _node_device(self, path: str) -> os.stat_result | None:
        pid = Container(self.paths.lxc, self.network.container_name("node")).pid()
        if pid is None or not path.startswith("/dev/"):
            return None
        try:
            found = Path(f"/proc/{pid}/root{path}").lstat()
        except OSError:
            return None
        return found if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode) else None

    # --- changes of a running guest

    def _inject(self, pid: int, mount: Mount) -> None:
        args = [
            sys.executable,
            "-m",
            "freehold.lab.machine.inject",
            str(pid),
            str(mount.source),
            mount.target,
        ]
        run([*args, *(["ro"] if mount.read_only else [])])

    def _change_net(self, container: Container, vmid: int, index: int, net: Mapping[str, str] | None) -> None:
        veth = self.network.veth_name(vmid, index)
        exists = Path(f"/sys/class/net/{veth}").exists()
        if net is None:
            if exists:
                run(["ip", "link", "del", veth])
            return
        links = {link["ifname"]: link for link in json.loads(container.inside("ip", "-j", "addr"))}
        link = links.get(net["name"])
        same = exists and link is not None and link["address"].upper() == net.get("hwaddr", "").upper()
        if not same:
            if exists:
                run(["ip", "link", "del", veth])
            pid = container.pid()
            peer = f"{veth}p"[-15:]
            run(["ip", "link", "add", veth, "type", "veth", "peer", "name", peer])
            run(["ip", "link", "set", veth, "up"])
            run(["ip", "link", "set", peer, "netns", str(pid), "name", net["name"], "address", net["hwaddr"]])
            link = None
        run(["ip", "link", "set", veth, "master", self.network.bridge_for(net)])
        if mtu := net.get("mtu"):
            container.inside("ip", "link", "set", net["name"], "mtu", mtu)
        state = "down" if net.get("link_down") == "1" else "up"
        container.inside("ip", "link", "set", net["name"], state)
        wanted = [address for key in ("ip", "ip6") if (address := static_address(net, key))]
        have = (
            [f"{i['local']}/{i['prefixlen']}" for i in link["addr_info"] if i["scope"] == "global"]
            if link
            else []
        )
        for address in have:
            if address not in wanted:
                container.inside("ip", "addr", "del", address, "dev", net["name"])
        for address in wanted:
            container.inside("ip", "addr", "replace", address, "dev", net["name"])
        for key in ("gw", "gw6"):
            if net.get(key) and state == "up":
                container.inside("ip", "route", "replace", "default", "via", net[key], "dev", net["name"])

    # --- counters

    def _cpu_share(self, vmid: int, pid: int) -> float:
        now, used = time.monotonic(), cgroups.cpu_seconds(pid)
        before, was = self._cpu.get(vmid, (now, used))
        if now - before >= 1 or vmid not in self._cpu:
            self._cpu[vmid] = (now, used)
        passed = now - before
        return max((used - was) / passed / (os.cpu_count() or 1), 0.0) if passed > 0 else 0.0

    def _disk_used(self, vmid: int, pid: int) -> int:
        """Bytes as counted last, 0 before the first time: who lists all guests cannot wait for a busy disk to count each."""
        asked, size = self._disk.get(vmid, (-DISK_USAGE_AGE, 0))
        if time.monotonic() - asked >= DISK_USAGE_AGE:
            volume = self._roots.get(vmid) or self._volume_of(pid)
            if volume is not None:
                self._disk[vmid] = (time.monotonic(), size)
                threading.Thread(target=self._count_disk, args=(vmid, Overlay(volume)), daemon=True).start()
        return size

    def _count_disk(self, vmid: int, overlay: Overlay) -> None:
        # not in time, or gone: what was counted last stands
        with self._counting, contextlib.suppress(BackendError, OSError):
            size = sum(_tree_size(path) for path in (Path(overlay.note.read_text()), overlay.delta))
            if vmid in self._disk:
                self._disk[vmid] = (time.monotonic(), size)

    def _volume_of(self, pid: int) -> Path | None:
        """The root volume of a container that an earlier run of the lab started, from its mounts."""
        for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            if before.split()[4] == "/" and "upperdir=" in after:
                return Path(after.split("upperdir=")[1].split(",")[0]).parent
        return None


_base_sizes: dict[str, int] = {}


def _tree_size(path: Path) -> int:
    """Bytes on disk; a base never changes, so it is measured once."""
    known = _base_sizes.get(str(path))
    if known is not None:
        return known
    # Files of a running container go while they are counted; du counts the others, and calls that a failure.
    count = 'du --summarize --block-size=1 --one-file-system "$1" 2>/dev/null || true'
    size = int((run(["sh", "-c", count, "sh", str(path)], timeout=15).split() or ["0"])[0])
    if path.with_suffix(".json").exists():
        _base_sizes[str(path)] = size
    return size


def _traffic(pid: int) -> tuple[int, int]:
    """Bytes received and sent by all interfaces but loopback."""
    received = sent = 0
    for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]:
        name, _, numbers = line.partition(":")
        if name.strip() != "lo":
            fields = numbers.split()
            received += int(fields[0])
            sent += int(fields[8])
    return received, sent
