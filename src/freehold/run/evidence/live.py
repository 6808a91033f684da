"""What the node says of a stack while its evidence is written; what it does not say is named, and nothing is changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from freehold.errors import FreeholdError
from freehold.run import audit_check, gpus, plan, status
from freehold.run.context import Client
from freehold.run.evidence.known import Live

NOT_ASKED = "it was not asked (`--offline`)"
_HOSTS, _GPUS, _DRIFT = "the state of containers", "GPUs of the nodes", "how containers differ from the stack"
_RECORD = "whether the record of requests is whole"
_DAYS = 30
"""Over which the record is held against the router's calls."""


def offline(client: Client) -> Live:
    """Nothing, since nobody asked."""
    return _unread(client, NOT_ASKED)


def _unread(client: Client, why: str) -> Live:
    facts = (_HOSTS, _GPUS, _DRIFT, *((_RECORD,) if _recorded(client) else ()))
    return Live(unread=tuple((fact, why) for fact in facts))


def _recorded(client: Client) -> bool:
    return {"litellm", "langfuse"} <= {service.role for service in client.whole_layout.services}


def ask(client: Client) -> Live:
    """State of containers, GPUs and drift. A node that does not answer once is not asked again."""
    try:
        version = str(client.api.get("/version", doing="reading the version of Proxmox VE")["version"])
        hosts = tuple(state.as_dict() for state in status.status(client))
    except FreeholdError as error:
        return _unread(client, error.message)
    unread: list[tuple[str, str]] = []
    found: tuple[dict[str, Any], ...] | None = None
    drift: tuple[str, ...] | None = None
    try:
        found = tuple(row.as_dict() for row in gpus.rows(client))
    except FreeholdError as error:
        unread.append((_GPUS, error.message))
    try:
        made, _ = plan.plan(client, ask=found is not None)
        drift = tuple(
            f"{change.host}: {change.reason or ', '.join(diff.field for diff in change.diffs) or change.action.value}"
            for change in made.changes
            if change.actionable or change.diffs
        )
    except FreeholdError as error:
        unread.append((_DRIFT, error.message))
    record: dict[str, Any] | None = None
    if _recorded(client):
        try:
            since = (datetime.now(UTC) - timedelta(days=_DAYS)).date().isoformat()
            record = audit_check.check(client, audit_check.period(since, None)).as_dict()
        except FreeholdError as error:
            unread.append((_RECORD, error.message))
    return Live(version, hosts, found, tuple(gpus.complaints(client)), drift, record, tuple(unread))
