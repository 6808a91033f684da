"""Fixtures of the lab tests. The lab must run (``make lab-test`` starts it).

Test clients have VMIDs and addresses that the lab's own stack does not have, so that it can stand beside them; they take turns.
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
