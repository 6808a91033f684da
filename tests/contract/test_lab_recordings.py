"""The lab answers as the recorded Proxmox VE did: every step of every scenario."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .lab_replay import RECORDINGS, make_world, no_resolver, replay

NOT_COVERED = json.loads((Path(__file__).parent / "not-covered.json").read_text("utf-8"))
EXPECTED = {step for group in NOT_COVERED for step in group["steps"]}
TOTAL = sum(len(scenario["steps"]) for scenario in RECORDINGS)


@pytest.mark.parametrize("scenario", RECORDINGS, ids=lambda scenario: scenario["name"])
async def test_scenario(scenario: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step matches, but for those that ``not-covered.json`` names with a reason; and those do not match."""
    no_resolver(monkeypatch)
    outcomes = await replay(scenario, make_world(tmp_path))
    differing = {
        outcome.id: f"{outcome.call}: {outcome.difference}" for outcome in outcomes if outcome.difference
    }
    listed = {outcome.id for outcome in outcomes} & EXPECTED
    unexpected = "\n".join(f"{step} {text}" for step, text in differing.items() if step not in listed)
    assert not unexpected, unexpected
    assert not listed - differing.keys(), "matches now, take it out of not-covered.json"


def test_coverage_is_counted(
    record_property: pytest.RecordProperty, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figure of the documentation is that of the data."""
    known = {step["id"] for scenario in RECORDINGS for step in scenario["steps"]}
    assert known >= EXPECTED
    assert all(group["reason"] for group in NOT_COVERED)
    matching = len(known) - len(EXPECTED)
    record_property("recorded API cases", matching)
    with capsys.disabled():
        print(f"\nrecorded API cases: {matching} of {TOTAL} match")
    assert TOTAL == 1481
