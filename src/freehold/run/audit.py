"""``freehold audit``: what the record of requests holds of a person, and its erasure (GDPR, article 17)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from freehold.errors import FreeholdError
from freehold.run import audit_host
from freehold.run.audit_host import NoRecordError
from freehold.run.context import Client

__all__ = ["NoRecordError", "NotErasedError", "Record", "count", "erase"]

_REMOTE = Path(__file__).with_name("audit_remote.py")
_PATIENCE = 600
"""Seconds that the erasure may take; Langfuse's worker does it in the background."""


class NotErasedError(FreeholdError):
    """Langfuse did not erase everything."""


@dataclass(frozen=True)
class Record:
    """What is kept of one person."""

    user: str
    """The person, as applications name it to the router: for the chat, the mail address."""
    traces: int
    observations: int
    waiting: int = 0
    """Records on the router that have not reached the traces yet, or that these do not show yet."""

    def as_dict(self) -> dict[str, Any]:
        """The record as plain data."""
        return asdict(self)


def count(client: Client, user: str) -> Record:
    """How much the record holds of a person.

    Raises:
        NoRecordError: The stack has no Langfuse.
        UnreachableError: A host does not answer.
        FreeholdError: Langfuse refuses.
    """
    found = _ask(client, user, erase=False)
    waiting = _of_router(client, "count", {"user": user}, f"counting the records of {user}")
    return Record(user, found["traces"], found["observations"], waiting.get("waiting", 0))


def erase(client: Client, user: str) -> Record:
    """Erase all traces of a person, with their observations, scores and media, and wait until none is left; what was erased.

    Records that wait on the router go first. The router's ledger keeps the calls' numbers, and that they were erased.

    Raises:
        NoRecordError: The stack has no Langfuse.
        UnreachableError: A host does not answer.
        NotErasedError: After ten minutes something is left.
        FreeholdError: Langfuse refuses.
    """
    known = _ask(client, user, erase=False)["ids"]
    router = _of_router(
        client, "erase", {"user": user, "traces": known}, f"erasing the waiting records of {user}"
    )
    answer = _ask(client, user, erase=True, also=router.get("sent", []))
    if answer["left"]:
        raise NotErasedError(
            f"{answer['left']} of {answer['traces']} traces are still there",
            doing=f"erasing the traces of {user}",
            where=audit_host.LANGFUSE,
            remedy="Langfuse erases in the background: look at `journalctl -u langfuse-worker` on its host, and run this again.",
        )
    waiting = router.get("removed", 0) + len(router.get("sent", []))
    return Record(user, len(known), answer["observations"], waiting)


def _of_router(client: Client, what: str, given: dict[str, Any], doing: str) -> dict[str, Any]:
    """What the router says; nothing where the stack has none, and Langfuse is fed by others."""
    try:
        audit_host.service_of(client, audit_host.ROUTER)
    except NoRecordError:
        return {}
    return audit_host.of_router(client, what, given, doing=doing)


def _ask(client: Client, user: str, *, erase: bool, also: list[str] | None = None) -> dict[str, Any]:
    given = {"user": user, "erase": erase, "patience": _PATIENCE, "also": also or []}
    doing = f"{'erasing' if erase else 'counting'} the traces of {user}"
    lines = audit_host.of_langfuse(client, _REMOTE, given, doing=doing, timeout=_PATIENCE * 2)
    found: dict[str, Any] = json.loads(lines[-1])
    return found
