"""Property strings of Proxmox VE, read (lab: a stand-in of a Proxmox VE node, for development).

The API has validated them already (``PVE::JSONSchema``, format "key=value,..." with a default key).
"""

from __future__ import annotations

from collections.abc import Mapping


def parse_property(text: str, default_key: str = "") -> dict[str, str]:
    """``"guests:1/vm-1-disk-0.raw,size=1G"`` with default key ``volume`` as a mapping."""
    values = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        values[key if equals else default_key] = value if equals else key
    return values


def indexed(config: Mapping[str, str], prefix: str) -> dict[int, str]:
    """The values of ``prefix0``, ``prefix1``, ... by their number."""
    return {
        int(key[len(prefix) :]): str(value)
        for key, value in config.items()
        if key.startswith(prefix) and key[len(prefix) :].isdigit()
    }
