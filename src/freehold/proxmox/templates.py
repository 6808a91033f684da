"""Names of Proxmox VE's container templates (``debian-12-standard_12.12-1_amd64.tar.zst``)."""

from __future__ import annotations

import re
from collections.abc import Iterable

_STANDARD = re.compile(r"(?:.*/)?(?P<system>[a-z]+-\d+)-standard_(?P<version>[0-9.-]+)_amd64\.tar\.\w+")


def newest(names: Iterable[str], system: str) -> str | None:
    """The newest standard template of a system; ``None`` where there is none.

    Args:
        names: File names or volume ids of templates.
        system: Such as ``debian-12``.
    """
    found = {
        name: match["version"]
        for name in names
        if (match := _STANDARD.fullmatch(name)) and match["system"] == system
    }
    return max(found, key=lambda name: [int(part) for part in re.findall(r"\d+", found[name])], default=None)
