"""One LXC container: its configuration, start, stop and state (lab: a stand-in of a Proxmox VE node)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from freehold.lab.backend import BackendError
from freehold.lab.machine.commands import lxc, run
from freehold.lab.machine.rootfs import IdMap

SHARE = Path("/usr/share/lxc/config")


@dataclass(frozen=True)
class Mount:
    """Something of the host that appears in the container at ``target`` (no leading slash needed)."""

    source: Path
    target: str
    read_only: bool = False
    is_file: bool = False


@dataclass(frozen=True)
class Link:
    """One network interface: the name inside, the name on the host, the bridge on the host."""

    name: str
    veth: str
    bridge: str
    hwaddr: str | None = None
    mtu: str | None = None
    up: bool = True


@dataclass(frozen=True)
class Specification:
    """All that LXC has to know of a container."""

    name: str
    hostname: str
    rootfs: Path
    ids: IdMap
    links: Mapping[int, Link] = field(default_factory=dict)
    mounts: Sequence[Mount] = ()
    nesting: bool = False
    limits: Sequence[str] = ()

    def text(self, folder: Path) -> str:
        """The LXC configuration file; ``folder`` is where LXC keeps this container."""
        lines = [f"lxc.include = {SHARE / 'common.conf'}", f"lxc.include = {SHARE / 'userns.conf'}"]
        lines += [
            "lxc.arch = amd64",
            f"lxc.uts.name = {self.hostname}",
            f"lxc.rootfs.path = dir:{self.rootfs}",
        ]
        lines += [
            "lxc.tty.max = 0",
            "lxc.console.path = none",
            f"lxc.console.logfile = {folder / 'console.log'}",
        ]
        lines += self.ids.lxc_lines()
        if Path("/sys/kernel/security/apparmor").exists():
            profile = (
                "lxc-container-default-cgns" if not self.nesting else "lxc-container-default-with-nesting"
            )
            lines.append(f"lxc.apparmor.profile = {profile}")
        else:
            lines.append("lxc.apparmor.profile = unconfined")
        if self.nesting:
            # what lxc's nesting.conf mounts: nested mount namespaces may only mount a proc and sys of their own
            # when the container has one that nothing covers
            lines.append("lxc.mount.entry = proc dev/.lxc/proc proc create=dir,optional 0 0")
            lines.append("lxc.mount.entry = sys dev/.lxc/sys sysfs create=dir,optional 0 0")
        for index, link in sorted(self.links.items()):
            net = {"type": "veth", "link": link.bridge, "name": link.name, "veth.pair": link.veth}
            net |= {"hwaddr": link.hwaddr} if link.hwaddr else {}
            net |= {"mtu": link.mtu} if link.mtu else {}
            net |= {"flags": "up"} if link.up else {}
            lines += [f"lxc.net.{index}.{key} = {value}" for key, value in net.items()]
        if not self.links:
            lines.append("lxc.net.0.type = empty")
        for mount in self.mounts:
            kind = "create=file" if mount.is_file else "create=dir"
            mode = "bind,ro" if mount.read_only else "bind"
            source, target = (escape(str(path)) for path in (mount.source, mount.target.lstrip("/")))
            lines.append(f"lxc.mount.entry = {source} {target} none {mode},{kind} 0 0")
        return "\n".join([*lines, *self.limits]) + "\n"


def escape(path: str) -> str:
    """A path for a line of fstab format, where blanks are written as octal codes."""
    return path.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")


class Container:
    """A container under LXC's own folder ``home`` (its ``-P``)."""

    def __init__(self, home: Path, name: str) -> None:
        self.home = home
        self.name = name
        self.folder = home / name
        self._pid: int | None = None

    def start(self, specification: Specification) -> None:
        """Write the configuration and start the container.

        Raises:
            BackendError: LXC could not start it; the text holds LXC's own errors.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o711)
        (self.folder / "config").write_text(specification.text(self.folder))
        for link in specification.links.values():
            # A network namespace outlives its last process while the kernel cleans up, and keeps the name taken.
            if Path(f"/sys/class/net/{link.veth}").exists():
                subprocess.run(["ip", "link", "del", link.veth], capture_output=True, check=False)
        log = self.folder / "lxc.log"
        for old in (log, self.folder / "console.log"):
            old.unlink(missing_ok=True)
        args = ["-P", str(self.home), "-n", self.name, "-d", "-o", str(log), "-l", "WARN"]
        # LXC's monitor lives on when the lab is killed, and must not hold the lab's files open
        done = subprocess.run(
            lxc("lxc-start", *args),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            close_fds=True,
            start_new_session=True,
            cwd="/",
        )
        if done.returncode or self.pid() is None:
            text = log.read_text() if log.exists() else ""
            errors = [line.split(" - ", 1)[-1] for line in text.splitlines() if " ERROR " in line]
            console = self.folder / "console.log"
            tail = console.read_text(errors="replace").splitlines()[-12:] if console.exists() else []
            raise BackendError("\n".join(errors[-12:] or tail) or f"lxc-start ended with {done.returncode}")

    def kill(self) -> None:
        """Stop at once; stopped already is fine."""
        if self.pid() is not None:
            run(lxc("lxc-stop", "-P", str(self.home), "-n", self.name, "-k"), timeout=60)

    def shutdown(self, timeout: int) -> bool:
        """Ask the container's init to shut down; whether it is down within ``timeout`` seconds."""
        if self.pid() is None:
            return True
        args = ["-P", str(self.home), "-n", self.name, "--nokill", "--timeout", str(max(timeout, 1))]
        with contextlib.suppress(BackendError):
            run(lxc("lxc-stop", *args), timeout=timeout + 30)
        deadline = time.monotonic() + 5  # the monitor still cleans up after init has gone
        while self.pid() is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.pid() is None

    def pid(self) -> int | None:
        """The host's process id of the container's init, or None when it does not run."""
        if f"@{self.folder}/command" not in Path("/proc/net/unix").read_text():
            self._pid = None
            return None
        if self._pid is not None and self._is_mine(self._pid):
            return self._pid
        with contextlib.suppress(BackendError, ValueError):
            self._pid = int(
                run(lxc("lxc-info", "-P", str(self.home), "-n", self.name, "-p", "-H"), timeout=20)
            )
            return self._pid
        return None

    def _is_mine(self, pid: int) -> bool:
        try:
            text = Path(f"/proc/{pid}/cgroup").read_text()
        except OSError:
            return False
        return any(part in text for part in (f"/lxc.payload.{self.name}/", f"/lxc.payload.{self.name}\n"))

    def uptime(self) -> int:
        """Seconds since the container's init began; 0 when it does not run."""
        pid = self.pid()
        if pid is None:
            return 0
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0
        began = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(int(float(Path("/proc/uptime").read_text().split()[0]) - began), 0)

    def inside(self, *args: str, namespaces: Sequence[str] = ("--net",), stdin: str | None = None) -> str:
        """Run a tool of the host in namespaces of the running container.

        Raises:
            BackendError: The container does not run, or the tool fails.
        """
        pid = self.pid()
        if pid is None:
            raise BackendError(f"container '{self.name}' is not running")
        return run(["nsenter", "--target", str(pid), *namespaces, "--", *args], stdin=stdin)
