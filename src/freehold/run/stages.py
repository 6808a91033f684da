"""The stages of a run: each does one thing to all hosts at once, and reports events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from freehold.errors import ExitCode, FreeholdError
from freehold.events import Event, Stage, Status
from freehold.run import children
from freehold.run.context import Client
from freehold.run.folder import RunFolder

Sink = Callable[[Event], None]


class StageFailedError(FreeholdError):
    """A stage failed on at least one host; the others went on as far as they could."""


@dataclass
class Run:
    """One run of a verb: its client, its folder, its events, and what they add up to."""

    client: Client
    folder: RunFolder
    sink: Sink
    verbosity: int = 0
    changed: dict[Stage, int] = field(default_factory=dict)
    failed: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        """Take one event: count it, keep it, hand it on."""
        if event.status is Status.CHANGED:
            self.changed[event.stage] = self.changed.get(event.stage, 0) + 1
        if event.status is Status.FAILED:
            self.failed.append(event)
        self.folder.record(event)
        self.sink(event)

    def say(
        self, stage: Stage, status: Status, step: str, host: str = "", message: str = "", **data: Any
    ) -> None:
        """Report one event of our own."""
        self(Event(stage=stage, status=status, step=step, host=host, message=message, data=data))

    @contextmanager
    def stage(self, stage: Stage, step: str) -> Iterator[None]:
        """Report the beginning of a stage, and how it ended.

        An error of bad input says that nothing was touched; once something was, it is a failure like any other.
        """
        before = self.changed.get(stage, 0)
        self.say(stage, Status.STARTED, step)
        try:
            yield
        except FreeholdError as error:
            self.say(stage, Status.FAILED, step, message=error.message, error=error.as_dict())
            if any(self.changed.values()):
                error.exit_code = ExitCode.FAILED
            raise
        changed = self.changed.get(stage, 0) - before
        status, message = (Status.CHANGED, _count(changed)) if changed else (Status.OK, "")
        self.say(stage, status, step, message=message)
        if changed:
            self.changed[stage] -= 1  # the stage itself is no change

    def pyinfra(self, deploy: str, stage: Stage, **document: Any) -> list[Event]:
        """Run one of ``deploys/`` in a child process; its events.

        Raises:
            StageFailedError: It failed on a host.
        """
        return self._child("freehold.pyinfra", stage, {"deploy": deploy, "stage": stage, **document})

    def ansible(self, stage: Stage, **document: Any) -> list[Event]:
        """Run the services' roles in a child process; its events.

        Raises:
            StageFailedError: A role failed on a host.
        """
        return self._child("freehold.ansible", stage, document)

    def _child(self, module: str, stage: Stage, document: dict[str, Any]) -> list[Event]:
        events: list[Event] = []

        def take(event: Event) -> None:
            events.append(event)
            self(event)

        log = self.folder.log(f"{stage}-{module.rpartition('.')[2]}")
        code = children.run(
            module,
            {"layout": self.client.layout.model_dump(mode="json"), **document},
            on_event=take,
            log=log,
            echo=self.verbosity > 0,
        )
        failed = [event for event in events if event.status is Status.FAILED]
        if failed or code:
            raise failure(stage, failed, log=str(log))
        return events


def _count(number: int) -> str:
    return f"{number} changes" if number != 1 else "1 change"


def failure(stage: Stage, failed: Iterable[Event], *, log: str) -> StageFailedError:
    """The error for a stage, from the events that say what failed."""
    events = list(failed)
    if not events:
        return StageFailedError(
            f"The stage {stage} stopped without saying why",
            where=log,
            remedy="Its log may say more; run the same command again with -v.",
        )
    first = events[0].data.get("error", {})
    hosts = sorted({event.host for event in events if event.host})
    lines = [f"{event.host or 'all hosts'}: {event.step}: {event.message}".strip() for event in events[:8]]
    on = f" on {', '.join(hosts)}" if hosts else ""
    answer = first.get("answer") if len(events) == 1 else None
    return StageFailedError(
        f"The stage {stage} failed{on}",
        answer="\n".join([*lines, *([answer] if answer else [])]),
        where=log,
        remedy=first.get("remedy")
        or "Remove the cause and run the same command again: it goes on where it stopped. -v shows the engines' output.",
    )
