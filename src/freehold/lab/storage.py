"""Directory storages of the lab: volumes, templates, figures (part of a stand-in of Proxmox VE, for development).

A volume of a container is a directory here, whatever its name says; its size is accounted.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freehold.lab.access import ROOT, Access
from freehold.lab.answers import denied, failed
from freehold.lab.backend import Log
from freehold.lab.guests import Guests, parse_volume_id
from freehold.lab.state import LabState, StorageSpec

TEMPLATE_ENDINGS = (".tar.gz", ".tar.xz", ".tar.zst", ".tar.bz2", ".tar")
_FORMATS = {"gz": "tgz", "xz": "txz", "zst": "tzst", "bz2": "tbz2", "tar": "tar"}
_FOLDERS = {"vztmpl": "template/cache", "iso": "template/iso", "backup": "dump", "snippets": "snippets"}


class Storages:
    """All storages of the node."""

    def __init__(self, state: LabState, guests: Guests) -> None:
        self.state = state
        self.guests = guests
        with state.change() as data:
            for name, spec in state.fixed_storages.items():
                entry = data["storages"].setdefault(name, {})
                entry.update(type="dir", path=spec.path, content=",".join(spec.content))
                for content in spec.content:
                    (spec.directory / _FOLDERS.get(content, "images")).mkdir(parents=True, exist_ok=True)

    # configuration

    def entry(self, name: str) -> dict[str, Any]:
        """The configuration of a storage.

        Raises:
            PveError: 500 when it does not exist.
        """
        found: dict[str, Any] | None = self.state.data["storages"].get(name)
        if found is None:
            raise failed(f"storage '{name}' does not exist")
        return found

    def usable(self, name: str) -> dict[str, Any]:
        """The configuration of a storage that is not disabled."""
        found = self.entry(name)
        if found.get("disable"):
            raise failed(f"storage '{name}' is disabled")
        return found

    def digest(self) -> str:
        """SHA-1 of all storage configuration."""
        text = json.dumps(self.state.data["storages"], sort_keys=True)
        return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def holds(self, name: str, content: str) -> bool:
        """Whether the storage may hold this type of content."""
        return content in str(self.entry(name)["content"]).split(",")

    def directory(self, name: str) -> Path:
        """Where the storage is on the machine that runs the lab."""
        fixed = self.state.fixed_storages.get(name)
        return fixed.directory if fixed else self.state.directory / "storages" / name

    def _spec(self, name: str) -> StorageSpec | None:
        return self.state.fixed_storages.get(name)

    def figures(self, name: str) -> dict[str, int]:
        """``total``, ``used`` and ``avail`` in bytes; zeros for a disabled storage."""
        if self.entry(name).get("disable"):
            return {"total": 0, "used": 0, "avail": 0}
        directory = self.directory(name)
        spec = self._spec(name)
        if spec and spec.total is not None:
            used = sum(
                int(volume["size"])
                for volid, volume in self.state.data["volumes"].items()
                if volid.startswith(f"{name}:")
            )
            return {"total": spec.total, "used": used, "avail": max(0, spec.total - used)}
        directory.mkdir(parents=True, exist_ok=True)
        usage = shutil.disk_usage(directory)
        return {"total": usage.total, "used": usage.used, "avail": usage.free}

    def status(self, name: str) -> dict[str, Any]:
        """One entry of ``GET /nodes/{node}/storage``."""
        entry = self.entry(name)
        enabled = int(not entry.get("disable"))
        figures = self.figures(name)
        answer = {"storage": name, "type": entry["type"], "content": entry["content"], "shared": 0}
        answer |= {"enabled": enabled, "active": enabled, **figures}
        if figures["total"]:
            answer["used_fraction"] = figures["used"] / figures["total"]
        return answer

    # volumes of guests

    def new_name(self, storage: str, vmid: int, suffix: str) -> str:
        """The first free name of a disk of a guest."""
        prefix = f"{storage}:{vmid}/"
        taken = {
            int(match[1])
            for volid in self.state.data["volumes"]
            if volid.startswith(prefix) and (match := re.search(rf"-{vmid}-disk-(\d+)\.", volid))
        }
        number = next(n for n in range(1000) if n not in taken)
        return f"{prefix}{'subvol' if suffix == 'subvol' else 'vm'}-{vmid}-disk-{number}.{suffix}"

    def allocate(self, storage: str, vmid: int, size: int, log: Log) -> str:
        """Make a volume of a guest and log what ``pvesm`` logs; size 0 makes a plain directory.

        Raises:
            PveError: 500 when the storage has not that much left.
        """
        with self.state.change() as data:
            volid = self.new_name(storage, vmid, "raw" if size else "subvol")
            shown = f"{self.entry(storage)['path']}/images/{volid.partition(':')[2]}"
            if size:
                log(f"Formatting '{shown}', fmt=raw size={size} preallocation=off")
            if (
                size > self.figures(storage)["avail"]
                and (spec := self._spec(storage))
                and spec.total is not None
            ):
                log(f"mke2fs: No space left on device while writing out and closing file system on {shown}")
                raise failed(
                    f"command 'mkfs.ext4 -O mmp -E 'root_owner=100000:100000' {shown}' failed: exit code 1"
                )
            data["volumes"][volid] = {
                "vmid": vmid,
                "size": size,
                "format": "raw" if size else "subvol",
                "ctime": int(time.time()),
            }
        if size:
            blocks = size // 4096
            log(f"Creating filesystem with {blocks} 4k blocks and {blocks // 4} inodes")
        return volid

    def path(self, volid: str) -> Path:
        """The directory of a guest's volume, the file of any other volume."""
        storage, name = parse_volume_id(volid)
        kind, _, rest = name.partition("/")
        return (
            self.directory(storage) / _FOLDERS[kind] / rest
            if kind in _FOLDERS
            else self.directory(storage) / "images" / name
        )

    def shown_path(self, volid: str) -> str:
        """The path of a volume as the node would name it."""
        storage, name = parse_volume_id(volid)
        kind, _, rest = name.partition("/")
        root = self.entry(storage)["path"]
        return f"{root}/{_FOLDERS[kind]}/{rest}" if kind in _FOLDERS else f"{root}/images/{name}"

    def known(self, volid: str) -> Mapping[str, Any] | None:
        """What is known of a guest's volume."""
        found: Mapping[str, Any] | None = self.state.data["volumes"].get(volid)
        return found

    def resize(self, volid: str, size: int) -> None:
        """Account a new size."""
        with self.state.change() as data:
            data["volumes"][volid]["size"] = size

    def rename(self, volid: str, new: str) -> None:
        """Give a volume another name (template conversion)."""
        with self.state.change() as data:
            data["volumes"][new] = data["volumes"].pop(volid)
            if self.path(volid).exists():
                self.path(volid).rename(self.path(new))

    def free(self, volid: str) -> None:
        """Remove a guest's volume with what is in it."""
        with self.state.change() as data:
            data["volumes"].pop(volid, None)
        target = self.path(volid)
        if target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)
        if target.parent.name.isdigit() and target.parent.is_dir() and not any(target.parent.iterdir()):
            target.parent.rmdir()

    # content

    def content(self, storage: str, kind: str | None = None, vmid: int | None = None) -> list[dict[str, Any]]:
        """``GET /nodes/{node}/storage/{storage}/content``."""
        self.usable(storage)
        found: list[dict[str, Any]] = []
        for volid, volume in self.state.data["volumes"].items():
            if not volid.startswith(f"{storage}:"):
                continue
            of = "rootdir" if self.guests.exists(volume["vmid"]) else "images"
            found.append({"volid": volid, **volume, "content": of, "parent": None, "used": volume["size"]})
        for of in ("vztmpl", "iso", "snippets"):
            folder = self.directory(storage) / _FOLDERS[of]
            if not self.holds(storage, of) or not folder.is_dir():
                continue
            for file in folder.iterdir():
                if not file.is_file() or (of == "vztmpl" and not file.name.endswith(TEMPLATE_ENDINGS)):
                    continue
                stat = file.stat()
                entry = {"volid": f"{storage}:{of}/{file.name}", "content": of, "size": stat.st_size}
                shape = _FORMATS.get(file.name.rsplit(".", 1)[-1], of)
                found.append({**entry, "ctime": int(stat.st_ctime), "format": shape})
        if kind is not None:
            found = [entry for entry in found if entry["content"] == kind]
        if vmid is not None:
            found = [entry for entry in found if entry.get("vmid") == vmid]
        return found

    def target(self, storage: str, content: str, name: str) -> Path:
        """The file of an uploaded or downloaded template or image."""
        return self.directory(storage) / _FOLDERS[content] / name

    def shown_target(self, storage: str, content: str, name: str) -> str:
        """The same file as the node would name it."""
        return f"{self.entry(storage)['path']}/{_FOLDERS[content]}/{name}"

    def check_volume_access(self, access: Access, user: str, vmid: int, volume: str, content: str) -> None:
        """``PVE::Storage::check_volume_access``: may the user use this volume as this content?

        Raises:
            PveError: 403 without a privilege, 500 for a volume of another type.
        """
        if volume.startswith("/") or ":" not in volume:
            if user == ROOT:
                return
            raise failed(
                "Only root can pass arbitrary filesystem paths. at /usr/share/perl5/PVE/Storage.pm line 651."
            )
        storage, name = parse_volume_id(volume)
        self.usable(storage)
        kind = name.partition("/")[0]
        if kind in _FOLDERS:
            if kind != content:
                raise failed(f"unable to use volume {volume} - content type needs to be '{content}'")
            if user != ROOT and not access.has(user, f"/storage/{storage}", "Datastore.Allocate"):
                access.check(
                    user, f"/storage/{storage}", "Datastore.AllocateSpace", "Datastore.Audit", any_of=True
                )
            return
        if content in ("vztmpl", "backup"):
            raise failed(f"unable to use volume {volume} - content type needs to be '{content}'")
        if kind.isdigit() and int(kind) == vmid:
            access.check_guest(user, vmid, None, "VM.Config.Disk")
        elif user != ROOT and not access.has(user, f"/storage/{storage}", "Datastore.Allocate"):
            access.check(user, f"/vms/{kind}", "VM.Config.Disk")
        if user != ROOT and not access.has(user, "/", "Sys.Audit") and not kind.isdigit():
            raise denied()
