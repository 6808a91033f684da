"""Configuration of the lab's containers: stored, parsed, printed (part of a stand-in of Proxmox VE, for development).

Source: ``PVE::LXC::Config`` (``parse_volume``, ``print_ct_mountpoint``, ``print_lxc_network``, ``write_pct_config``).
"""

from __future__ import annotations

import hashlib
import re
import secrets
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from freehold.lab.answers import failed
from freehold.lab.formats import STORAGE_ID, split_list
from freehold.lab.pveschema import (
    PropertyError,
    api,
    parse_property_string,
    property_of,
    split_property_string,
)
from freehold.lab.state import LabState

MIB = 1024 * 1024
GIB = 1024 * MIB
DEFAULT_SIZE = 4 * GIB
"""Size of a root file system when only a storage is given, and what ``maxdisk`` shows when the size is 0."""
NEW_VOLUME = re.compile(r"([^:\s]+):(\d+(?:\.\d+)?)")
"""``$PVE::LXC::NEW_DISK_RE``: storage and size in GiB."""


def properties() -> Mapping[str, Any]:
    """The schema of all keys of a container."""
    found: Mapping[str, Any] = api()["calls"]["POST /nodes/{node}/lxc"]["parameters"]["properties"]
    return found


def option_exists(key: str) -> bool:
    """Whether ``key`` is a key of a container's configuration (not only of the create call)."""
    update = api()["calls"]["PUT /nodes/{node}/lxc/{vmid}/config"]["parameters"]["properties"]
    return property_of(update, key) is not None and key not in ("node", "vmid", "delete", "digest", "revert")


def typed(key: str, value: str) -> int | str:
    """A stored value as the API returns it: integers and booleans as numbers, ``number`` (cpulimit) as text."""
    definition = property_of(properties(), key) or {}
    if definition.get("type") in ("integer", "boolean") and re.fullmatch(r"-?\d+", value):
        return int(value)
    return value


