"""``freehold audit``: what the record of requests holds of a person, and its erasure (GDPR, article 17)."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from freehold import ssh
from freehold.errors import BadInputError, FreeholdError
from freehold.run.context import Client

SERVICE = "langfuse"
_REMOTE = Path(__file__).with_name("audit_remote.py")
_PATIENCE = 600
"""Seconds that the erasure may take; Langfuse's worker does it in the background."""


class NoRecordError(BadInputError):
    """The stack keeps no record of requests."""


class NotErasedError(FreeholdError):
    """Langfuse did not erase everything."""


@dataclass(frozen=True)
class Record:
    """What is kept of one person."""

    user: str
    """The person, as applications name it to the router: for the chat, the mail address."""
    traces: int
    observations: int

    def as_dict(self) -> dict[str, Any]:
        """The record as plain data."""
        return asdict(self)


def count(client: Client, user: str) -> Record:
    """How much the record holds of a person.

    Raises:
        NoRecordError: The stack has no Langfuse.
        UnreachableError: Its host does not answer.
        FreeholdError: Langfuse refuses.
    """
    answer = _ask(client, user, erase=False)
    return Record(user, answer["traces"], answer["observations"])


def erase(client: Client, user: str) -> Record:
    """Erase all traces of a person, with their observations, scores and media, and wait until none is left; what was erased.

    Raises:
        NoRecordError: The stack has no Langfuse.
        UnreachableError: Its host does not answer.
        NotErasedError: After ten minutes something is left.
        FreeholdError: Langfuse refuses.
    """
    answer = _ask(client, user, erase=True)
    if answer["left"]:
        raise NotErasedError(
            f"{answer['left']} of {answer['traces']} traces are still there",
            doing=f"erasing the traces of {user}",
            where=SERVICE,
            remedy="Langfuse erases in the background: look at `journalctl -u langfuse-worker` on its host, and run this again.",
        )
    return Record(user, answer["traces"], answer["observations"])


def _ask(client: Client, user: str, *, erase: bool) -> dict[str, Any]:
    try:
        service = client.whole_layout.service(SERVICE)
    except KeyError:
        raise NoRecordError(
            f"{client.stack.client} keeps no record of requests: its stack has no {SERVICE}",
            where=str(client.loaded.path),
            remedy=f"Add {SERVICE} under services to have one.",
        ) from None
    address = f"http://{service.address}:{service.ports['http']}"
    given = {
        "url": address,
        "public_key": client.secrets.get(f"{SERVICE}.public_key"),
        "secret_key": client.secrets.get(f"{SERVICE}.secret_key"),
        "user": user,
        "erase": erase,
        "patience": _PATIENCE,
    }
    program = shlex.join(["python3", "-c", _REMOTE.read_text(encoding="utf-8")])
    command = ["ssh", "-F", str(client.ssh().config), "-o", "BatchMode=yes", service.host, program]
    doing = f"{'erasing' if erase else 'counting'} the traces of {user}"
    answer = ssh.run(command, timeout=_PATIENCE * 2, doing=doing, text=json.dumps(given))
    if answer.returncode == 255:
        raise ssh.UnreachableError(
            f"{service.host} does not answer over SSH",
            doing=doing,
            where=str(service.address),
            answer=answer.stderr.strip(),
            remedy=f"See what runs: freehold status {client.stack.client}",
        )
    if answer.returncode:
        raise FreeholdError(
            "Langfuse refuses",
            doing=doing,
            where=address,
            answer=answer.stderr.strip()[-1000:],
            remedy=f"See whether it is well: freehold verify {client.stack.client}",
        )
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found
