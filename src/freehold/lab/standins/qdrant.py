"""Stand-in of Qdrant (lab): the archive of upstream's release, with ``qdrant_server.py`` as the program ``qdrant``."""

from __future__ import annotations

import shutil
from pathlib import Path

from freehold.lab.standins import HERE, StandIn, archive, site_packages

_PROGRAM = HERE / "qdrant_server.py"
_LOCK = HERE / "qdrant.txt"


def build(folder: Path) -> Path:
    """The archive ``qdrant-x86_64-unknown-linux-musl.tar.gz``: one program, and beside it what it runs on."""
    packages = folder / "packages"
    site_packages(_LOCK, packages, python="3.13")
    program = _PROGRAM.read_text(encoding="utf-8").replace('VERSION = ""', f'VERSION = "{STAND_IN.version}"')
    made = archive(
        folder / "qdrant-x86_64-unknown-linux-musl.tar.gz",
        [("qdrant", program.encode(), 0o755), ("standin", packages, 0o644)],
    )
    shutil.rmtree(packages)
    return made


STAND_IN = StandIn("qdrant", build, ("qdrant.py", "qdrant_server.py", "qdrant.txt"))
