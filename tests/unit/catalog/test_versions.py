"""The lock of what is installed: what an entry says, what a client lays over it, what a role is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from freehold import resources
from freehold.ansible.digest import imported
from freehold.catalog import services, versions
from freehold.catalog.versions import Artifact
from freehold.errors import BadInputError

LOCK = versions.load()
GOOD = {"version": "1", "licence": "MIT", "upstream": "https://example.org"}
RELEASE = {**GOOD, "source": "release", "url": "https://example.org/x/app.tgz", "sha256": "0" * 64}
IMAGE = {**GOOD, "source": "oci", "image": "registry.example.org/acme/app", "digest": f"sha256:{'1' * 64}"}


def overlaid(folder: Path, entries: object) -> Path:
    (folder / versions.OVERLAY).write_text(yaml.safe_dump(entries))
    return folder


def test_the_lock_is_sorted_by_name() -> None:
    names = list(yaml.safe_load(resources.versions().read_text()))
    assert names == sorted(names)


def test_everything_in_the_lock_belongs_to_a_service() -> None:
    used = {name for meta in services.load().values() for name in meta.artifacts}
    assert set(LOCK) - used <= DEPLOYED


DEPLOYED = {"base", "nvidia-driver", "template-debian-12", "template-debian-13"}
"""What deploys install, or containers are made from."""


@pytest.mark.parametrize("name", sorted(name for name, entry in LOCK.items() if entry.lock))
def test_a_lock_file_has_the_version_that_the_lock_names(name: str) -> None:
    entry = LOCK[name]
    text = (resources.roles() / str(entry.lock)).read_text()
    if entry.source == "pypi":
        assert f"\n{entry.package}=={entry.version}" in f"\n{text}"
    else:
        assert yaml.safe_load(text)["packages"][f"node_modules/{entry.package}"]["version"] == entry.version


def by_apt(role: str) -> set[str]:
    """Names of packages that the tasks of a role, and of roles that are part of it, install, also those that an expression chooses from."""
    found: set[str] = set()
    tasks = [resources.roles() / name / "tasks" for name in (role, *imported(resources.roles() / role))]
    for file in (file for folder in tasks for file in folder.glob("*.yml")):
        for task in yaml.safe_load(file.read_text()) or []:
            if names := task.get("ansible.builtin.apt", {}).get("name"):
                chosen = yaml.safe_dump([names if isinstance(names, list) else "", task.get("vars", {})])
                found |= set(re.findall(r"(?<=[-\[ ,])[a-z0-9][a-z0-9.+-]+(?=[,\]\n])", chosen))
                found |= set(re.findall(r"'([a-z0-9][a-z0-9.+-]+)'", str(names)))
    return found


@pytest.mark.parametrize("role", sorted(services.load()))
def test_a_role_installs_the_packages_that_the_lock_names_and_no_others(role: str) -> None:
    named = {package for name in services.load()[role].artifacts for package in LOCK[name].packages}
    assert by_apt(role) == named, "list them under packages in versions.yml: that is what fills a mirror"


def test_the_base_system_installs_the_packages_that_the_lock_names() -> None:
    text = (resources.deploys() / "base.py").read_text()
    listed = text[text.index("needed = [") : text.index("]\n\nconfiguration")]
    assert set(re.findall(r'"([a-z0-9-]+)"', listed)) <= set(LOCK["base"].packages)


def test_a_client_lays_its_own_lock_over(tmp_path: Path) -> None:
    overlaid(tmp_path, {"caddy": {"version": "9"}, "more": RELEASE})
    lock = versions.load(tmp_path)
    assert lock["caddy"].version == "9"
    assert lock["caddy"].licence == LOCK["caddy"].licence
    assert lock["more"].sha256 == "0" * 64
    assert "more" not in versions.load()


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"caddy": {"source": "floppy"}}, "caddy.source"),
        ({"more": {**GOOD, "source": "release"}}, "needs url"),
        ({"more": {**RELEASE, "sha256": "12"}}, "more.sha256"),
        ({"more": {**RELEASE, "colour": "red"}}, "more.colour"),
        ({"more": 1}, "not a mapping"),
    ],
)
def test_a_wrong_lock_is_named(tmp_path: Path, entries: object, reason: str) -> None:
    overlaid(tmp_path, entries)
    with pytest.raises(BadInputError) as caught:
        versions.load(tmp_path)
    assert reason in str(caught.value.answer)
    assert str(tmp_path) in str(caught.value.where)


def test_a_role_is_told_of_the_mirror_and_not_of_stand_ins() -> None:
    entry = Artifact.model_validate({**RELEASE, "stand_in": True})
    assert entry.for_role() == {"version": "1", "url": "https://example.org/x/app.tgz", "sha256": "0" * 64}
    assert entry.for_role("http://mirror:8090/")["url"] == f"http://mirror:8090/files/{'0' * 64}/app.tgz"
    image = Artifact.model_validate(IMAGE).for_role("http://mirror:8090")
    assert image["image"] == "mirror:8090/acme/app"
    assert image["plain_http"]


def test_what_has_no_checksum_is_not_pinned() -> None:
    assert Artifact.model_validate(RELEASE).pinned
    assert not Artifact.model_validate({**RELEASE, "sha256": None}).pinned
    assert not Artifact.model_validate({**IMAGE, "digest": None}).pinned


def test_an_unknown_artifact_is_named() -> None:
    with pytest.raises(BadInputError, match='no artifact "qdrnt"'):
        versions.artifact("qdrnt")
