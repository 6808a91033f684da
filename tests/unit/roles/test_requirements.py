"""Every Python requirement set that a role installs is pinned, hashed and free of addresses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROLES = Path(__file__).parents[3] / "roles"
LOCKS = sorted(ROLES.glob("*/files/requirements*.txt"))
LOCKS = [path for path in LOCKS if not path.name.endswith("-excludes.txt")]


def entries(lock: Path) -> dict[str, str]:
    """The requirement and its options, joined to one line each, by the name of the package."""
    lines = [line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return {re.split(r"[=\[ ]", line, maxsplit=1)[0]: line for line in joined if line.strip()}


def test_the_locks_are_found() -> None:
    assert {path.parent.parent.name for path in LOCKS} >= {"openwebui", "vllm"}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: f"{path.parent.parent.name}/{path.name}")
def test_each_requirement_is_one_version_with_hashes(lock: Path) -> None:
    assert entries(lock)
    for line in entries(lock).values():
        assert re.match(r"^[a-z0-9][a-z0-9._-]*(\[[a-z0-9,_-]+\])?==[^ ]+ ", line), line
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", line), line


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: f"{path.parent.parent.name}/{path.name}")
def test_a_lock_names_no_place_to_download_from(lock: Path) -> None:
    """The place is the client's choice (``sources.mirror``); the hash says what has to come from it."""
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"^(-i|-f|--(extra-)?index-url|--find-links)\b", text, re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: f"{path.parent.parent.name}/{path.name}")
def test_what_is_excluded_is_not_in_the_lock(lock: Path) -> None:
    excludes = lock.with_name(f"{lock.stem}-excludes.txt")
    if excludes.is_file():
        names = {line for line in excludes.read_text().splitlines() if line and not line.startswith("#")}
        assert names
        assert not names & set(entries(lock))


def test_vllm_without_a_gpu_takes_the_cpu_build_of_torch() -> None:
    assert entries(ROLES / "vllm/files/requirements-cpu.txt")["torch"].startswith("torch==2.13.0+cpu ")
