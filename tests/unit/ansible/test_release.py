"""A release is on the host whole and checked, or not at all."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from freehold.lab import standins

from .conftest import run_module


class Ranges(SimpleHTTPRequestHandler):
    """Serves a folder, with ranges, and remembers them."""

    asked: list[str | None]

    def __init__(self, *args: Any, asked: list[str | None], **options: Any) -> None:
        self.asked = asked
        super().__init__(*args, **options)

    def do_GET(self) -> None:
        self.asked.append(self.headers["Range"])
        path = Path(self.translate_path(self.path))
        if not (start := self.headers["Range"]) or not path.is_file():
            super().do_GET()
            return
        content = path.read_bytes()[int(start.removeprefix("bytes=").rstrip("-")) :]
        self.send_response(206)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def asked() -> list[str | None]:
    return []


@pytest.fixture
def upstream(tmp_path: Path, asked: list[str | None]) -> Iterator[str]:
    (tmp_path / "www").mkdir()
    handler = functools.partial(Ranges, directory=str(tmp_path / "www"), asked=asked)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def module(tmp_path: Path, **options: object) -> dict[str, Any]:
    """Run the module with what every test gives it."""
    return run_module(tmp_path, "release", {"dest": str(tmp_path / "opt/app"), "service": "app"} | options)


def served(tmp_path: Path, name: str, *, text: str = "one") -> str:
    """Put an archive into the server's folder; its SHA-256."""
    path = standins.archive(
        tmp_path / "www" / name, [("app-1/bin/app", text.encode(), 0o755), ("app-1/lib/data", b"data", 0o644)]
    )
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["app.tar.gz", "app.tgz", "app.tar.zst"])
def test_a_release_is_unpacked_once(
    tmp_path: Path, upstream: str, asked: list[str | None], name: str
) -> None:
    options = {"url": f"{upstream}/{name}", "sha256": served(tmp_path, name), "strip": 1}

    first, second = module(tmp_path, **options), module(tmp_path, **options)

    assert first["changed"]
    assert (tmp_path / "opt/app/bin/app").read_text() == "one"
    assert os.access(tmp_path / "opt/app/bin/app", os.X_OK)
    assert not second["changed"]
    assert len(asked) == 1
    assert [path.name for path in (tmp_path / "opt").iterdir()] == ["app"]


@pytest.mark.parametrize("name", ["app.zip", "app-1-py3-none-any.whl"])
def test_a_zip_archive_is_unpacked_under_either_name(tmp_path: Path, upstream: str, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "www" / name, "w") as archive:
        archive.writestr("app/data/config", "one")
    sha256 = hashlib.sha256((tmp_path / "www" / name).read_bytes()).hexdigest()
    module(tmp_path, url=f"{upstream}/{name}", sha256=sha256)

    config = tmp_path / "opt/app/app/data/config"
    assert config.read_text() == "one"
    assert config.stat().st_mode & 0o777 == 0o644, "zipfile itself writes 0600"


def test_check_mode_says_what_would_change(tmp_path: Path, upstream: str) -> None:
    sha256 = served(tmp_path, "app.tgz")
    found = module(tmp_path, url=f"{upstream}/app.tgz", sha256=sha256, _ansible_check_mode=True)
    assert found["changed"]
    assert not (tmp_path / "opt").exists()


def test_a_new_release_replaces_the_old_one_whole(tmp_path: Path, upstream: str) -> None:
    module(tmp_path, url=f"{upstream}/a.tgz", sha256=served(tmp_path, "a.tgz"), strip=1)
    (tmp_path / "opt/app/left-over").touch()
    module(tmp_path, url=f"{upstream}/b.tgz", sha256=served(tmp_path, "b.tgz", text="two"), strip=1)
    assert (tmp_path / "opt/app/bin/app").read_text() == "two"
    assert not (tmp_path / "opt/app/left-over").exists()


