"""A stand-in of the lab's machine that keeps containers in memory, for contract tests: nothing runs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from freehold.lab.backend import BackendError, Guest, GuestStatus, Interface, Log
from freehold.lab.tasks import InterruptedTaskError

_TAR = (
    "command 'lxc-usernsexec -m u:0:100000:65536 -m g:0:100000:65536 -- tar xpf - --zstd --totals --one-file-system -p "
    "--sparse --numeric-owner --acls --xattrs '--xattrs-include=user.*' '--xattrs-include=security.capability' "
    "'--warning=no-file-ignored' '--warning=no-xattr-write' -C /var/lib/lxc/{vmid}/rootfs --skip-old-files --anchored "
    "--exclude './dev/*'' failed: received interrupt"
)
KEY = "SHA256:" + "A" * 43


class MemoryBackend:
    """Containers that are names in a set. ``hold`` makes the next call of a kind wait until ``release``."""

    def __init__(self, devices: Sequence[str] = (), directories: Sequence[str] = ()) -> None:
        self.devices = set(devices)
        self.directories = set(directories)
        self.running: dict[int, int] = {}
        self.nets: dict[int, dict[str, dict[str, str]]] = {}
        self._pids = iter(range(5000, 10**6))
        self._gates: dict[str, threading.Event] = {}
        self._reached: dict[str, threading.Event] = {}

    def hold(self, kind: str) -> None:
        self._gates[kind], self._reached[kind] = threading.Event(), threading.Event()

    def until_held(self, kind: str) -> None:
        assert self._reached[kind].wait(20), f"nobody came to {kind}"

    def release(self, kind: str) -> None:
        if gate := self._gates.pop(kind, None):
            gate.set()

    def _wait(self, kind: str) -> None:
        if gate := self._gates.get(kind):
            self._reached[kind].set()
            assert gate.wait(20), f"nobody released {kind}"

    def create(
        self, guest: Guest, template: Path, *, ssh_public_keys: str | None, password: str | None, log: Log
    ) -> None:
        for value in guest.config.values():
            source = value.split(",")[0]
            if source.startswith("/srv/") and source not in self.directories:
                log("mounting container failed")
                raise BackendError(f"directory '{source}' does not exist")
        try:
            # A stop is noticed at the next line of the log, whichever that is.
            log(f"extracting archive '/var/lib/vz/template/cache/{template.name}'")
            self._wait("create")
            log("Total bytes read: 10240 (10KiB, 4.3MiB/s)")
        except InterruptedTaskError as error:
            raise BackendError(_TAR.format(vmid=guest.vmid)) from error
        if guest.config["ostype"] == "unmanaged":
            log("Falling back to amd64.")
            log("Use `pct set VMID --arch ARCH` to change.")
            return
        log("Detected container architecture: amd64")
        for kind in ("rsa", "ecdsa", "ed25519"):
            log(f"Creating SSH host key 'ssh_host_{kind}_key' - this may take some time ...")
            log(f"done: {KEY} root@{guest.config['hostname']}")

    def start(self, guest: Guest, log: Log) -> None:
        for key, value in guest.config.items():
            if key.startswith("dev"):
                path = value.split(",")[0].removeprefix("path=")
                if path not in self.devices:
                    raise BackendError(f"Could not get mode or device ID of {path}")
        self._wait("start")
        self.running[guest.vmid] = next(self._pids)
        self._remember(guest)

    def stop(self, vmid: int, log: Log) -> None:
        self.running.pop(vmid, None)

    def shutdown(self, vmid: int, timeout: int, log: Log) -> bool:
        self.running.pop(vmid, None)
        return True

    def apply(self, guest: Guest, keys: frozenset[str], log: Log) -> None:
        self._remember(guest)

    def _remember(self, guest: Guest) -> None:
        nets = {key: value for key, value in guest.config.items() if key.startswith("net")}
        self.nets[guest.vmid] = {
            key: dict(part.split("=", 1) for part in value.split(",")) for key, value in nets.items()
        }

    def destroy(self, guest: Guest, log: Log) -> None:
        self.running.pop(guest.vmid, None)

    def clone(self, source: Guest, target: Guest, log: Log) -> None:
        log("Number of files: 14 (reg: 1, dir: 13)")

    def resize(self, guest: Guest, key: str, size: int, log: Log) -> None:
        log("Image resized.")
        self._wait("resize")

    def status(self, vmid: int) -> GuestStatus:
        pid = self.running.get(vmid)
        return GuestStatus(running=pid is not None, pid=pid, mem=1 if pid else 0)

    def interfaces(self, vmid: int) -> Sequence[Interface]:
        found = [Interface("lo", "00:00:00:00:00:00", ["127.0.0.1/8"], ["::1/128"])]
        for net in self.nets[vmid].values():
            mac = net["hwaddr"].lower()
            static = "/" in net.get("ip", "")
            octets = [int(byte, 16) for byte in mac.split(":")]
            local = f"fe80::{(octets[0] ^ 2) << 8 | octets[1]:x}:{octets[2]:x}ff:fe{octets[3]:02x}:{octets[4] << 8 | octets[5]:x}"
            found.append(
                Interface(net["name"], mac, [net["ip"]] if static else [], [f"{local}/64"] if static else [])
            )
        return found

    def device_exists(self, path: str) -> bool:
        return path in self.devices
