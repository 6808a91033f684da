"""Root file systems for the lab (a stand-in of a Proxmox VE node, for development).

A template is extracted once into a *base*, owned by the id range of the containers. A container's root is an
overlay on that base, mounted by the host, so that making one takes a fraction of a second.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from freehold.lab.backend import BackendError
from freehold.lab.machine.commands import SYSTEM_PATH, lxc, run

COMPRESSION = {".zst": "--zstd", ".gz": "--gzip", ".xz": "--xz", ".bz2": "--bzip2"}


@dataclass(frozen=True)
class IdMap:
    """Ranges of ids: (first inside, first on the host, count); the first range must begin with 0 inside."""

    name: str
    ranges: tuple[tuple[int, int, int], ...]

    @property
    def root(self) -> int:
        """The host's id of root inside."""
        return self.ranges[0][1]

    def host_id(self, inside: int) -> int:
        """The host's id of an id inside.

        Raises:
            BackendError: The id is outside of the map.
        """
        for first, host, count in self.ranges:
            if first <= inside < first + count:
                return host + inside - first
        raise BackendError(f"id {inside} is not mapped into the container")

    def lxc_lines(self) -> list[str]:
        """The map as ``lxc.idmap`` lines."""
        return [f"lxc.idmap = {kind} {a} {b} {n}" for kind in "ug" for a, b, n in self.ranges]

    def usernsexec_args(self) -> list[str]:
        """The map as arguments of ``lxc-usernsexec``."""
        return [part for kind in "ug" for a, b, n in self.ranges for part in ("-m", f"{kind}:{a}:{b}:{n}")]


GUEST_IDS = IdMap("guest", ((0, 100000, 65536),))
"""Proxmox VE's map of unprivileged containers (``PVE::LXC``, ``lxc.idmap = u 0 100000 65536``)."""

NODE_IDS = IdMap("node", ((0, 300000, 100000), (100000, 100000, 65536)))
"""The node's own ids, and the guests' range as itself: on the node, a guest's root is 100000, as on a real one."""


@dataclass(frozen=True)
class Base:
    """An extracted template and what ``tar`` said about it."""

    path: Path
    totals: str


_extracting = threading.Lock()
_digests: dict[tuple[str, int, int, int], str] = {}


def template_digest(template: Path) -> str:
    """SHA-256 of a template archive, remembered while the file stays the same."""
    stat = template.stat()
    key = (str(template), stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if key not in _digests:
        with template.open("rb") as stream:
            _digests[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _digests[key]


def ensure_base(bases: Path, template: Path, ids: IdMap) -> Base:
    """The base of a template for an id map, extracted when it is not there yet.

    Raises:
        BackendError: The archive cannot be extracted, with the words of ``tar``.
    """
    path = bases / f"{template_digest(template)[:24]}-{ids.name}"
    note = path.with_suffix(".json")
    with _extracting:
        if not note.exists():
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
            # tar sets the owner and mode of the root folder from the archive; until then nobody else looks in
            os.chown(path, ids.root, ids.root)
            totals = _extract(template, path, ids)
            note.write_text(json.dumps({"template": template.name, "totals": totals}))
    return Base(path, json.loads(note.read_text())["totals"])


def _extract(template: Path, target: Path, ids: IdMap) -> str:
    """Extract inside the id map, so that owners and file capabilities come out right; return tar's totals."""
    inner = ["/usr/bin/env", f"PATH={SYSTEM_PATH}", "LC_ALL=C.UTF-8"]
    inner += [
        "tar",
        "xpf",
        "-",
        "--totals",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=security.capability",
    ]
    inner += ["--exclude", "./dev/*", "-C", str(target)]
    if flag := COMPRESSION.get(template.suffix):
        inner.append(flag)
    with template.open("rb") as archive:
        done = subprocess.run(
            [*lxc("lxc-usernsexec", *ids.usernsexec_args(), "--"), *inner],
            stdin=archive,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        shutil.rmtree(target, ignore_errors=True)
        raise BackendError(f"command 'tar -xpf - -C {target.name}' failed: {done.stderr.strip()[-2000:]}")
    lines = [line for line in done.stderr.splitlines() if line.startswith("Total bytes read")]
    return lines[-1] if lines else "Total bytes read: 0"


class Overlay:
    """A container's root volume: ``delta`` holds what differs from the base, ``rootfs`` is the mounted whole."""

    def __init__(self, volume: Path) -> None:
        self.volume = volume
        self.delta = volume / "delta"
        self.work = volume / "work"
        self.rootfs = volume / "rootfs"
        self.note = volume / "base"

    def make(self, base: Base, ids: IdMap) -> None:
        """Create an empty overlay on ``base`` and mount it."""
        for folder in (self.volume, self.delta, self.work, self.rootfs):
            folder.mkdir(parents=True, exist_ok=True)
        self.volume.chmod(0o711)
        os.chown(self.delta, ids.root, ids.root)
        self.delta.chmod(0o755)
        self.note.write_text(str(base.path))
        self.mount()

    def mount(self) -> None:
        """Mount the overlay unless it is mounted.

        Raises:
            BackendError: The base is gone, or the kernel refuses the mount.
        """
        if os.path.ismount(self.rootfs):
            return
        if not self.note.exists():
            raise BackendError(f"volume '{self.volume}' does not exist")
        base = Path(self.note.read_text())
        if not base.is_dir():
            raise BackendError(f"the extracted template of '{self.volume}' is gone from the lab's cache")
        # a volatile overlay leaves this mark when the machine went down; the kernel then refuses to mount again
        shutil.rmtree(self.work / "work" / "incompat", ignore_errors=True)
        options = f"lowerdir={base},upperdir={self.delta},workdir={self.work}"
        # volatile: fsync costs nothing in a lab; redirect_dir: folders of the base can be renamed
        options += ",redirect_dir=on,index=off,metacopy=off,volatile"
        run(["mount", "-t", "overlay", "freehold-lab", "-o", options, str(self.rootfs)])

    def unmount(self) -> None:
        """Unmount the overlay if it is mounted."""
        if os.path.ismount(self.rootfs):
            try:
                run(["umount", str(self.rootfs)])
            except BackendError:
                run(["umount", "--lazy", str(self.rootfs)])

    def destroy(self) -> None:
        """Unmount and remove the whole volume."""
        self.unmount()
        remove_tree(self.volume)

    def copy_to(self, target: Overlay) -> None:
        """Copy the differences to a new volume on the same base and mount it there."""
        for folder in (target.volume, target.work, target.rootfs):
            folder.mkdir(parents=True, exist_ok=True)
        target.volume.chmod(0o711)
        run(["cp", "-a", "--reflink=auto", str(self.delta), str(target.delta)], timeout=600)
        target.note.write_text(self.note.read_text())
        target.mount()


_REMOVE = """
find "$1" -xdev -mindepth 6 -maxdepth 6 -print0 | xargs -0 -r -P 16 -n 32 rm -rf --one-file-system --preserve-root=all --
rm -rf --one-file-system -- "$1"
"""
"""Packages of a program lie side by side that deep. A disk that must look for each file looks for many at once sooner.
``--preserve-root=all``: ``find`` names a mount point, too, and what is mounted there must not go with it."""


def remove_tree(folder: Path) -> None:
    """Remove a folder with all it holds, without crossing into another file system; gone already is fine."""
    if folder.exists():
        run(["sh", "-c", _REMOVE, "sh", str(folder)], timeout=600)
    with contextlib.suppress(OSError):  # the guest's own folder in the storage goes when it is empty
        folder.parent.rmdir()