def test_what_a_killed_run_left_is_removed(tmp_path: Path, upstream: str) -> None:
    options = {"url": f"{upstream}/app.tgz", "sha256": served(tmp_path, "app.tgz"), "strip": 1}
    for left in (".app.new/bin", ".app.old/bin"):
        (tmp_path / "opt" / left).mkdir(parents=True)
    (tmp_path / "opt/.app.0123456789ab.part").touch()

    assert module(tmp_path, **options)["changed"]
    assert [path.name for path in (tmp_path / "opt").iterdir()] == ["app"]
    assert (tmp_path / "opt/app/bin/app").read_text() == "one"

    # Killed between putting the new one in place and removing the old one.
    (tmp_path / "opt/.app.old").mkdir()
    assert not module(tmp_path, **options)["changed"]
    assert [path.name for path in (tmp_path / "opt").iterdir()] == ["app"]


def test_a_run_that_was_killed_between_both_renames_is_made_good(tmp_path: Path, upstream: str) -> None:
    options = {"url": f"{upstream}/app.tgz", "sha256": served(tmp_path, "app.tgz"), "strip": 1}
    module(tmp_path, **options)
    (tmp_path / "opt/app").rename(tmp_path / "opt/.app.old")

    assert module(tmp_path, **options)["changed"]
    assert [path.name for path in (tmp_path / "opt").iterdir()] == ["app"]


def test_another_content_is_refused_and_the_old_release_stays(tmp_path: Path, upstream: str) -> None:
    module(tmp_path, url=f"{upstream}/a.tgz", sha256=served(tmp_path, "a.tgz"), strip=1)
    served(tmp_path, "b.tgz", text="evil")
    found = module(tmp_path, url=f"{upstream}/b.tgz", sha256="0" * 64, strip=1)
    assert found["failed"]
    assert "could not be installed" in found["msg"]
    assert (tmp_path / "opt/app/bin/app").read_text() == "one"


def test_a_download_goes_on_where_it_stopped(tmp_path: Path, upstream: str, asked: list[str | None]) -> None:
    sha256 = served(tmp_path, "app.tgz")
    (tmp_path / "opt").mkdir()
    part = tmp_path / "opt" / f".app.{sha256[:12]}.part"
    part.write_bytes((tmp_path / "www/app.tgz").read_bytes()[:40])
    module(tmp_path, url=f"{upstream}/app.tgz", sha256=sha256, strip=1)
    assert asked == ["bytes=40-"]
    assert (tmp_path / "opt/app/bin/app").read_text() == "one"


def test_a_program_that_is_no_archive(tmp_path: Path, upstream: str) -> None:
    (tmp_path / "www/app").write_bytes(b"#!/bin/sh")
    sha256 = hashlib.sha256(b"#!/bin/sh").hexdigest()
    module(tmp_path, url=f"{upstream}/app", sha256=sha256, file="run")
    assert os.access(tmp_path / "opt/app/run", os.X_OK)


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("app/../../evil", tarfile.REGTYPE, ""),
        ("app/link", tarfile.SYMTYPE, "../../evil"),
        ("app/link", tarfile.SYMTYPE, "/etc/evil"),
        ("app/device", tarfile.CHRTYPE, ""),
    ],
)
def test_an_archive_that_leads_out_of_its_folder_is_refused(
    tmp_path: Path, upstream: str, name: str, kind: bytes, link: str
) -> None:
    with tarfile.open(tmp_path / "www/app.tgz", "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        member.size = 4 if kind == tarfile.REGTYPE else 0
        tar.addfile(member, io.BytesIO(b"evil"))
    sha256 = hashlib.sha256((tmp_path / "www/app.tgz").read_bytes()).hexdigest()
    found = module(tmp_path, url=f"{upstream}/app.tgz", sha256=sha256)
    assert found["failed"]
    assert not (tmp_path / "opt/app").exists()
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("sha256", ["", "12", "Z" * 64])
def test_without_a_checksum_nothing_is_installed(tmp_path: Path, upstream: str, sha256: str) -> None:
    found = module(tmp_path, url=f"{upstream}/app.tgz", sha256=sha256)
    assert found["failed"]
    assert "freehold versions lock" in found["msg"]


def test_a_missing_file_is_an_error_at_once(tmp_path: Path, upstream: str, asked: list[str | None]) -> None:
    found = module(tmp_path, url=f"{upstream}/none.tgz", sha256="0" * 64)
    assert "404" in found["msg"]
    assert len(asked) == 1
