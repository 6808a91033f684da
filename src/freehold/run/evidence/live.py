"""What the node says of a stack while its evidence is written; what it does not say is named, and nothing is changed."""

from __future__ import annotations

from typing import Any

from freehold.errors import FreeholdError
from freehold.run import gpus, plan, status
from freehold.run.context import Client
from freehold.run.evidence.known import Live

NOT_ASKED = "it was not asked (`--offline`)"
_FACTS = ("the state of containers", "GPUs of the nodes", "how containers differ from the stack")


def offline() -> Live:
    """Nothing, since nobody asked."""
    return Live(unread=tuple((fact, NOT_ASKED) for fact in _FACTS))


def ask(client: Client) -> Live:
    """State of containers, GPUs and drift. A node that does not answer once is not asked again."""
    try:
        version = str(client.api.get("/version", doing="reading the version of Proxmox VE")["version"])
        hosts = tuple(state.as_dict() for state in status.status(client))
    except FreeholdError as error:
        return Live(unread=tuple((fact, _said(error)) for fact in _FACTS))
    unread: list[tuple[str, str]] = []
    found: tuple[dict[str, Any], ...] | None = None
    drift: tuple[str, ...] | None = None
    try:
        found = tuple(row.as_dict() for row in gpus.rows(client))
    except FreeholdError as error:
        unread.append((_FACTS[1], _said(error)))
    try:
        made, _ = plan.plan(client, ask=found is not None)
        drift = tuple(
            f"{change.host}: {change.reason or ', '.join(diff.field for diff in change.diffs) or change.action.value}"
            for change in made.changes
            if change.actionable or change.diffs
        )
    except FreeholdError as error:
        unread.append((_FACTS[2], _said(error)))
    return Live(version, hosts, found, tuple(gpus.complaints(client)), drift, tuple(unread))


def _said(error: FreeholdError) -> str:
    return error.message
