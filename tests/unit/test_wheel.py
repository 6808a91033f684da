"""What the wheel holds, built from this checkout: everything that a user needs, and nothing of its developers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from freehold.catalog import services

ROOT = Path(__file__).parents[2]
COLLECTION = "ansible_collections/freehold/stack"
PLACES = {
    "src": "",
    "roles": f"{COLLECTION}/roles",
    "templates": "freehold/data/templates",
    "deploys": "freehold/data/deploys",
    "tests/hosts": "freehold/data/hosts",
    "ansible.cfg": "freehold/data/ansible.cfg",
    "versions.yml": "freehold/data/versions.yml",
}
"""Folder or file of the checkout -> its place in the wheel."""

NOT_SHIPPED = re.compile(
    r"__pycache__|\.py[co]$|/molecule/|(^|/)\.|/runs/|secrets\.yml|known_hosts|\.key$|\.pem$|\.crt$"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def _files() -> set[str]:
    """Files of the checkout that have a place in the wheel; what tools left there, and roles' own tests, have none."""
    found = {name for name in PLACES if (ROOT / name).is_file()}
    for place in PLACES:
        for folder, below, names in os.walk(ROOT / place):
            below[:] = [name for name in below if name not in {"__pycache__", "molecule"} and name[0] != "."]
            found |= {str((Path(folder) / name).relative_to(ROOT)) for name in names}
    return found


def _place(name: str) -> str:
    source = next(source for source in PLACES if name == source or name.startswith(f"{source}/"))
    return f"{PLACES[source]}{name.removeprefix(source)}".lstrip("/")


def test_it_holds_every_file_that_runs_need_and_no_other(wheel: zipfile.ZipFile) -> None:
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    wanted = {_place(name) for name in _files()}

    assert shipped == wanted


def test_it_holds_nothing_of_developers_and_no_secret(wheel: zipfile.ZipFile) -> None:
    assert [name for name in wheel.namelist() if NOT_SHIPPED.search(name)] == []


@pytest.mark.parametrize("service", sorted(services.load()))
def test_every_service_is_whole(wheel: zipfile.ZipFile, service: str) -> None:
    names = set(wheel.namelist())

    for part in ("meta/service.yml", "meta/argument_specs.yml", "defaults/main.yml", "tasks/main.yml"):
        assert f"{COLLECTION}/roles/{service}/{part}" in names
    assert f"freehold/data/hosts/test_{service}.py" in names
    assert any(name.startswith(f"freehold/data/templates/{service}/") for name in names)


def test_the_version_of_the_collection_is_that_of_the_package(wheel: zipfile.ZipFile) -> None:
    metadata = wheel.read(next(name for name in wheel.namelist() if name.endswith("/METADATA"))).decode()
    galaxy = wheel.read(f"{COLLECTION}/galaxy.yml").decode()
    version = re.search(r"^Version: (.+)$", metadata, re.M)

    assert version
    assert f"version: {version[1]}\n" in galaxy
