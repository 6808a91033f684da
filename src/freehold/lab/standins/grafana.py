"""Stand-in of Grafana (lab): the archive of upstream's release, with ``grafana_server.py`` as the program ``bin/grafana``."""

from __future__ import annotations

import shutil
from pathlib import Path

from freehold.lab.standins import HERE, StandIn, archive, site_packages

_PROGRAM = HERE / "grafana_server.py"
_LOCK = HERE / "grafana.txt"
_FOLDER = "grafana-13.0.2"
"""The one folder of upstream's archive; the role leaves it out."""


def build(folder: Path) -> Path:
    """The archive: ``bin/grafana``, ``conf/defaults.ini``, and what the program runs on."""
    packages = folder / "packages"
    site_packages(_LOCK, packages, python="3.13")
    program = _PROGRAM.read_text(encoding="utf-8").replace('VERSION = ""', f'VERSION = "{STAND_IN.version}"')
    made = archive(
        folder / "grafana_13.0.2_26816849631_linux_amd64.tar.gz",
        [
            (f"{_FOLDER}/bin/grafana", program.encode(), 0o755),
            (f"{_FOLDER}/conf/defaults.ini", b"; Stand-in of Grafana (lab): it has no defaults.\n", 0o644),
            (f"{_FOLDER}/standin", packages, 0o644),
        ],
    )
    shutil.rmtree(packages)
    return made


STAND_IN = StandIn("grafana", build, ("grafana.py", "grafana_server.py", "grafana.txt"))
