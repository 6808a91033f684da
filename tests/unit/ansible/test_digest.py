"""What changes a service's digest and what does not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from freehold.ansible import digest
from freehold.layout.types import Layout, ServicePlacement


def _keyed(text: str) -> str:
    return hashlib.sha256(b"key" + text.encode()).hexdigest()


@pytest.fixture
def service(layout: Layout) -> ServicePlacement:
    return layout.service("postgres")


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    roles, templates = tmp_path / "roles", tmp_path / "templates"
    for path in (roles / "postgres/tasks/main.yml", templates / "postgres/a.j2"):
        path.parent.mkdir(parents=True)
        path.write_text("- name: first\n", encoding="utf-8")
    return roles, templates


def _digest(service: ServicePlacement, trees: tuple[Path, Path], keyed: digest.Keyed = _keyed) -> str:
    return digest.service_digest(service, keyed, roles=trees[0], templates=trees[1])


def test_the_same_service_has_the_same_digest(service: ServicePlacement, trees: tuple[Path, Path]) -> None:
    assert _digest(service, trees) == _digest(service.model_copy(), trees)


@pytest.mark.parametrize("changed", ["roles/postgres/tasks/main.yml", "templates/postgres/a.j2"])
def test_a_file_of_role_or_templates_changes_it(
    service: ServicePlacement, trees: tuple[Path, Path], tmp_path: Path, changed: str
) -> None:
    before = _digest(service, trees)
    (tmp_path / changed).write_text("- name: second\n", encoding="utf-8")

    assert _digest(service, trees) != before


@pytest.mark.parametrize("changed", ["roles/proxy/tasks/run.yml", "templates/proxy/a.j2"])
def test_a_file_of_a_role_that_is_part_of_it_changes_it(
    service: ServicePlacement, trees: tuple[Path, Path], tmp_path: Path, changed: str
) -> None:
    task = "- name: proxy\n  ansible.builtin.import_role: {name: freehold.stack.proxy, tasks_from: run}\n"
    (tmp_path / "roles/postgres/tasks/main.yml").write_text(task, encoding="utf-8")
    before = _digest(service, trees)
    path = tmp_path / changed
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("- name: second\n", encoding="utf-8")

    assert _digest(service, trees) != before


def test_a_role_that_is_no_part_of_it_does_not_change_it(
    service: ServicePlacement, trees: tuple[Path, Path], tmp_path: Path
) -> None:
    before = _digest(service, trees)
    path = tmp_path / "roles/proxy/tasks/run.yml"
    path.parent.mkdir(parents=True)
    path.write_text("- name: second\n", encoding="utf-8")

    assert _digest(service, trees) == before


@pytest.mark.parametrize("added", ["README.md", "molecule/default/molecule.yml", "tasks/__pycache__/a.pyc"])
def test_what_is_not_applied_does_not_change_it(
    service: ServicePlacement, trees: tuple[Path, Path], added: str
) -> None:
    before = _digest(service, trees)
    path = trees[0] / "postgres" / added
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("text\n", encoding="utf-8")

    assert _digest(service, trees) == before


def test_a_variable_changes_it(service: ServicePlacement, trees: tuple[Path, Path]) -> None:
    other = service.model_copy(update={"variables": {**service.variables, "postgres_memory": 4096}})

    assert _digest(other, trees) != _digest(service, trees)


def test_a_secret_changes_it(service: ServicePlacement, trees: tuple[Path, Path]) -> None:
    assert "caddy.password" in service.secrets
    rotated = _digest(service, trees, lambda name: _keyed(name + "rotated"))

    assert rotated != _digest(service, trees)


def test_a_file_is_recorded_by_its_sha256() -> None:
    plain = hashlib.sha256(b"text\n").hexdigest()

    assert digest.managed_digest("text\n", None) == plain
    assert digest.matches(plain, plain, _keyed)
    assert not digest.matches(plain, hashlib.sha256(b"other\n").hexdigest(), _keyed)


def test_a_file_with_secrets_is_recorded_by_a_keyed_hash() -> None:
    plain = hashlib.sha256(b"secret\n").hexdigest()
    recorded = digest.managed_digest("secret\n", _keyed)

    assert plain not in recorded
    assert digest.matches(recorded, plain, _keyed)
    assert not digest.matches(recorded, plain, lambda text: _keyed(text + "another key"))
