"""Stand-in of Langfuse's worker (lab): the second of the images that ``langfuse.py`` describes."""

from __future__ import annotations

from pathlib import Path

from freehold.lab.standins import StandIn, langfuse


def _build(folder: Path) -> Path:
    return langfuse.build(folder, "worker", "langfuse/langfuse-worker", STAND_IN.version)


STAND_IN = StandIn("langfuse-worker", _build, langfuse.STAND_IN.sources, langfuse.describe)
