"""Property strings of the Proxmox VE configuration: ``net0``, ``mp0``, ``rootfs``, ``dev0``, ``features``, ``startup``.

A property string is a comma-separated list of ``key=value``; the value of the default key may stand alone
(``guests:100/vm-100-disk-0.raw,size=2G``). Formats: ``POST /nodes/{node}/lxc`` of the API schema.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

DEFAULT_KEYS = {"rootfs": "volume", "mp": "volume", "unused": "volume", "dev": "path", "startup": "order"}
"""The key that may be left out, by the name of the option without its number."""

_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)([KMGT]?)$")
_NUMBERED = re.compile(r"^([a-z]+)(\d+)$")

GIB = 1 << 30


def base_name(option: str) -> str:
    """The name of an option without its number: ``mp`` for ``mp0``."""
    found = _NUMBERED.match(option)
    return found[1] if found else option


def number(option: str) -> int:
    """The number of an option: 3 for ``mp3``.

    Raises:
        ValueError: The option has none.
    """
    found = _NUMBERED.match(option)
    if not found:
        raise ValueError(f"{option} has no number")
    return int(found[2])


def numbered(options: Mapping[str, str], name: str) -> dict[str, str]:
    """The options ``name0``, ``name1``, ... in the order of their numbers."""
    found = [key for key in options if base_name(key) == name and key != name]
    return {key: options[key] for key in sorted(found, key=number)}


def parse(option: str, text: str) -> dict[str, str]:
    """The properties of an option; the default key gets its name.

    Raises:
        ValueError: A part has no key, and the option has no default key, or a key stands twice.
    """
    default = DEFAULT_KEYS.get(base_name(option))
    properties: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            if default is None:
                raise ValueError(f"{option}: {part!r} has no key")
            key, value = default, part
        if key in properties:
            raise ValueError(f"{option}: {key} stands twice")
        properties[key] = value
    return properties


def render(option: str, properties: Mapping[str, str]) -> str:
    """The property string: the default key first and bare, the others sorted, as Proxmox VE writes it.

    Raises:
        ValueError: A value holds what would end it: a comma, or the end of the line.
    """
    for key, value in properties.items():
        if re.search(r"[,\r\n]", value):
            raise ValueError(f"{option}: {key} cannot be {value!r}")
    default = DEFAULT_KEYS.get(base_name(option))
    parts = [properties[default]] if default and default in properties else []
    parts += [f"{key}={properties[key]}" for key in sorted(properties) if key != default]
    return ",".join(parts)


def size_bytes(text: str) -> int:
    """A disk size (``2G``, ``512M``, ``0T``, bare bytes) in bytes.

    Raises:
        ValueError: The text is no size.
    """
    found = _SIZE.match(text)
    if not found:
        raise ValueError(f"{text!r} is no disk size")
    return int(float(found[1]) * _FACTORS[found[2]])


def truth(text: str | int | None) -> bool:
    """A boolean of the configuration; inside property strings ``yes``, ``on`` and ``true`` mean 1 as well."""
    return str(text if text is not None else "").lower() in {"1", "yes", "on", "true"}
