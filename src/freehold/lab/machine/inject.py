"""Put a mount of the host into a running container (lab: a stand-in of a Proxmox VE node, for development).

Run as ``python -m freehold.lab.machine.inject PID SOURCE TARGET [ro]``, a process of its own because it changes its
mount namespace. A device node cannot be made in a container's ``/dev``, so it is bound there like a folder is.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from pathlib import Path

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH = 4
MOUNT_ATTR_RDONLY = 1
CLONE_NEWNS = 0x20000
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442
"""Numbers of the calls, the same on every architecture (linux ``include/uapi/asm-generic/unistd.h``)."""


class MountAttributes(ctypes.Structure):
    """``struct mount_attr`` (linux ``include/uapi/linux/mount.h``)."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def inject(pid: int, source: str, target: str, *, read_only: bool) -> None:
    """Bind ``source`` of the host at ``target`` in the mount namespace of ``pid``.

    Raises:
        OSError: One of the calls was refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def call(number: int, *args: object) -> int:
        result = int(libc.syscall(number, *args))
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), target)
        return result

    is_folder = stat.S_ISDIR(Path(source).stat().st_mode)
    tree = call(SYS_OPEN_TREE, AT_FDCWD, source.encode(), OPEN_TREE_CLONE | os.O_CLOEXEC)
    if read_only:
        attributes = MountAttributes(attr_set=MOUNT_ATTR_RDONLY)
        size = ctypes.sizeof(attributes)
        call(SYS_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, ctypes.byref(attributes), size)
    root_uid = Path(f"/proc/{pid}/root").stat().st_uid
    root = os.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY)
    namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
    if libc.setns(namespace, CLONE_NEWNS) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), f"/proc/{pid}/ns/mnt")
    # from here on paths are the container's: its root can only lead us around in its own files
    os.fchdir(root)
    os.chroot(".")
    place = Path("/") / target.lstrip("/")
    if not place.exists():
        # the container's /dev takes no files of owners that its id map lacks, such as the host's root
        libc.setfsgid(root_uid)
        libc.setfsuid(root_uid)
        (place if is_folder else place.parent).mkdir(parents=True, exist_ok=True)
        if not is_folder:
            place.touch()
        libc.setfsuid(0)
        libc.setfsgid(0)
    call(SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, str(place).encode(), MOVE_MOUNT_F_EMPTY_PATH)


if __name__ == "__main__":
    inject(int(sys.argv[1]), sys.argv[2], sys.argv[3], read_only=sys.argv[4:] == ["ro"])
