"""The parent's side: one run of the services' roles, with its events as they happen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from freehold.ansible.request import Request
from freehold.errors import FreeholdError
from freehold.events import Event, Status
from freehold.run import children


class ServicesError(FreeholdError):
    """A role failed, or a host could not be reached."""


@dataclass
class Outcome:
    """What a run did."""

    changed: dict[str, int] = field(default_factory=dict)
    """Changed tasks by host."""
    failures: list[Event] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """Note what the event says."""
        if event.status is Status.FAILED:
            self.failures.append(event)
        elif event.status is Status.CHANGED and event.host:
            self.changed[event.host] = self.changed.get(event.host, 0) + 1


def run(request: Request, *, on_event: Callable[[Event], None], log: Path, echo: bool = False) -> Outcome:
    """Configure the services of the request's hosts.

    Args:
        request: What to run.
        on_event: Called for each event, in order.
        log: File that takes Ansible's own output.
        echo: Whether Ansible's own output is also shown.

    Raises:
        ServicesError: At least one task failed or one host was unreachable; the others were finished.
        EngineError: Ansible broke without saying what failed.
    """
    outcome = Outcome()

    def both(event: Event) -> None:
        outcome.take(event)
        on_event(event)

    code = children.run(
        "freehold.ansible", request.model_dump(mode="json"), on_event=both, log=log, echo=echo
    )
    if outcome.failures:
        raise _failure(outcome.failures, log)
    if code:
        raise ServicesError(
            f"Ansible ended with exit code {code}",
            doing="configuring services",
            where=str(log),
            answer=_tail(log),
            remedy="Read the log; then run the same command again.",
        )
    return outcome


def _failure(failures: list[Event], log: Path) -> ServicesError:
    first = failures[0]
    others = f" ({len(failures) - 1} more failed)" if len(failures) > 1 else ""
    return ServicesError(
        f"{first.step} failed on {first.host}{others}",
        doing="configuring services",
        where=str(log),
        answer="\n".join(f"{event.host}: {event.step}: {event.message}" for event in failures),
        remedy="Correct the cause and run the same command again; it goes on where this run stopped.",
    )


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
