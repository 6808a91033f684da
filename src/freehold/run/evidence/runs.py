"""What run folders tell of the past: which command, when, by whom, what changed, how it ended, and what was proven."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from freehold.events import Status
from freehold.run.proof import report
from freehold.run.proof.report import Check


@dataclass(frozen=True)
class PastRun:
    """One run of a command that changes or proves."""

    path: Path
    began: datetime
    verb: str
    by: str
    """Owner of the folder: the account of the controller that ran it."""
    ended: str
    """How its last stage ended: ``done``, ``failed`` or ``unfinished``."""
    stage: str = ""
    """Its last stage, such as ``proof``."""
    changes: dict[str, int] = field(default_factory=dict)
    """Changes by stage."""
    error: str = ""

    @property
    def junit(self) -> Path:
        """Its report of checks, where there is one."""
        return self.path / "proof.xml"

    @property
    def checks(self) -> list[Check]:
        """The checks of its proof; none where nothing was proven, or the report cannot be read."""
        try:
            return report.checks(self.junit) if self.junit.is_file() else []
        except ParseError:
            return []

    def as_dict(self) -> dict[str, Any]:
        """The run as plain data."""
        return {
            "run": self.path.name,
            "began": self.began.isoformat(timespec="seconds"),
            "command": self.verb,
            "by": self.by,
            "ended": self.ended,
            "last_stage": self.stage,
            "changes": self.changes,
            "error": self.error,
        }


def past(directory: Path) -> tuple[PastRun, ...]:
    """The runs of a client whose folders are kept, the newest first."""
    folders = sorted((path for path in directory.glob("runs/*") if path.is_dir()), reverse=True)
    return tuple(run for folder in folders if (run := _read(folder)))


def _read(folder: Path) -> PastRun | None:
    stamp, _, verb = folder.name.partition("-")
    try:
        began = datetime.strptime(stamp, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    changes: dict[str, int] = {}
    stage = step = error = ""
    ended = "unfinished"
    for event in _events(folder / "events.jsonl"):
        status = event["status"]
        if event["host"]:
            if status == Status.CHANGED:
                changes[event["stage"]] = changes.get(event["stage"], 0) + 1
        elif status == Status.STARTED and event["stage"] != stage:  # within a stage, parts may start too
            stage, step, ended, error = event["stage"], event["step"], "unfinished", ""
        elif event["step"] == step and status == Status.FAILED:
            ended, error = "failed", event["message"]
        elif event["step"] == step and status in {Status.OK, Status.CHANGED}:
            ended = "done"
    return PastRun(folder, began, _verb(verb), _owner(folder), ended, stage, changes, error)


def _verb(text: str) -> str:
    """Runs of one second have a number behind their verb."""
    verb, _, number = text.rpartition("-")
    return verb if number.isdigit() else text


def _owner(folder: Path) -> str:
    try:
        return folder.owner()
    except (KeyError, OSError):
        return f"user {folder.stat().st_uid}"


def _events(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:  # a run that was killed leaves half a line
                continue
            if isinstance(event, dict) and {"stage", "status", "host", "step", "message"} <= event.keys():
                yield event
