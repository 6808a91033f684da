"""When an engine has no use in waiting any longer for its weights."""

from __future__ import annotations

import pytest

from ansible_collections.freehold.stack.plugins.modules.weights import waiting_is_over


@pytest.mark.parametrize(
    ("progress", "idle", "over"),
    [
        ({}, 30, False),
        ({}, 1900, True),
        ({"state": "fetching"}, 600, False),
        ({"state": "fetching"}, 1900, True),
        # A run that goes on after one that failed has a minute to begin again.
        ({"state": "failed", "error": {"message": "the disk is full", "remedy": ""}}, 30, False),
        ({"state": "failed", "error": {"message": "the disk is full", "remedy": ""}}, 61, True),
    ],
)
def test_waiting_ends_where_nobody_fetches(progress: dict[str, object], idle: float, over: bool) -> None:
    assert bool(waiting_is_over(progress, idle)) is over


def test_it_says_why_the_fetch_failed() -> None:
    failed = {"state": "failed", "error": {"message": "the disk is full", "remedy": "Make room."}}
    assert waiting_is_over(failed, 90) == "The weights were not fetched: the disk is full. Make room."
