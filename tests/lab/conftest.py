"""Fixtures of the lab tests. The lab must run (``make lab-test`` starts it).

Each test client has its own VMIDs and addresses, so that the lab's own stack can stand beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .freehold_command import Freehold


@pytest.fixture(scope="module")
def freehold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Freehold]:
    """The command, with nothing left over from earlier runs; its clients are removed at the end."""
    home = tmp_path_factory.mktemp("home")
    (home / "inventory").mkdir()
    runner = Freehold(home, home / "inventory")
    runner("lab", "start")
    yield runner
    for stack in sorted(runner.inventory.glob("*/stack.yml")):
        runner("down", stack.parent.name, "--confirm", stack.parent.name, code=None)
