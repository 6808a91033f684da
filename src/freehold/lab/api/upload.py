"""Multipart uploads (part of a stand-in of Proxmox VE, for development).

The real server reads the parts in one order: ``content``, ``checksum-algorithm``, ``checksum``, then the file; what comes
after the file is not read, and anything else ends with 400 and no body (``tests/contract/pve``: storage-upload).
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any

from aiohttp import BodyPartReader, web

from freehold.lab.answers import BareError, ConnectionDroppedError

_ORDER = ("content", "checksum-algorithm", "checksum")
SHOWN = "/var/tmp/pveupload-"  # noqa: S108 - the name that the real node shows; the file is elsewhere


async def receive(request: web.Request, directory: Path) -> dict[str, Any]:
    """The fields of an upload; the file is in ``directory``, and ``tmpfilename`` names it as the node would."""
    if request.content_type != "multipart/form-data":
        raise ConnectionDroppedError
    fields: dict[str, Any] = {}
    position = 0
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            raise BareError(400, "Bad Request")
        if part.name == "filename" and part.filename is not None:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            name = secrets.token_hex(16)
            with (directory / name).open("wb") as file:
                while chunk := await part.read_chunk(1024 * 1024):
                    file.write(chunk)
            fields["filename"] = re.sub(r"[^-a-zA-Z0-9_.]", "_", Path(part.filename).name)
            fields["tmpfilename"] = SHOWN + name
            while await request.content.readany():
                pass
            return fields
        if part.name not in _ORDER[position:]:
            raise BareError(400, "Bad Request")
        position = _ORDER.index(part.name) + 1
        fields[part.name] = (await part.read()).decode()
    raise BareError(400, "Bad Request")
