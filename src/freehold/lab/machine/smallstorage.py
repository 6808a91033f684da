"""Storage ``small``: a real file system of a few hundred MiB (lab: a stand-in of a Proxmox VE node).

It lets disk-full tests meet a disk that is full, not a figure that says so.
"""

from __future__ import annotations

import os

from freehold.lab.machine.commands import run
from freehold.lab.machine.paths import LabPaths

SIZE = 300 * 1024 * 1024
"""Bytes of the file that holds the file system."""


def ensure(paths: LabPaths) -> None:
    """Make the file system unless it exists, and mount it unless it is mounted.

    Raises:
        BackendError: The host has no free loop device, or refuses the mount.
    """
    if os.path.ismount(paths.small):
        return
    if not paths.small_image.exists():
        partial = paths.small_image.with_suffix(".partial")
        with partial.open("wb") as stream:
            os.fchmod(stream.fileno(), 0o600)  # it will hold files of guests
            stream.truncate(SIZE)
        run(["mkfs.ext4", "-q", "-m", "0", str(partial)])
        partial.rename(paths.small_image)
    run(["mount", "-o", "loop", str(paths.small_image), str(paths.small)])


def unmount(paths: LabPaths) -> None:
    """Unmount the file system if it is mounted."""
    if os.path.ismount(paths.small):
        run(["umount", str(paths.small)])
