"""No room of the house reaches back: what may import what, as the architecture says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "freehold"

ALLOWED = {
    "errors": set(),
    "events": set(),
    "resources": set(),
    "schema": {"errors"},
    "catalog": {"errors", "resources"},
    "gpu_truth": set(),
    "routing": set(),
    "layout": {"errors", "schema", "catalog", "gpu_truth", "routing"},
    "authority": set(),
    "vault": {"errors"},
    "secrets": {"errors", "authority", "vault", "catalog", "schema"},
    "gpus": {"errors", "schema", "catalog", "layout"},
    "proxmox": {"errors"},
    "nvidia": {"catalog"},
    "mirror": {"errors", "resources", "catalog", "schema", "layout"},
    "upstream": {"errors", "resources", "catalog", "mirror"},
}
"""Rooms with a list of their own: what else of ours they may import."""

LEAVES = {"cli": set(), "lab": {"cli/lab.py"}}
"""Rooms that nobody imports, but for the files named."""

ENGINES = {"pyinfra", "ansible"}
"""Engines are run by ``run``: they know nothing of it."""

PARENT_SIDES = {"ansible/runner.py"}
"""Files of an engine's room that work in the parent process, with the starter of children in ``run``."""


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Rooms that a module imports, at any depth, with the line."""
    package = ("freehold", *path.relative_to(SOURCE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "freehold" and len(parts) > 1 and not parts[1].startswith("_"):
                yield parts[1], node.lineno


def test_the_rooms_are_there() -> None:
    assert {"schema", "catalog", "layout", "proxmox", "run", "cli", "lab"} <= {
        room(path) for path in modules()
    }


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_import_direction(path: Path) -> None:
    here = room(path)
    name = str(path.relative_to(SOURCE))
    wrong = []
    for target, line in imported(path):
        if target == here:
            continue
        if here in ALLOWED and target not in ALLOWED[here]:
            wrong.append(f"{name}:{line}: {here} must not import {target}")
        if target in LEAVES and name not in LEAVES[target]:
            wrong.append(f"{name}:{line}: nobody imports {target}")
        if here in ENGINES and target == "run" and name not in PARENT_SIDES:
            wrong.append(f"{name}:{line}: an engine must not import run")
    assert not wrong, "\n".join(wrong)
