"""``freehold audit check``: whether every call through the router is among the traces."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from freehold.errors import BadInputError
from freehold.run import audit_host
from freehold.run.context import Client


@dataclass(frozen=True)
class Period:
    """A span of time."""

    since: datetime
    until: datetime
    """Not included."""

    @property
    def milliseconds(self) -> dict[str, int]:
        """As the programs on the hosts take it."""
        return {"from": int(self.since.timestamp() * 1000), "to": int(self.until.timestamp() * 1000)}


@dataclass(frozen=True)
class Completeness:
    """The router's calls of a period against the traces of Langfuse."""

    since: str
    until: str
    calls: int
    """In the router's ledger, written before each call went on."""
    traces: int
    """Of these calls, as Langfuse shows them."""
    waiting: int
    """On the router's disk: not sent yet, or not shown by Langfuse yet."""
    aside: int
    """On the router's disk, since Langfuse refuses them."""
    erased: int
    """On somebody's word, of a person."""
    missing: tuple[str, ...]
    """Numbers of the calls of which there is no trace and no reason."""

    @property
    def complete(self) -> bool:
        """Whether no call is missing."""
        return not self.missing

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self) | {"complete": self.complete}


def period(since: str | None, until: str | None) -> Period:
    """The period of two options: days or moments (ISO 8601, UTC where nothing else is said); the last day when left out.

    A day as the end is included whole.

    Raises:
        BadInputError: They are no times, or the end is not after the beginning.
    """
    end = _moment(until, last=True) if until else datetime.now(UTC)
    start = _moment(since) if since else end - timedelta(days=1)
    if start >= end:
        raise BadInputError(
            f"The period ends ({end:%Y-%m-%d %H:%M}) before it begins ({start:%Y-%m-%d %H:%M})"
        )
    return Period(start, end)


def check(client: Client, wanted: Period) -> Completeness:
    """Hold the router's ledger of a period against the traces.

    Raises:
        NoRecordError: The stack has no router or no Langfuse.
        UnreachableError: The router's host does not answer.
        FreeholdError: Langfuse does not answer.
    """
    found = audit_host.of_router(
        client, "check", wanted.milliseconds, doing="holding the calls of the router against the traces"
    )
    return Completeness(
        since=wanted.since.isoformat(timespec="seconds"),
        until=wanted.until.isoformat(timespec="seconds"),
        calls=found["calls"],
        traces=found["traces"],
        waiting=found["waiting"],
        aside=found["aside"],
        erased=found["erased"],
        missing=tuple(found["missing"]),
    )


def _moment(text: str, *, last: bool = False) -> datetime:
    try:
        if len(text) == len("2026-01-31"):
            day = date.fromisoformat(text) + timedelta(days=last)
            return datetime(day.year, day.month, day.day, tzinfo=UTC)
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadInputError(
            f"{text!r} is no day and no moment", remedy="Write 2026-01-31, or 2026-01-31T12:00:00+01:00."
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
