"""A read-only file server on the lab's bridge (lab: a stand-in of a Proxmox VE node, for development).

``/`` lists the wheels of the host's own pip ``find-links`` in the form that ``pip --find-links`` reads, and
``/templates/`` holds the templates, for ``download-url``; ``/models/`` holds the tiny language model, and
``/standins/`` what stands in for upstream's archives; ``/versions.yml`` is the lock of it for clients of the lab. ``/v2/``
is the API of a container registry for the stand-ins that are images. ``/hub/`` is a stand-in of the Hugging Face hub that
has the tiny language model as the repository `TINY`.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from freehold.lab import standins
from freehold.lab.hub_standin import Hub, publish
from freehold.lab.machine.commands import SYSTEM_PATH
from freehold.lab.machine.network import MIRROR_PORT, LabNetwork
from freehold.lab.machine.paths import LabPaths
from freehold.lab.tiny_gguf import write_tiny_gguf
from freehold.lab.tiny_model import write_tiny_model

TINY = "freehold-lab/tiny"
"""Repository of the tiny language model."""
_HUB = "/hub"
_README = b"""---
license: apache-2.0
---
Stand-in: the tiny language model of Freehold's lab. It answers everything with one sentence and knows nothing.
"""


class Quiet(SimpleHTTPRequestHandler):
    """Files of one folder, without a line on standard error per request."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing."""

    def do_GET(self) -> None:
        """A file, or an answer of the hub."""
        if not self._of_hub():
            super().do_GET()

    def do_HEAD(self) -> None:
        """The headers of a file, or of an answer of the hub."""
        if not self._of_hub():
            super().do_HEAD()

    def _of_hub(self) -> bool:
        if not self.path.startswith(f"{_HUB}/"):
            return False
        Hub(Path(self.directory) / "hub", _HUB).answer(self)
        return True

    def translate_path(self, path: str) -> str:
        """The file at an address; what a registry serves lies in the folder of its stand-in."""
        place = Path(super().translate_path(path))
        root = Path(self.directory)
        if place == root / "v2":
            return str(root / "standins")  # that there is a registry
        if place.is_relative_to(root / "v2"):
            found = (root / "standins").glob(f"*/{place.relative_to(root)}")
            return str(next(found, place))
        return str(place)

    def guess_type(self, path: str | os.PathLike[str]) -> str:
        """Media type of a file; a manifest of an image names its own."""
        place = Path(path)
        if place.parent.name == "manifests":
            return str(json.loads(place.read_bytes())["mediaType"])
        return super().guess_type(path)


def serve(paths: LabPaths, network: LabNetwork) -> ThreadingHTTPServer:
    """Serve ``paths.www`` on the bridge's address in a thread of its own; returns the server, to be shut down.

    Raises:
        OSError: The address is taken.
    """
    handler = functools.partial(Quiet, directory=str(paths.www))
    server = ThreadingHTTPServer((str(network.gateway), MIRROR_PORT), handler)
    threading.Thread(target=server.serve_forever, name="mirror", daemon=True).start()
    return server


def fill(paths: LabPaths, network: LabNetwork) -> None:
    """Link what is served into ``paths.www``: it follows the host at each start of the lab, while guests may fetch from it."""
    served, former = paths.www.with_name("www-new"), paths.www.with_name("www-former")
    for left in (served, former):
        shutil.rmtree(left, ignore_errors=True)
    served.mkdir(mode=0o755)
    (served / "templates").symlink_to(paths.templates)
    (served / "standins").symlink_to(paths.standins)
    (served / paths.versions.name).write_text(
        standins.lock(paths.standins, f"http://{network.gateway}:{MIRROR_PORT}"), encoding="utf-8"
    )
    for folder in find_links():
        for wheel in folder.glob("*.whl"):
            link = served / wheel.name
            if not link.exists():
                link.symlink_to(wheel)
    write_tiny_model(served / "models" / "tiny")
    write_tiny_gguf(served / "models" / "tiny-gguf")
    tiny = {path.name: path.read_bytes() for path in (served / "models" / "tiny").iterdir()}
    publish(served / "hub", TINY, {**tiny, "README.md": _README})
    paths.www.rename(former)
    served.rename(paths.www)
    shutil.rmtree(former)


def find_links() -> list[Path]:
    """Folders that the host's pip looks for wheels in: its configuration and ``PIP_FIND_LINKS``."""
    words = os.environ.get("PIP_FIND_LINKS", "").split()
    path = os.pathsep.join(filter(None, (os.environ.get("PATH"), SYSTEM_PATH)))
    pip = shutil.which("pip", path=path) or shutil.which("pip3", path=path)
    if pip is not None:
        answer = subprocess.run(
            [pip, "config", "get", "global.find-links"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        words += answer.stdout.split() if answer.returncode == 0 else []
    folders = [
        Path(word.removeprefix("file://"))
        for word in words
        if "://" not in word or word.startswith("file://")
    ]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
