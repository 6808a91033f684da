"""Machines of ``tests/unit/data/gpus``: their ``/sys`` and ``/proc`` as a tree of files, over which the probe runs for real."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

from freehold.gpus import probe
from freehold.gpus.found import Found

DATA = Path(__file__).parents[1] / "data/gpus"
MACHINES = sorted(path.name for path in DATA.iterdir() if path.is_dir())

_DEVICE = re.compile(
    r"(?P<pci>\S+) [^\[]*\[(?P<cls>\w{4})\]: (?P<name>.+?) \[(?P<vendor>\w{4}):(?P<device>\w{4})\]"
)
_CLASSES = {"0300": "0x030000", "0302": "0x030200", "0380": "0x038000"}


def tree(machine: str, root: Path) -> Path:
    """Make the tree of a machine below ``root``, and commands that print what was recorded."""
    data = DATA / machine
    slots = root / "sys/bus/pci/devices"
    here = slots
    for line in (data / "lspci.txt").read_text().splitlines():
        if match := _DEVICE.match(line):
            here = slots / match["pci"]
            here.mkdir(parents=True)
            (here / "class").write_text(_CLASSES.get(match["cls"], f"0x{match['cls']}00") + "\n")
            (here / "vendor").write_text(f"0x{match['vendor']}\n")
            (here / "device").write_text(f"0x{match['device']}\n")
            (here / "numa_node").write_text("-1\n")
        elif "driver in use" in line:
            (here / "driver").symlink_to(f"../../../../bus/pci/drivers/{line.split(': ')[1]}")
        elif "IOMMU group" in line:
            (here / "iommu_group").symlink_to(f"../../../../kernel/iommu_groups/{line.split(': ')[1]}")
    _files(data, slots, root)
    commands = root / "bin"
    commands.mkdir()
    _command(commands / "lspci", data / "lspci.txt")
    if (data / "nvidia-smi.csv").exists():
        _command(commands / "nvidia-smi", data / "nvidia-smi.csv")
    return root


def _files(data: Path, slots: Path, root: Path) -> None:
    if (data / "drm.txt").exists():
        for line in (data / "drm.txt").read_text().splitlines():
            node, _, target = line.split()[-3:]
            (slots / Path(target).name / "drm" / Path(node).parent.name).mkdir(parents=True)
    for path in (data / "sysfs").glob("*"):
        address, _, name = path.name.rpartition(".")
        (slots / address / name).write_bytes(path.read_bytes())
    driver = root / "proc/driver/nvidia"
    if (data / "version").exists():
        driver.mkdir(parents=True)
        (driver / "version").write_bytes((data / "version").read_bytes())
    for path in (data / "information").glob("*"):
        (driver / "gpus" / path.name).mkdir(parents=True)
        (driver / "gpus" / path.name / "information").write_bytes(path.read_bytes())


def _command(path: Path, output: Path) -> None:
    path.write_text(f"#!/bin/sh\ncat '{output}'\n")
    path.chmod(0o755)


def probed(root: Path) -> str:
    """What the probe prints on the machine in the tree."""
    script = probe.SCRIPT.replace("/sys/", f"{root}/sys/").replace("/proc/", f"{root}/proc/")
    path = f"{root / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", script], env={"PATH": path}, capture_output=True, text=True, check=True, timeout=30
    )
    assert not done.stderr, done.stderr
    return done.stdout


def found(machine: str, root: Path) -> Found:
    """What the probe finds on a machine."""
    result = probe.parse(probed(tree(machine, root)))
    assert result is not None
    return result


def api(machine: str) -> list[dict[str, Any]]:
    """What ``GET /nodes/{node}/hardware/pci`` answers on a machine."""
    answer = []
    for line in (DATA / machine / "lspci.txt").read_text().splitlines():
        match = _DEVICE.match(line)
        if match and match["cls"][:2] not in {"05", "06", "0b"}:
            answer.append(
                {
                    "id": match["pci"],
                    "class": _CLASSES.get(match["cls"], f"0x{match['cls']}00"),
                    "vendor": f"0x{match['vendor']}",
                    "device": f"0x{match['device']}",
                    "device_name": match["name"],
                    "iommugroup": -1,
                }
            )
    return answer
