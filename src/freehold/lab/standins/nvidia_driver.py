"""Stand-in of NVIDIA's installer (lab): a shell script of the same name, with the same options, and no driver in it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from freehold.catalog import versions
from freehold.lab.standins import HERE, StandIn

_PROGRAM = HERE / "nvidia_driver_installer.sh"


def write(folder: Path, version: str) -> Path:
    """The installer of a version, ``NVIDIA-Linux-x86_64-<version>.run``."""
    path = folder / f"NVIDIA-Linux-x86_64-{version}.run"
    path.write_text(_PROGRAM.read_text(encoding="utf-8").replace("@VERSION@", version), encoding="utf-8")
    path.chmod(0o755)
    return path


def build(folder: Path) -> Path:
    """The installer of the version that the lock names."""
    return write(folder, versions.load()["nvidia-driver"].version)


def describe(file: Path, address: str) -> dict[str, Any]:
    """The lock's entry, with the version as a driver bears it: what is loaded and installed is compared with it."""
    version = versions.load()["nvidia-driver"].version
    return {"version": version, "url": address, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


STAND_IN = StandIn(
    "nvidia-driver", build, ("nvidia_driver.py", "nvidia_driver_installer.sh"), describe=describe
)
