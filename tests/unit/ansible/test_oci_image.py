"""An image is on the host whole, or not at all; what fetches and unpacks it are stand-ins of skopeo and umoci."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import run_module

DIGEST = f"sha256:{'a' * 64}"

# Stand-in of skopeo: writes down how it was called, and makes an OCI layout of one image.
SKOPEO = """#!{python}
import hashlib, json, os, pathlib, sys
pathlib.Path({folder!r}, "asked").open("a").write(" ".join(sys.argv[1:]) + "\\n")
if pathlib.Path({folder!r}, "broken").exists():
    sys.exit("manifest unknown")
layout = pathlib.Path(sys.argv[-1].split(":")[1])
(layout / "blobs/sha256").mkdir(parents=True, exist_ok=True)
def blob(document):
    text = json.dumps(document).encode()
    digest = hashlib.sha256(text).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(text)
    return {{"digest": "sha256:" + digest, "size": len(text)}}
config = blob({{"config": json.loads(pathlib.Path({folder!r}, "config").read_text())}})
manifest = blob({{"config": config, "layers": []}})
named = {{**manifest, "annotations": {{"org.opencontainers.image.ref.name": "freehold"}}}}
(layout / "index.json").write_text(json.dumps({{"manifests": [named]}}))
"""

# Stand-in of umoci: the root file system has one program and a link.
UMOCI = """#!{python}
import pathlib, sys
root = pathlib.Path(sys.argv[-1])
(root / "usr/bin").mkdir(parents=True)
(root / "usr/bin/dumb-init").write_text("#!/bin/sh\\n")
(root / "usr/bin/node").symlink_to("/opt/elsewhere/node")
"""

CONFIG: dict[str, Any] = {
    "Entrypoint": ["dumb-init", "--", "./web/entrypoint.sh"],
    "Cmd": ["/bin/sh", "-c", 'if [ -n "$CLOUD" ]; then exit 1; fi'],
    "Env": ["PATH=/usr/local/bin:/usr/bin", "NODE_ENV=production", "EMPTY="],
    "WorkingDir": "/app",
    "User": "nextjs",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    for name, text in (("skopeo", SKOPEO), ("umoci", UMOCI)):
        program = tmp_path / "bin" / name
        program.write_text(text.format(python=sys.executable, folder=str(tmp_path)))
        program.chmod(0o755)
    (tmp_path / "config").write_text(json.dumps(CONFIG))
    return tmp_path


def module(folder: Path, **options: object) -> dict[str, Any]:
    """Run the module with what every test gives it."""
    given: dict[str, Any] = {
        "image": "registry.test/app",
        "digest": DIGEST,
        "dest": str(folder / "opt/app"),
        "service": "app",
        "handlers": ["Restart app"],
    }
    return run_module(folder, "oci_image", given | options)


def test_it_is_unpacked_once_and_says_how_it_wants_to_be_run(folder: Path) -> None:
    first, second = module(folder), module(folder)

    assert first["changed"] is True
    assert second["changed"] is False
    assert len((folder / "asked").read_text().splitlines()) == 1
    assert first["config"] == second["config"]
    assert first["config"]["command"] == ["/usr/bin/dumb-init", *CONFIG["Entrypoint"][1:], *CONFIG["Cmd"]]
    assert first["config"]["environment"] == {
        "PATH": "/usr/local/bin:/usr/bin",
        "NODE_ENV": "production",
        "EMPTY": "",
    }
    assert (first["config"]["folder"], first["config"]["user"]) == ("/app", "nextjs")
    assert sorted(path.name for path in (folder / "opt").iterdir()) == ["app"]
    assert json.loads((folder / "etc/pending.json").read_text()) == {"app": ["Restart app"]}


def test_it_is_fetched_by_digest_and_with_tls_unless_the_lock_says_otherwise(folder: Path) -> None:
    module(folder)
    module(folder, digest=f"sha256:{'b' * 64}", plain_http=True)
    first, second = (folder / "asked").read_text().splitlines()

    assert f"docker://registry.test/app@{DIGEST} oci:" in first
    assert "tls-verify" not in first
    assert "--src-tls-verify=false" in second


def test_another_digest_takes_its_place(folder: Path) -> None:
    module(folder)
    (folder / "config").write_text(json.dumps(CONFIG | {"Entrypoint": None, "Cmd": ["node", "server.js"]}))
    answer = module(folder, digest=f"sha256:{'b' * 64}")

    assert answer["changed"] is True
    # a link of the image leads to a path of the image, not of the host
    assert answer["config"]["command"] == ["/usr/bin/node", "server.js"]
    assert "b" * 64 in (folder / "opt/app/.freehold").read_text()


def test_what_a_killed_run_left_is_removed(folder: Path) -> None:
    for left in (".app.new/rootfs", ".app.old/rootfs", ".app.0123456789ab.part/blobs"):
        (folder / "opt" / left).mkdir(parents=True)
    module(folder)

    assert [path.name for path in (folder / "opt").iterdir()] == ["app"]
    assert sorted(path.name for path in (folder / "opt/app").iterdir()) == [
        ".freehold",
        "config.json",
        "rootfs",
    ]


def test_a_failure_leaves_the_old_one_and_says_what_to_do(folder: Path) -> None:
    module(folder)
    (folder / "broken").touch()
    answer = module(folder, digest=f"sha256:{'b' * 64}")

    assert "manifest unknown" in answer["msg"]
    assert "sources.mirror" in answer["msg"]
    assert DIGEST in (folder / "opt/app/.freehold").read_text()
    assert (folder / "opt/app/rootfs/usr/bin/dumb-init").exists()


def test_check_mode_touches_nothing(folder: Path) -> None:
    answer = module(folder, _ansible_check_mode=True)

    assert answer["changed"] is True
    assert answer["config"]["command"] == ["/bin/false"]
    assert not (folder / "opt").exists()
    assert not (folder / "asked").exists()


def test_without_a_digest_nothing_is_fetched(folder: Path) -> None:
    assert "freehold versions lock" in module(folder, digest="")["msg"]
    assert not (folder / "asked").exists()


def test_an_image_without_its_program_is_refused(folder: Path) -> None:
    (folder / "config").write_text(json.dumps(CONFIG | {"Entrypoint": ["tini"]}))

    assert "the image has no program tini" in module(folder)["msg"]
    # what was downloaded is kept, and nothing else
    assert [path.name for path in (folder / "opt").iterdir()] == [f".app.{'a' * 12}.part"]
