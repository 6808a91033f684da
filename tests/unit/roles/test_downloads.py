"""No role downloads past ``sources.mirror``: what comes from outside comes through plugins and settings that honour it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).parents[3] / "roles"
TASKS = sorted(ROLES.glob("*/tasks/*.yml"))

THROUGH_THE_MIRROR = {
    "ansible.builtin.apt",  # the base deploy writes the archives
    "freehold.stack.venv",  # its action reads freehold_mirror
}
"""Modules that fetch, and need nothing of the role to honour the mirror."""
BY_OPTION = {
    "freehold.stack.node_modules": ("registry", r"_registry \}\}$"),
    "freehold.stack.release": ("url", r"artifact\.url \}\}$|_artifact\w*\.url"),
    "freehold.stack.oci_image": ("image", r"artifact|image"),
    "ansible.builtin.get_url": (
        "url",
        r"^\{\{ \w+\.url \}\}$",
    ),  # a setting with url and sha256: layout rewrites it
}
"""Modules that fetch, with the option that says where and what must stand there."""
NEVER = {
    "unarchive",
    "apt_repository",
    "deb822_repository",
    "apt_key",
    "git",
    "pip",
    "npm",
    "package",
    "snap",
}

REACHES_OUT = re.compile(
    r"\b(curl|wget|hf download|pip3? install|npm (ci|install)|git clone|skopeo|docker|ollama pull)\b"
)
KNOWN = {"vllm: Fetch the language model from the hub"}
"""Refused by ``up --offline``, with the way round it: docs/mirror.md."""


def tasks(file: Path) -> Iterator[dict[str, Any]]:
    def walk(listed: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for task in listed:
            yield task
            for part in ("block", "rescue", "always"):
                yield from walk(task.get(part, []))

    yield from walk(yaml.safe_load(file.read_text()) or [])


@pytest.mark.parametrize("file", TASKS, ids=lambda path: f"{path.parents[1].name}/{path.name}")
def test_no_task_downloads_past_the_mirror(file: Path) -> None:
    for task in tasks(file):
        name = f"{file.parents[1].name}: {task.get('name')}"
        for module, options in task.items():
            assert module.removeprefix("ansible.builtin.") not in NEVER, name
            if module in BY_OPTION:
                option, wanted = BY_OPTION[module]
                assert re.search(wanted, options[option]), f"{name}: {option}"
            if module == "ansible.builtin.get_url":
                assert options["checksum"].startswith("sha256:"), name
            if module in {"ansible.builtin.command", "ansible.builtin.shell"}:
                assert not REACHES_OUT.search(str(options)) or name in KNOWN, name
            if module == "ansible.builtin.uri":
                assert "{{" in options["url"].partition("://")[2].partition("/")[0] or re.match(
                    r"https?://(127\.0\.0\.1|localhost)[:/]|\{\{", options["url"]
                ), f"{name}: a service of this client, not a place outside"


def test_modules_that_fetch_are_used() -> None:
    used = {module for file in TASKS for task in tasks(file) for module in task}
    assert used >= THROUGH_THE_MIRROR | {"freehold.stack.release", "ansible.builtin.get_url"}


@pytest.mark.parametrize(
    "file", sorted(ROLES.glob("*/meta/service.yml")), ids=lambda path: path.parents[1].name
)
def test_a_registry_of_npm_is_the_mirrors(file: Path) -> None:
    variables = yaml.safe_load(file.read_text()).get("variables", {})
    for key, expression in variables.items():
        if key == "registry":
            assert "sources.mirror" in expression
