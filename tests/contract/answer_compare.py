"""Compares an answer with a recorded one by the rules of ``pve/normalise.json``.

Values that a rule names are compared by kind. Digests and MACs are compared by identity: what was equal in the recording
must be equal here, so a :class:`Comparison` lives as long as a scenario.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

RULES = json.loads((Path(__file__).parent / "pve/normalise.json").read_text("utf-8"))
NUMBERS = frozenset(RULES["keys"]["number"]) | {"used_fraction"}
STRINGS = frozenset(RULES["keys"]["string"]) | {"value"}
DROPPED = frozenset(RULES["keys"]["drop"])
PROPERTY = re.compile(r"(?:(?:net|mp|dev|unused)\d+|rootfs)")
DIGEST = re.compile(r"[0-9a-f]{40}")
EMPTY_FILE = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
MAC = re.compile(r"BC:24:11(?::[0-9A-F]{2}){3}", re.IGNORECASE)
LINK_LOCAL = re.compile(r"fe80::be24:11ff:fe[0-9a-f:]+")
IDENTITY = (
    "ref",
    "vmid",
    "volid",
    "storage",
    "iface",
    "userid",
    "roleid",
    "groupid",
    "poolid",
    "realm",
    "tokenid",
    "macro",
    "key",
    "id",
)
TOOL_LINES = re.compile(
    r"Creating filesystem|Filesystem UUID|Superblock backups|\t|Total |Number of|Literal data|Matched data|File list|sent "
    r"|total size|e2fsck|Pass \d|/var/lib/guests/\S+: |resize2fs|Resizing the|The filesystem|$|Creating SSH host key|done: SHA256"
    r"|creating a clone|Cannot stat file|Formatting|--\d{4}-"
)
"""Lines of tools in a task's log, which the recording says differ from storage to storage."""
RESOURCE = (
    "id",
    "type",
    "vmid",
    "node",
    "pool",
    "tags",
    "lock",
    "storage",
    "content",
    "plugintype",
    "shared",
    "network",
)
"""What is stable in ``cluster/resources`` and pool members: figures, names and states lag by a broadcast (behaviour.md 4)."""
SHAPE_ONLY = re.compile(r"/nodes/pve/(?:hardware/pci|services|status)|/cluster/firewall/macros")


