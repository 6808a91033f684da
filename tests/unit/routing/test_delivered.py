"""What reaches the router of the package ``routing``: all that its detectors read, or they judge nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from freehold import resources

_SCAN = """
import json, sys
sys.path.insert(0, sys.argv[1])
from freehold_routing.detect import Detectors
print(json.dumps([finding.category for finding in Detectors().scan([sys.argv[2]])]))
"""
HEALTH = "Die Patientin hat Brustkrebs und bekommt eine Chemotherapie."


@pytest.fixture
def delivered(tmp_path: Path) -> Path:
    """The files as the role puts them onto the router's host."""
    root = resources.package()
    for path in resources.package_files("routing"):
        target = tmp_path / "freehold_routing" / path.relative_to(root / "routing")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


def _scan(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-c", _SCAN, str(folder), HEALTH], capture_output=True, text=True, cwd=folder
    )


def test_the_router_finds_words_as_the_controller_does(delivered: Path) -> None:
    done = _scan(delivered)

    assert done.returncode == 0, done.stderr
    assert "health" in done.stdout


def test_a_list_of_words_that_is_not_there_is_an_error(delivered: Path) -> None:
    (delivered / "freehold_routing/detect/terms/pl.txt").unlink()
    done = _scan(delivered)

    assert done.returncode != 0
    assert "pl.txt" in done.stderr or "NotJudged" in done.stderr
