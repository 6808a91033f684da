"""Programs of the audit trail on the hosts of a client, over SSH: JSON in, lines of JSON out."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from freehold import ssh
from freehold.errors import BadInputError, FreeholdError
from freehold.layout.types import ServicePlacement
from freehold.run.context import Client

LANGFUSE, ROUTER = "langfuse", "litellm"
_SHIPPER = "/etc/litellm/freehold_shipper.py"


class NoRecordError(BadInputError):
    """The stack keeps no record of requests."""


def service_of(client: Client, name: str) -> ServicePlacement:
    """The service that keeps the record, or its beginning.

    Raises:
        NoRecordError: The stack has none.
    """
    try:
        return client.whole_layout.service(name)
    except KeyError:
        raise NoRecordError(
            f"{client.stack.client} keeps no record of requests: its stack has no {name}",
            where=str(client.loaded.path),
            remedy=f"Add {name} under services to have one.",
        ) from None


def of_langfuse(
    client: Client, program: Path, given: Mapping[str, Any], *, doing: str, timeout: float
) -> list[str]:
    """Run a program of ours beside Langfuse, with its address and keys as ``url``, ``public_key`` and ``secret_key``.

    Raises:
        NoRecordError: The stack has no Langfuse.
        UnreachableError: Its host does not answer.
        FreeholdError: Langfuse refuses.
    """
    service = service_of(client, LANGFUSE)
    address = f"http://{service.address}:{service.ports['http']}"
    whole = {
        "url": address,
        "public_key": client.secrets.get(f"{LANGFUSE}.public_key"),
        "secret_key": client.secrets.get(f"{LANGFUSE}.secret_key"),
        **given,
    }
    command = ["python3", "-c", program.read_text(encoding="utf-8")]
    return _run(client, service, command, whole, "Langfuse refuses", address, doing, timeout)


def of_router(client: Client, what: str, given: Mapping[str, Any], *, doing: str) -> dict[str, Any]:
    """Ask the router's shipper: ``check``, ``count`` or ``erase``.

    Raises:
        NoRecordError: The stack has no router or no Langfuse.
        UnreachableError: The router's host does not answer.
        FreeholdError: The shipper is not there, or Langfuse does not answer it.
    """
    service_of(client, LANGFUSE)
    service = service_of(client, ROUTER)
    # As the user to whom the spool belongs: a file of root's in it would be in the way of the router.
    command = ["runuser", "-u", "litellm", "--", "/usr/bin/python3", _SHIPPER, what]
    lines = _run(client, service, command, given, "The router cannot tell", service.host, doing, 600)
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def _run(
    client: Client,
    service: ServicePlacement,
    command: Sequence[str],
    given: Mapping[str, Any],
    refusal: str,
    where: str,
    doing: str,
    timeout: float,
) -> list[str]:
    whole = ["ssh", "-F", str(client.ssh().config), "-o", "BatchMode=yes", service.host, shlex.join(command)]
    answer = ssh.run(whole, timeout=timeout, doing=doing, text=json.dumps(given))
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
            refusal,
            doing=doing,
            where=where,
            answer=answer.stderr.strip()[-1000:],
            remedy=f"See whether it is well: freehold verify {client.stack.client}",
        )
    # JSON may hold other marks of a line's end as they are.
    return [line for line in answer.stdout.split("\n") if line]