def parse_size(text: str) -> int | None:
    """``2G`` in bytes (``PVE::JSONSchema::parse_size``)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT])?", text)
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2] or " ")) if match else None


def format_size(size: int) -> str:
    """Bytes in the largest unit that needs no fraction (``PVE::JSONSchema::format_size``): 0 is ``0T``."""
    for unit in ("", "K", "M", "G"):
        if size % 1024:
            return f"{size}{unit}"
        size //= 1024
    return f"{size}T"


def parse_volume_id(volume: str) -> tuple[str, str]:
    """Storage and name of a volume."""
    match = re.fullmatch(rf"({STORAGE_ID}):(\S+)", volume, re.IGNORECASE)
    if not match:
        raise failed(f"unable to parse volume ID '{volume}'")
    return match[1], match[2]


@dataclass
class Mount:
    """A ``rootfs``, ``mpN`` or ``unusedN`` value in its parts; ``kind`` is ``volume``, ``bind`` or ``device``."""

    parts: dict[str, str]

    @property
    def volume(self) -> str:
        """Volume id or path."""
        return self.parts["volume"]

    @property
    def kind(self) -> str:
        """Where the mount comes from."""
        if self.volume.startswith("/dev/"):
            return "device"
        return "bind" if self.volume.startswith("/") else "volume"

    @property
    def new_volume(self) -> tuple[str, int] | None:
        """Storage and bytes when the value asks for a new volume; whole MiB, as the real node rounds."""
        match = NEW_VOLUME.fullmatch(self.volume)
        return (match[1], int(float(match[2]) * 1024) * MIB) if match else None

    def text(self) -> str:
        """The value as it is stored."""
        rest = dict(self.parts)
        words = [rest.pop("volume")]
        if "mp" in rest:
            words.append(f"mp={rest.pop('mp')}")
        return ",".join([*words, *(f"{key}={rest[key]}" for key in sorted(rest))])


def parse_mount(key: str, value: str) -> Mount:
    """The parts of a mount value.

    Raises:
        PveError: 500 ``format error`` when parts are missing, as for a key that is not set.
    """
    definition = property_of(properties(), key) or {}
    try:
        return Mount(parse_property_string(definition["format"], value))
    except PropertyError as error:
        raise error.as_answer() from error


def new_mac(prefix: str = "BC:24:11") -> str:
    """A random MAC below the prefix that the recorded node hands out."""
    return ":".join([prefix, *(f"{byte:02X}" for byte in secrets.token_bytes(3))])


def parse_net(value: str) -> dict[str, str]:
    """The parts of a ``netN`` value."""
    return split_property_string(properties()["net[n]"]["format"], value)


def print_net(value: str) -> str:
    """A ``netN`` value as it is stored: with a MAC and a type, ``name`` first, the rest sorted."""
    parts = {"hwaddr": new_mac(), "type": "veth", **parse_net(value)}
    name = parts.pop("name")
    return ",".join([f"name={name}", *(f"{key}={parts[key]}" for key in sorted(parts))])


def parse_features(value: str | None) -> dict[str, str]:
    """The parts of ``features``."""
    return split_property_string(properties()["features"]["format"], value) if value else {}


def unique_tags(value: str) -> str:
    """Lower case, sorted, no duplicates; no tag at all is stored as one blank."""
    return ";".join(sorted({tag.lower() for tag in split_list(value)})) or " "


@dataclass
class Config:
    """A container's configuration: values in force, values that wait for a restart, keys that wait to be removed."""

    current: dict[str, str] = field(default_factory=dict)
    pending: dict[str, str] = field(default_factory=dict)
    delete: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The configuration file as the real node writes it."""
        sections = [_section(self.current)]
        if self.pending or self.delete:
            body = _section(self.pending, delete=self.delete)
            sections.append(f"\n[pve:pending]\n{body}")
        return "".join(sections)

    def digest(self) -> str:
        """SHA-1 of the file."""
        return hashlib.sha1(self.text().encode(), usedforsecurity=False).hexdigest()

    def with_pending(self) -> dict[str, str]:
        """The values that hold after the next restart."""
        values = {**self.current, **self.pending}
        return {key: value for key, value in values.items() if key not in self.delete}

    def volumes(self) -> dict[str, Mount]:
        """All mounts in force by key, unused volumes included."""
        return {
            key: parse_mount(key, value)
            for key, value in self.current.items()
            if is_mount(key) or is_unused(key)
        }

    def uses(self, volume: str, but: Iterable[str] = ()) -> bool:
        """Whether a mount key names the volume, in force or pending."""
        for values in (self.current, self.pending):
            for key, value in values.items():
                if (
                    (is_mount(key) or is_unused(key))
                    and key not in but
                    and parse_mount(key, value).volume == volume
                ):
                    return True
        return False

    def add_unused(self, volume: str) -> None:
        """Keep a volume that no key names any more as ``unusedN``."""
        number = next(n for n in range(256) if f"unused{n}" not in self.current)
        self.current[f"unused{number}"] = volume

    def check_lock(self) -> None:
        """Raises:
        PveError: 500 when the guest is locked.
        """
        if lock := self.current.get("lock"):
            raise failed(f"CT is locked ({lock})")

    def protected(self) -> bool:
        """Whether ``protection`` is set."""
        return self.current.get("protection") == "1"


def is_mount(key: str) -> bool:
    """``rootfs`` or ``mpN``."""
    return key == "rootfs" or bool(re.fullmatch(r"mp\d+", key))


def is_unused(key: str) -> bool:
    """``unusedN``."""
    return bool(re.fullmatch(r"unused\d+", key))


def _section(values: Mapping[str, str], delete: Iterable[str] = ()) -> str:
    lines = []
    if description := values.get("description"):
        lines += [
            "#" + urllib.parse.quote(line, safe=" !\"#$&'()*+,-./:;<=>?@[]^_`{|}~")
            for line in description.split("\n")[:-1]
        ]
    if names := list(delete):
        lines.append(f"delete: {','.join(sorted(names))}")
    lines += [f"{key}: {values[key]}" for key in sorted(values) if key != "description"]
    return "".join(line + "\n" for line in lines)


class Guests:
    """All containers of the node."""

    def __init__(self, state: LabState) -> None:
        self.state = state

    def ids(self) -> list[int]:
        """The ids in use, in order."""
        return sorted(int(vmid) for vmid in self.state.data["guests"])

    def exists(self, vmid: int) -> bool:
        """Whether the id is taken."""
        return str(vmid) in self.state.data["guests"]

    def all(self) -> dict[int, Config]:
        """Every container as it is now, by id in order: none of them goes while they are listed."""
        with self.state.lock:
            return {vmid: self.load(vmid) for vmid in self.ids()}

    def load(self, vmid: int) -> Config:
        """Raises:
        PveError: 500 when there is no such container.
        """
        with self.state.lock:
            stored = self.state.data["guests"].get(str(vmid))
            if stored is None:
                raise failed(
                    f"Configuration file 'nodes/{self.state.node.name}/lxc/{vmid}.conf' does not exist"
                )
            return Config(dict(stored["current"]), dict(stored["pending"]), list(stored["delete"]))

    def save(self, vmid: int, config: Config) -> None:
        """Write the configuration of a container."""
        with self.state.change() as data:
            data["guests"][str(vmid)] = {
                "current": dict(config.current),
                "pending": dict(config.pending),
                "delete": list(config.delete),
            }

    def remove(self, vmid: int) -> None:
        """Forget a container with its rights, its pool membership and its firewall."""
        with self.state.change() as data:
            data["guests"].pop(str(vmid), None)
            data["firewall"].pop(f"vm/{vmid}", None)
            data["acl"] = [entry for entry in data["acl"] if entry["path"] != f"/vms/{vmid}"]
            for pool in data["pools"].values():
                pool["vms"] = [member for member in pool["vms"] if member != vmid]

    @contextmanager
    def locked(self, vmid: int) -> Iterator[None]:
        """Hold the lock of a guest's configuration file.

        Raises:
            PveError: 500 when it does not become free in time.
        """
        lock = self.state.guest_lock(vmid)
        if not lock.acquire(timeout=self.state.config_lock_timeout):
            raise failed(f"can't lock file '/run/lock/lxc/pve-config-{vmid}.lock' - got timeout")
        try:
            yield
        finally:
            lock.release()
