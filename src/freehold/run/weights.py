"""The hosts that keep weights of language models, and how they are asked: templates/weights/weights.py.j2 answers there."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from freehold.errors import BadInputError, FreeholdError
from freehold.layout.types import Layout, ServicePlacement
from freehold.run.context import Client
from freehold.ssh import UnreachableError

ROLE = "weights"
_PROGRAM = ("/opt/weights/bin/python", "/etc/weights/weights.py")

Report = Callable[[Mapping[str, Any]], None]
"""Called with each step: ``state``, ``model``, ``bytes``, ``total``."""


class NoWeightsError(BadInputError):
    """The stack keeps no weights."""


class WeightsError(FreeholdError):
    """Weights could not be had, read or removed."""


def keepers(layout: Layout) -> list[ServicePlacement]:
    """The services that keep weights, one per node."""
    return [service for service in layout.services if service.role == ROLE]


def state(client: Client, keeper: ServicePlacement) -> dict[str, Any]:
    """What a node has: ``weights`` (the register), ``strays``, ``progress``, ``disk``.

    Raises:
        UnreachableError: The host does not answer.
        WeightsError: It cannot say.
    """
    return last(ask(client, keeper, ["state"]))


def required(client: Client) -> list[ServicePlacement]:
    """The services that keep weights.

    Raises:
        NoWeightsError: There is none.
    """
    found = keepers(client.whole_layout)
    if not found:
        raise NoWeightsError(
            f"No node keeps weights for {client.stack.client}",
            where=str(client.loaded.path),
            remedy="Name a language model for vLLM or SGLang under models, or add weights under services; then: freehold up"
            f" {client.stack.client}",
        )
    return found


def ask(
    client: Client,
    keeper: ServicePlacement,
    words: Sequence[str],
    *,
    as_root: bool = False,
    given: str | None = None,
) -> Iterator[dict[str, Any]]:
    """What the program on a host says, line by line.

    Args:
        client: The client.
        keeper: The service on that host.
        words: What is asked.
        as_root: Ask as root, who may start the unit; else as the user of the weights.
        given: Standard input.

    Raises:
        UnreachableError: The host does not answer.
        WeightsError: It refuses.
    """
    user = [] if as_root else ["runuser", "-u", ROLE, "--"]
    command = ["ssh", "-F", str(client.ssh().config), "-o", "BatchMode=yes", keeper.host]
    command.append(shlex.join([*user, *_PROGRAM, *words]))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(given or "")
        process.stdin.close()
        said = False
        for line in process.stdout:
            if line.startswith("{"):
                said = True
                yield json.loads(line)
        errors = process.stderr.read().strip()
    doing = f"asking {keeper.host} for its weights"
    if process.returncode == 255:
        raise UnreachableError(
            f"{keeper.host} does not answer over SSH",
            doing=doing,
            where=str(keeper.address),
            answer=errors,
            remedy=f"See what runs: freehold status {client.stack.client}; a client's first run makes this host"
            f" (freehold up {client.stack.client}). A fetch goes on without us; the same command follows it.",
        )
    if process.returncode and not (said and as_root):
        raise WeightsError(
            f"{keeper.host} cannot say what it has",
            doing=doing,
            where=keeper.host,
            answer=errors[-1000:],
            remedy=f"Bring it to what the stack wants: freehold up {client.stack.client} --only {keeper.name}",
        )


def told(lines: Iterable[dict[str, Any]], report: Report) -> Iterator[dict[str, Any]]:
    """The same lines; those on the way are reported."""
    for line in lines:
        if line.get("state") not in {"done", "failed"}:
            report(line)
        yield line


def last(lines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The last line, which is the result.

    Raises:
        WeightsError: There is none.
    """
    found: dict[str, Any] = {}
    for line in lines:
        found = line
    if not found:
        raise WeightsError("The host said nothing", remedy="Run the same command again with --debug.")
    return found
