"""Stand-ins are built once, named as what they are, and laid over the lock for clients of the lab."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import pytest
import yaml

from freehold.catalog import versions
from freehold.errors import FreeholdError
from freehold.lab import standins
from freehold.lab.standins import StandIn

ADDRESS = "http://10.86.0.1:8080"


def caddy(built: list[str]) -> StandIn:
    def build(folder: Path) -> Path:
        built.append("caddy")
        return standins.archive(folder / "caddy.tgz", [("caddy", b"#!/bin/sh\n", 0o755)])

    return StandIn(artifact="caddy", build=build, sources=("__init__.py",))


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(standins, "all_of_them", lambda: [caddy(found)])
    return found


def test_every_stand_in_says_what_it_is_and_stands_for_something() -> None:
    lock = versions.load()
    for stand_in in standins.all_of_them():
        module = standins.HERE / stand_in.sources[0]
        assert "stand-in" in module.read_text(encoding="utf-8").splitlines()[0].lower(), module
        assert lock[stand_in.artifact].source in {"release", "oci", "pypi"}
        assert stand_in.version == f"{lock[stand_in.artifact].version}+stand-in"
        assert all((standins.HERE / source).exists() for source in stand_in.sources)


def test_a_stand_in_is_built_once(tmp_path: Path, built: list[str]) -> None:
    (tmp_path / "caddy-older").mkdir()
    said: list[str] = []
    standins.build_all(tmp_path, said.append)
    standins.build_all(tmp_path, said.append)
    assert built == ["caddy"]
    assert said == ["building 1 stand-ins, once: caddy"]
    assert not (tmp_path / "caddy-older").exists()


def test_the_lock_has_address_checksum_and_mark(tmp_path: Path, built: list[str]) -> None:
    standins.build_all(tmp_path, built.append)
    entry = yaml.safe_load(standins.lock(tmp_path, ADDRESS))["caddy"]
    file = tmp_path / Path(entry["url"]).parent.name / "caddy.tgz"
    assert entry["url"].startswith(f"{ADDRESS}/standins/caddy-")
    assert entry["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert entry["stand_in"] is True


def test_a_build_that_fails_leaves_nothing_and_names_the_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(folder: Path) -> Path:
        (folder / "half").touch()
        standins.run(["sh", "-c", "echo no network >&2; exit 1"])
        return folder

    broken = StandIn(artifact="caddy", build=build, sources=("__init__.py",))
    monkeypatch.setattr(standins, "all_of_them", lambda: [broken])
    with pytest.raises(FreeholdError, match="stand-in of caddy") as caught:
        standins.build_all(tmp_path, print)
    assert "no network" in str(caught.value.answer)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.tgz", "a.tar.zst"])
def test_an_archive_of_the_same_is_the_same(tmp_path: Path, name: str) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/data").write_text("data")
    (tmp_path / "lib/link").symlink_to("data")
    members = [("bin/app", b"#!/bin/sh\n", 0o755), ("lib", tmp_path / "lib", 0)]
    first = standins.archive(tmp_path / name, members).read_bytes()
    (tmp_path / "lib/data").touch()
    assert standins.archive(tmp_path / name, members).read_bytes() == first


def test_an_archive_keeps_modes_and_links(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/link").symlink_to("data")
    path = standins.archive(tmp_path / "a.tgz", [("bin/app", b"x", 0o755), ("lib", tmp_path / "lib", 0)])
    with tarfile.open(path) as tar:
        assert tar.getmember("bin/app").mode == 0o755
        assert tar.getmember("lib/link").linkname == "data"


def test_the_guide_names_every_stand_in() -> None:
    guide = (Path(__file__).parents[3] / "docs/lab.md").read_text(encoding="utf-8")
    rows = guide.partition("## Stand-ins of programs")[2].partition("\n## ")[0]
    named = {
        row.split("|")[1].split(",")[0].strip().lower() for row in rows.splitlines() if row.startswith("| ")
    }
    services = {stand_in.artifact.removesuffix("-worker") for stand_in in standins.all_of_them()}
    assert named - {"stands for"} == services
