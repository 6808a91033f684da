"""Every role has the same shape, and says of its options in one place what it says in the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold import resources
from freehold.catalog import services

ROLES = sorted(path.parent.parent for path in resources.roles().glob("*/meta/service.yml"))
FILES = (
    "README.md",
    "defaults/main.yml",
    "handlers/main.yml",
    "meta/argument_specs.yml",
    "meta/main.yml",
    "tasks/main.yml",
    "tasks/preflight.yml",
    "tasks/install.yml",
    "tasks/configure.yml",
    "tasks/run.yml",
)


@pytest.fixture(params=ROLES, ids=lambda path: path.name)
def role(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _options(role: Path) -> dict[str, dict[str, Any]]:
    return services.argument_specs(role.name)


def test_there_are_roles() -> None:
    assert {"caddy", "postgres"} <= {role.name for role in ROLES}


def test_it_has_the_files_of_a_role(role: Path) -> None:
    assert [name for name in FILES if not (role / name).is_file()] == []


def test_its_service_bears_its_name(role: Path) -> None:
    assert services.load()[role.name].name == role.name


def test_defaults_equal_the_argument_specs(role: Path) -> None:
    defaults = _yaml(role / "defaults/main.yml") or {}
    specified = {name: option["default"] for name, option in _options(role).items() if "default" in option}

    assert defaults == specified


def test_options_are_named_after_the_role_and_described(role: Path) -> None:
    for name, option in _options(role).items():
        assert name.startswith(f"{role.name.replace('-', '_')}_"), name
        assert option["description"], name
        assert option["type"], name
        assert ("default" in option) != bool(option.get("required")), f"{name}: a default or required"


def test_options_are_used(role: Path) -> None:
    texts = "".join(
        path.read_text(encoding="utf-8")
        for folder in (role / "tasks", role / "handlers", resources.templates() / role.name)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )
    unused = [name for name in _options(role) if not re.search(rf"\b{name}\b", texts)]

    assert unused == []


def test_variables_of_the_layout_are_options(role: Path) -> None:
    prefix = f"{role.name.replace('-', '_')}_"
    computed = {f"{prefix}{key}" for key in services.load()[role.name].variables}

    assert computed <= set(_options(role))


def test_its_own_system_is_one_that_it_is_made_for(role: Path) -> None:
    assert services.load()[role.name].os in services.systems(role.name)


def test_its_last_task_records_the_manifest(role: Path) -> None:
    last = _yaml(role / "tasks/run.yml")[-1]

    assert last["freehold.stack.manifest"]["service"] == role.name


def test_templates_say_who_manages_them(role: Path) -> None:
    for path in sorted((resources.templates() / role.name).rglob("*.j2")):
        head = "".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:2])
        assert f"Managed by Freehold (roles/{role.name})" in head, path.name
