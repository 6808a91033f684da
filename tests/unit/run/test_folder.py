"""The folder of a run: private, one for each run, and only the newest are kept."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from freehold.events import Event, Stage, Status
from freehold.run.folder import RunFolder


def test_events_and_documents_are_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "up")
    event = Event(stage=Stage.BASE, status=Status.OK, step="Locale", host="caddy")
    folder.record(event)
    lines = (folder.path / "events.jsonl").read_text().splitlines()
    assert [Event.model_validate_json(line) for line in lines] == [event]
    assert json.loads(folder.write("plan.json", {"path": Path("/x")}).read_text()) == {"path": "/x"}
    assert folder.log("base-pyinfra").parent == folder.path
    for path in (tmp_path / "runs", folder.path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_two_runs_of_one_second_do_not_share_a_folder(tmp_path: Path) -> None:
    paths = {RunFolder(tmp_path, "up").path for _ in range(5)}
    assert len(paths) == 5


def test_the_newest_fifty_are_kept(tmp_path: Path) -> None:
    for number in range(60):
        old = tmp_path / f"runs/20200101T0000{number:02}-up"
        old.mkdir(parents=True)
        (old / "events.jsonl").write_text("")
    folder = RunFolder(tmp_path, "up")
    left = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert len(left) == 50
    assert left[0] == "20200101T000011-up"
    assert left[-1] == folder.path.name
