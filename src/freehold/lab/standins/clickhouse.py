"""Stand-in of ClickHouse (lab): the archive of upstream's release, with ``clickhouse_server.py`` as the program ``clickhouse``."""

from __future__ import annotations

import shutil
from pathlib import Path

from freehold.lab.standins import HERE, StandIn, archive, site_packages

_PROGRAM = HERE / "clickhouse_server.py"
_LOCK = HERE / "clickhouse.txt"


def build(folder: Path) -> Path:
    """The archive ``clickhouse-common-static-VERSION-amd64.tgz``: one program, and beside it the engine."""
    packages = folder / "packages"
    site_packages(_LOCK, packages, python="3.13")
    for other in packages.glob("chdb/libpybind11nonlimitedapi_chdb_3.*.so"):
        if not other.stem.endswith("3.13"):
            other.unlink()
    version = STAND_IN.version.partition("+")[0]
    program = _PROGRAM.read_text(encoding="utf-8").replace('VERSION = ""', f'VERSION = "{STAND_IN.version}"')
    root = f"clickhouse-common-static-{version}"
    made = archive(
        folder / f"{root}-amd64.tgz",
        [
            (f"{root}/usr/bin/clickhouse", program.encode(), 0o755),
            (f"{root}/usr/share/standin", packages, 0o644),
        ],
    )
    shutil.rmtree(packages)
    return made


STAND_IN = StandIn("clickhouse", build, ("clickhouse.py", "clickhouse_server.py", "clickhouse.txt"))
