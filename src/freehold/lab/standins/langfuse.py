"""Stand-in of Langfuse (lab): the two images of version 4, as an OCI registry serves them.

Each image has the entry point, working folder, environment and ports of upstream's (``web/Dockerfile`` and
``worker/Dockerfile``), a small root file system of Debian in place of Alpine, and ``langfuse_server.py`` in place of Node.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from freehold.lab.standins import HERE, StandIn, archive, run, site_packages

_SOURCES = ("langfuse.py", "langfuse_worker.py", "langfuse_server.py", "langfuse.txt")
_PACKAGES = "base-files,dash,coreutils,python3,libpython3-stdlib,dumb-init"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"

_ENTRY = """#!/bin/sh
# Stand-in: as upstream's, migrations first, then the command of the image.
if [ -z "$DATABASE_URL" ]; then
    echo "Error: Required database environment variables are not set."
    exit 1
fi
{migrate}exec "$@"
"""
_MIGRATE = """python3 /app/server.py migrate
status=$?
if [ $status -ne 0 ]; then
    echo "Applying clickhouse migrations failed. This is mostly caused by the database being unavailable."
    exit $status
fi
"""
_COMMANDS = {
    # Upstream's is a line for the shell as well, with a variable in it.
    "web": [
        "/bin/sh",
        "-c",
        'if [ -n "$NEXT_PUBLIC_LANGFUSE_CLOUD_REGION" ]; then exit 1; else exec python3 ./server.py web; fi',
    ],
    "worker": ["python3", "server.py", "worker"],
}


def build(folder: Path, part: str, name: str, version: str) -> Path:
    """Layer, configuration and manifest in the paths of the registry's API below ``v2/``; returns the manifest."""
    root = folder / "root"
    _system(folder, root)
    app = root / "app"
    (app / part).mkdir(parents=True)
    server = (HERE / "langfuse_server.py").read_text(encoding="utf-8")
    (app / "server.py").write_text(server.replace('VERSION = ""', f'VERSION = "{version}"'), encoding="utf-8")
    entry = app / part / "entrypoint.sh"
    entry.write_text(_ENTRY.format(migrate=_MIGRATE if part == "web" else ""), encoding="utf-8")
    entry.chmod(0o755)
    site_packages(HERE / "langfuse.txt", root / "usr/lib/python3/dist-packages", python="3.13")
    for left in (
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
        "var/lib/apt",
        "var/cache",
        "dev",
        "proc",
        "sys",
    ):
        shutil.rmtree(root / left, ignore_errors=True)
    api = folder / "v2" / name
    (api / "blobs").mkdir(parents=True)
    (api / "manifests").mkdir()
    layer = _blob(api, archive(folder / "layer.tar.gz", [("", root, 0o644)]).read_bytes())
    (folder / "layer.tar.gz").unlink()
    shutil.rmtree(root)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "User": "nextjs" if part == "web" else "expressjs",
            "ExposedPorts": {},
            "Env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "NODE_ENV=production",
                f"PORT={3000 if part == 'web' else 3030}",
                "DOCKER_BUILD=0",
            ],
            "Entrypoint": ["dumb-init", "--", f"./{part}/entrypoint.sh"],
            "Cmd": _COMMANDS[part],
            "WorkingDir": "/app",
        },
        "rootfs": {"type": "layers", "diff_ids": [_unpacked(api, layer)]},
        "history": [{"created_by": "Freehold's lab, in place of upstream"}],
    }
    told = _blob(api, json.dumps(config, sort_keys=True).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **told},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **layer}],
    }
    text = json.dumps(manifest, sort_keys=True).encode()
    path = api / "manifests" / f"sha256:{hashlib.sha256(text).hexdigest()}"
    path.write_bytes(text)
    return path


def describe(file: Path, address: str) -> Mapping[str, Any]:
    """The entry of the lock: the registry is the lab's file server."""
    name = file.parent.parent.relative_to(next(parent for parent in file.parents if parent.name == "v2"))
    return {"image": f"{urlsplit(address).netloc}/{name}", "digest": file.name, "plain_http": True}


def _system(folder: Path, root: Path) -> None:
    """A root file system that is unpacked and not set up: Python and a shell need no more."""
    archive_file = folder / "root.tar"
    run(
        ["mmdebstrap", "--quiet", "--variant=extract", f"--include={_PACKAGES}", "trixie", str(archive_file)],
        SOURCE_DATE_EPOCH="0",
    )
    root.mkdir()
    run(
        [
            "tar",
            "--extract",
            "--no-same-owner",
            "--exclude=./dev/*",
            "--file",
            str(archive_file),
            "--directory",
            str(root),
        ]
    )
    archive_file.unlink()
    if not (root / "usr/bin/sh").is_symlink():  # the package's own script would make it
        (root / "usr/bin/sh").symlink_to("dash")


def _blob(api: Path, content: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    (api / "blobs" / digest).write_bytes(content)
    return {"digest": digest, "size": len(content)}


def _unpacked(api: Path, layer: Mapping[str, Any]) -> str:
    with gzip.open(api / "blobs" / layer["digest"]) as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def _build(folder: Path) -> Path:
    return build(folder, "web", "langfuse/langfuse", STAND_IN.version)


STAND_IN = StandIn("langfuse", _build, _SOURCES, describe)
