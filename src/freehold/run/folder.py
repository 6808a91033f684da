"""The folder of a run: what was planned, what happened, what the engines said, and the proof."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from freehold.events import Event

_KEEP = 50


class RunFolder:
    """``inventory/<client>/runs/<time>-<verb>/``, readable by its owner alone; the newest fifty are kept."""

    def __init__(self, client_directory: Path, verb: str) -> None:
        runs = client_directory / "runs"
        runs.mkdir(mode=0o700, exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        self.path = _fresh(runs, f"{stamp}-{verb}")
        self._events = (self.path / "events.jsonl").open("a", encoding="utf-8")
        _prune(runs)

    def record(self, event: Event) -> None:
        """Keep an event."""
        self._events.write(event.line() + "\n")
        self._events.flush()

    def write(self, name: str, data: dict[str, Any]) -> Path:
        """Keep a document as JSON."""
        path = self.path / name
        path.write_text(json.dumps(data, indent=2, sort_keys=True, default=str) + "\n", encoding="utf-8")
        return path

    def log(self, engine: str) -> Path:
        """File for an engine's own output."""
        return self.path / f"{engine}.log"


def _fresh(runs: Path, name: str) -> Path:
    for number in range(1000):
        path = runs / (name if not number else f"{name}-{number}")
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(name)


def _prune(runs: Path) -> None:
    import shutil

    for old in sorted(path for path in runs.iterdir() if path.is_dir())[:-_KEEP]:
        shutil.rmtree(old, ignore_errors=True)
