"""What a run reports while it works: one typed event, one JSON line.

Engines (pyinfra, Ansible, pytest) run as child processes and write these lines; the command line renders them as
a live table, as plain lines or, with ``--json``, as they are. No event ever holds a secret.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Stage(StrEnum):
    """The stages of a run, in their order."""

    CHECK = "check"
    NODE = "node"
    PLAN = "plan"
    CONTAINERS = "containers"
    ROOT_STEPS = "root-steps"
    START = "start"
    BASE = "base"
    SERVICES = "services"
    PROOF = "proof"
    SUMMARY = "summary"


class Status(StrEnum):
    """What an event says of its step."""

    STARTED = "started"
    PROGRESS = "progress"
    OK = "ok"
    """Done, nothing had to change."""
    CHANGED = "changed"
    SKIPPED = "skipped"
    FAILED = "failed"


class Event(BaseModel):
    """One step of a stage, on one host (or on none, when ``host`` is empty)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: Stage
    status: Status
    step: str = Field(description="What is being done, as a short sentence or a task's name.")
    host: str = ""
    message: str = ""
    data: dict[str, Any] = Field(default_factory=dict)
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))

    def line(self) -> str:
        """The event as one line of JSON, without a newline."""
        return self.model_dump_json(exclude_defaults=False)
