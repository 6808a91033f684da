"""Holds a request against the parameter schema of the real API (``pve/schema.json``), property strings included.

Written from the schema's own words and apart from the lab's validation, so that the two cannot share a mistake.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "pve"

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"


def _ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _cidr(text: str) -> bool:
    try:
        ipaddress.IPv4Interface(text)
    except ValueError:
        return False
    return "/" in text


def _network(text: str) -> bool:
    try:
        ipaddress.IPv4Network(text)
    except ValueError:
        return False
    return True


def _ports(text: str) -> bool:
    first, _, last = text.partition(":")
    return all(port.isdigit() and int(port) <= 65535 for port in (first, last or first))


def _all(pattern: str) -> Any:
    return lambda text: all(re.fullmatch(pattern, part) for part in re.split(r"[,;\s]+", text.strip()))


FORMATS: dict[str, Any] = {
    "pve-node": lambda t: bool(re.fullmatch(_HOST, t)),
    "pve-vmid": lambda t: t.isdigit() and 100 <= int(t) <= 999_999_999,
    "pve-vmid-list": _all(r"[1-9]\d{2,8}"),
    "pve-poolid": lambda t: bool(re.fullmatch(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,2}", t)),
    "pve-storage-id": lambda t: bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]", t)),
    "pve-configid-list": _all(r"[A-Za-z][\w-]+"),
    "pve-tag-list": _all(r"[A-Za-z0-9_][A-Za-z0-9_\-+.]*"),
    "pve-startup-order": lambda t: bool(re.fullmatch(r"(order=)?\d+(,(up|down)=\d+)*", t)),
    "dns-name": lambda t: bool(re.fullmatch(rf"{_HOST}(\.{_HOST})*", t)),
    "dns-name-list": _all(rf"{_HOST}(\.{_HOST})*"),
    "lxc-ip-with-ll-iface-list": lambda t: all(_ip(part) for part in re.split(r"[,;\s]+", t)),
    "ipv4": _ip,
    "pve-ipv4-config": lambda t: t in {"dhcp", "manual"} or _cidr(t),
    "mac-addr": lambda t: bool(re.fullmatch(r"[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}", t)),
    "pve-lxc-dev-string": lambda t: t.startswith("/dev/") and ".." not in t,
    "pve-lxc-mp-string": lambda t: bool(t) and ".." not in t.split("/"),
    "disk-size": lambda t: bool(re.fullmatch(r"\d+(\.\d+)?[KMGT]?", t)),
    "pve-userid": lambda t: bool(re.fullmatch(r"[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+", t)),
    "pve-userid-list": _all(r"[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+"),
    "pve-tokenid-list": _all(r"[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+![A-Za-z][A-Za-z0-9.\-_]+"),
    "pve-fw-protocol-spec": lambda t: t in {"tcp", "udp", "icmp", "ipv6-icmp"} or t.isdigit(),
    "pve-fw-dport-spec": lambda t: all(_ports(part) for part in t.split(",")),
    "pve-fw-addr-spec": lambda t: all(_network(part) for part in t.split(",")),
    "pve-roleid": lambda t: bool(re.fullmatch(r"[A-Za-z0-9._-]+", t)),
    "pve-roleid-list": _all(r"[A-Za-z0-9._-]+"),
    "pve-priv-list": _all(r"[A-Z][A-Za-z]+(\.[A-Za-z]+)+"),
}


@cache
def schema() -> dict[str, Any]:
    """The schema of all calls, by ``METHOD path``."""
    loaded: dict[str, Any] = json.loads((DATA / "schema.json").read_text(encoding="utf-8"))
    return loaded


@cache
def _templates() -> list[tuple[str, re.Pattern[str], str]]:
    found = []
    for key in schema():
        method, path = key.split(" ", 1)
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path))
        found.append((method, re.compile(pattern), key))
    return found


def find(method: str, path: str) -> tuple[str, dict[str, str]] | None:
    """The call of a request, with the parameters in its path; literal paths win over placeholders."""
    hits = [
        (key, match.groupdict())
        for known, pattern, key in _templates()
        if known == method and (match := pattern.fullmatch(path))
    ]
    return min(hits, key=lambda hit: hit[0].count("{")) if hits else None


def problems(method: str, path: str, params: Mapping[str, str | int]) -> list[str]:
    """Everything that the real API would refuse about a request."""
    hit = find(method, path)
    if hit is None:
        return [f"no such call: {method} {path}"]
    key, in_path = hit
    wanted = schema()[key]["parameters"]
    given = {**{name: str(value) for name, value in params.items()}, **in_path}
    known = wanted.get("properties", {})
    found: list[str] = []
    for name, text in given.items():
        spec = known.get(name) or _numbered(known, name)
        if spec is None:
            found.append(f"{key}: {name} is not defined")
        else:
            found += [f"{key}: {name}: {p}" for p in _value(spec, text, name)]
    found += [f"{key}: {n} is missing" for n, s in known.items() if not s.get("optional") and n not in given]
    for name in given:
        needed = (known.get(name) or {}).get("requires")
        if needed and needed not in given:
            found.append(f"{key}: {name} requires {needed}")
    return found


_RANGES = {"net": 31, "mp": 255, "dev": 255, "unused": 255}


def _numbered(known: Mapping[str, Any], name: str) -> Any:
    match = re.fullmatch(r"([a-z]+)(\d+)", name)
    if match and f"{match[1]}[n]" in known and int(match[2]) <= _RANGES[match[1]]:
        return known[f"{match[1]}[n]"]
    return None


def _value(spec: Mapping[str, Any], text: str, name: str) -> list[str]:
    kind = spec.get("type", "string")
    if kind == "boolean" and text not in {"0", "1"}:
        return [f"{text!r} is no boolean"]
    if kind == "integer" and not re.fullmatch(r"-?\d+", text):
        return [f"{text!r} is no integer"]
    if kind == "number" and not re.fullmatch(r"-?\d+(\.\d+)?", text):
        return [f"{text!r} is no number"]
    found = []
    if kind in {"integer", "number"}:
        if "minimum" in spec and float(text) < float(spec["minimum"]):
            found.append(f"{text} is below {spec['minimum']}")
        if "maximum" in spec and float(text) > float(spec["maximum"]):
            found.append(f"{text} is above {spec['maximum']}")
    if "enum" in spec and text not in spec["enum"]:
        found.append(f"{text!r} is not one of {spec['enum']}")
    if "maxLength" in spec and len(text) > spec["maxLength"]:
        found.append("too long")
    if "minLength" in spec and len(text) < spec["minLength"]:
        found.append("too short")
    if "pattern" in spec and not re.fullmatch(spec["pattern"].replace("(?^:", "(?:"), text):
        found.append(f"{text!r} does not match {spec['pattern']}")
    wanted = spec.get("format")
    if isinstance(wanted, Mapping):
        found += _property_string(wanted, text)
    elif isinstance(wanted, str):
        if wanted not in FORMATS:
            found.append(f"the format {wanted} is not checked: add it to schema_check.py")
        elif not FORMATS[wanted](text):
            found.append(f"{text!r} is no {wanted}")
    return found


def _property_string(wanted: Mapping[str, Any], text: str) -> list[str]:
    found: list[str] = []
    default = next((name for name, spec in wanted.items() if spec.get("default_key")), None)
    given: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            if default is None:
                found.append(f"{part!r} has no key")
                continue
            name, value = default, part
        if name in given:
            found.append(f"{name} stands twice")
        given[name] = value
    for name, value in given.items():
        if name not in wanted:
            found.append(f"{name} is not defined")
        else:
            found += [f"{name}: {p}" for p in _value(wanted[name], value, name)]
    found += [f"{n} is missing" for n, s in wanted.items() if not s.get("optional") and n not in given]
    return found