class Comparison:
    """What was learnt so far in one scenario: recorded values and those of this run."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}

    def substitute(self, value: Any) -> Any:
        """A recorded request with the values of this run in place of those of the recording."""
        text = json.dumps(value)
        for recorded, here in self.seen.items():
            text = text.replace(recorded, here)
        return json.loads(text)

    def _same(self, recorded: str, here: str) -> bool:
        return self.seen.setdefault(recorded, here) == here

    def texts(self, recorded: str, here: str) -> bool:
        """Whether two texts are the same by the rules for strings."""
        if DIGEST.fullmatch(recorded) and DIGEST.fullmatch(here):
            if EMPTY_FILE in (recorded, here):
                return recorded == here
            return self._same(recorded, here)
        ups, downs = re.findall(r"UPID:\S+?:(?= |$|')", recorded), re.findall(r"UPID:\S+?:(?= |$|')", here)
        for one, other in zip(ups, downs, strict=False):
            self.seen.setdefault(one, other)
        macs = MAC.findall(recorded), MAC.findall(here)
        if len(macs[0]) != len(macs[1]):
            return False
        if not all(self._same(a.upper(), b.upper()) for a, b in zip(*macs, strict=True)):
            return False
        for a, b in zip(*macs, strict=True):
            here = here.replace(b, "<MAC>")
            recorded = recorded.replace(a, "<MAC>")
        return plain(recorded) == plain(here)

    def bodies(self, path: str, recorded: Any, here: Any) -> str | None:
        """Where two bodies differ, or ``None``."""
        path = path.split("?")[0]
        if re.search(r"/tasks/[^/]+/log$", path):
            return self._logs(recorded, here)
        if SHAPE_ONLY.fullmatch(path):
            return self._shapes("", recorded, here)
        if path in ("/cluster/resources",) or path.startswith("/pools"):
            recorded, here = _stable(recorded), _stable(here)
        return self._values("", recorded, here)

    def _logs(self, recorded: Any, here: Any) -> str | None:
        if not isinstance(recorded, dict) or recorded.get("data") is None or not isinstance(here, dict):
            return self._values("", recorded, here)
        lines = [[line["t"] for line in body["data"]] for body in (recorded, here)]
        numbers = [line["n"] for line in here["data"]]
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            return f"line numbers {numbers}"
        if here["total"] < len(lines[1]):
            return "total"
        kept = [[text for text in part if not TOOL_LINES.match(text)] for part in lines]
        if recorded["total"] > len(lines[0]):
            # the recording shows the first page of a log that tools made longer than the lab's
            kept[1] = kept[1][: len(kept[0])]
        if len(kept[0]) != len(kept[1]) or not all(self.texts(a, b) for a, b in zip(*kept, strict=True)):
            return f"log: recorded {kept[0]} here {kept[1]}"
        return None

    def _shapes(self, where: str, recorded: Any, here: Any) -> str | None:
        if isinstance(recorded, dict) and isinstance(here, dict):
            if (recorded.keys() ^ here.keys()) - DROPPED:
                return f"{where}: keys {sorted(recorded.keys() ^ here.keys())}"
            found = (
                self._shapes(f"{where}.{key}", recorded[key], here[key]) for key in recorded.keys() - DROPPED
            )
            return next((text for text in found if text), None)
        if isinstance(recorded, list) and isinstance(here, list):
            return self._shapes(f"{where}[]", recorded[0], here[0]) if recorded and here else None
        kinds = [isinstance(value, int | float) for value in (recorded, here)]
        return None if kinds[0] == kinds[1] else f"{where}: {recorded!r} and {here!r}"

    def _values(self, where: str, recorded: Any, here: Any, key: str = "") -> str | None:
        if key in NUMBERS and (recorded is None or _number(recorded)) and (here is None or _number(here)):
            return None
        if isinstance(recorded, dict) and isinstance(here, dict):
            return self._objects(where, recorded, here)
        if isinstance(recorded, list) and isinstance(here, list):
            return self._lists(where, recorded, here)
        if (
            recorded is None
            or here is None
            or isinstance(recorded, dict | list)
            or isinstance(here, dict | list)
        ):
            return None if recorded == here else f"{where}: recorded {recorded!r} here {here!r}"
        one, other = str(recorded), str(here)
        if key in STRINGS and not DIGEST.fullmatch(one) and not MAC.search(one) and "UPID" not in one:
            return (
                None
                if (one.startswith("<") or key != "value" or one == other)
                else self._differ(where, one, other)
            )
        if key in ("content", "privs"):
            one, other = (",".join(sorted(text.split(","))) for text in (one, other))
        if key == "ticket" or one.startswith("<"):
            return None
        if PROPERTY.fullmatch(key):
            one, other = (",".join(sorted(text.removeprefix("path=").split(","))) for text in (one, other))
        if LINK_LOCAL.match(one) and LINK_LOCAL.match(other):
            return None
        return None if self.texts(one, other) else self._differ(where, one, other)

    def _differ(self, where: str, recorded: str, here: str) -> str:
        return f"{where}: recorded {recorded!r} here {here!r}"

    def _objects(self, where: str, recorded: dict[str, Any], here: dict[str, Any]) -> str | None:
        keys = [{key for key in body if key not in DROPPED} for body in (recorded, here)]
        if keys[0] != keys[1]:
            return (
                f"{where}: only recorded {sorted(keys[0] - keys[1])}, only here {sorted(keys[1] - keys[0])}"
            )
        named = recorded.get("key")
        for key in sorted(keys[0]):
            kind = str(named) if named and key in ("value", "pending") else key
            if text := self._values(f"{where}.{key}", recorded[key], here[key], kind):
                return text
        return None

    def _lists(self, where: str, recorded: list[Any], here: list[Any]) -> str | None:
        if len(recorded) != len(here):
            return f"{where}: {len(recorded)} recorded, {len(here)} here: {json.dumps(here)[:300]}"
        pairs = zip(_ordered(recorded), _ordered(here), strict=True)
        found = (self._values(f"{where}[{n}]", a, b) for n, (a, b) in enumerate(pairs))
        return next((text for text in found if text), None)


def plain(text: str) -> str:
    """A text after the rules for strings that need no memory."""
    for rule in RULES["strings"]:
        if rule["name"] in ("mac", "digest", "placeholders"):
            continue
        replace = rule.get("replace", "")
        if rule["name"] == "upid":
            text = re.sub(rule["regex"], _upid, text)
        else:
            text = re.sub(rule["regex"], lambda _m, r=replace: r, text)
    return text.strip()


def _upid(match: re.Match[str]) -> str:
    parts = match[0].split(":")
    return f"UPID:{parts[1]}:*:*:*:{parts[5]}:{parts[6]}:{parts[7]}:"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) or (
        isinstance(value, str) and bool(re.fullmatch(r"-?[\d.]+", value))
    )


def _stable(body: Any) -> Any:
    if isinstance(body, dict):
        if body.get("type") in ("lxc", "storage") and "id" in body:
            return {key: value for key, value in body.items() if key in RESOURCE}
        return {key: _stable(value) for key, value in body.items()}
    return [_stable(entry) for entry in body] if isinstance(body, list) else body


def _ordered(entries: list[Any]) -> list[Any]:
    """Entries of an unordered array by what identifies them; ordered arrays (rules, tasks, logs) as they are."""
    if not entries or not isinstance(entries[0], dict):
        return sorted(entries, key=str) if entries and isinstance(entries[0], str) else entries
    if "pos" in entries[0] or "upid" in entries[0] or "n" in entries[0]:
        return entries
    if "ugid" in entries[0]:
        return sorted(
            entries, key=lambda entry: [str(entry[key]) for key in ("path", "type", "ugid", "roleid")]
        )
    name = next((key for key in IDENTITY if key in entries[0]), None)
    return sorted(entries, key=lambda entry: str(entry.get(name))) if name else entries
