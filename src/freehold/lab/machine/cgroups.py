"""Limits and counters of a container (lab: a stand-in of a Proxmox VE node), for cgroup v1 and v2."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MIB = 1024 * 1024


def is_v2() -> bool:
    """Whether the host has the unified hierarchy alone."""
    return (ROOT / "cgroup.controllers").exists()


def folder(pid: int, controller: str) -> Path | None:
    """The container's folder of a controller, from its init; None when there is none."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if (controller in controllers.split(",")) if not is_v2() else not controllers:
            parts = [part for part in path.split("/") if part]
            payload = next((i for i, part in enumerate(parts) if part.startswith("lxc.payload.")), None)
            if payload is None:
                return None
            base = ROOT if is_v2() else ROOT / controller
            return base.joinpath(*parts[: payload + 1])
    return None


def cpuset(vmid: int, cores: int | None) -> str | None:
    """The host's CPUs for ``cores`` cores, spread over containers by number; None for all of them.

    ``pvestatd`` of a real node does the same with ``cores``: the container sees that many CPUs.
    """
    count = os.cpu_count() or 1
    if cores is None or cores >= count:
        return None
    return ",".join(str(cpu) for cpu in sorted((vmid + i) % count for i in range(cores)))


def lxc_lines(vmid: int, memory: int, swap: int, cores: int | None) -> list[str]:
    """Limits as lines of an LXC configuration; ``memory`` and ``swap`` in MiB."""
    cpus = cpuset(vmid, cores)
    if is_v2():
        lines = [f"lxc.cgroup2.memory.max = {memory * MIB}", f"lxc.cgroup2.memory.swap.max = {swap * MIB}"]
        return lines + ([f"lxc.cgroup2.cpuset.cpus = {cpus}"] if cpus else [])
    lines = [f"lxc.cgroup.memory.limit_in_bytes = {memory * MIB}"]
    if (ROOT / "memory/memory.memsw.limit_in_bytes").exists():
        lines.append(f"lxc.cgroup.memory.memsw.limit_in_bytes = {(memory + swap) * MIB}")
    return lines + ([f"lxc.cgroup.cpuset.cpus = {cpus}"] if cpus else [])


def set_memory(pid: int, memory: int, swap: int) -> None:
    """Change the limits of a running container, in MiB.

    Raises:
        OSError: The kernel refuses, as it does below what is in use.
    """
    group = folder(pid, "memory")
    if group is None:
        return
    if is_v2():
        (group / "memory.max").write_text(str(memory * MIB))
        (group / "memory.swap.max").write_text(str(swap * MIB))
        return
    limit, both = group / "memory.limit_in_bytes", group / "memory.memsw.limit_in_bytes"
    writes = [(limit, memory * MIB), (both, (memory + swap) * MIB)]
    if int(limit.read_text()) < memory * MIB:
        writes.reverse()  # memory never exceeds memory+swap, so the outer limit grows first and shrinks last
    for path, value in writes:
        if path.exists():
            path.write_text(str(value))


def set_cores(pid: int, vmid: int, cores: int | None) -> None:
    """Change the CPUs of a running container."""
    group = folder(pid, "cpuset")
    if group is None:
        return
    cpus = cpuset(vmid, cores) or f"0-{(os.cpu_count() or 1) - 1}"
    nested = sorted((path for path in group.rglob("*") if path.is_dir()), key=lambda path: len(path.parts))
    for path in [group, *nested]:
        with contextlib.suppress(OSError):
            (path / "cpuset.cpus").write_text(cpus)


def memory_used(pid: int) -> tuple[int, int]:
    """Memory and swap in use, in bytes, without the page cache, as Proxmox VE counts it."""
    group = folder(pid, "memory")
    if group is None:
        return 0, 0
    stat = _numbers(group / "memory.stat")
    if is_v2():
        used = int((group / "memory.current").read_text()) - stat.get("inactive_file", 0)
        return max(used, 0), int((group / "memory.swap.current").read_text())
    used = int((group / "memory.usage_in_bytes").read_text()) - stat.get("total_cache", 0)
    return max(used, 0), stat.get("total_swap", 0)


def cpu_seconds(pid: int) -> float:
    """CPU time that the container has used, in seconds."""
    group = folder(pid, "cpuacct" if not is_v2() else "cpu")
    if group is None:
        return 0.0
    if is_v2():
        return _numbers(group / "cpu.stat").get("usage_usec", 0) / 1e6
    return int((group / "cpuacct.usage").read_text()) / 1e9


def _numbers(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in path.read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
