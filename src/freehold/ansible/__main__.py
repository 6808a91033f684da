"""The child process: one request on standard input, events on standard output, Ansible's own output on standard error."""

from __future__ import annotations

import os
import signal
import sys

from pydantic import ValidationError

from freehold import resources
from freehold.ansible.request import Request
from freehold.masking import Masked
from freehold.parent import die_with_parent

EVENTS_DESCRIPTOR = "FREEHOLD_EVENTS_FD"
"""Tells the callback ``freehold.stack.events`` where its lines go."""


def main() -> int:
    """Read the request, run ``ansible-playbook`` in this process, and return its exit code."""
    die_with_parent(signal.SIGTERM)  # Ansible then ends its workers
    try:
        request = Request.model_validate_json(sys.stdin.buffer.read())
    except ValidationError as error:
        # without what was found there: it may be a secret
        for problem in error.errors(include_input=False, include_url=False, include_context=False):
            print(".".join(map(str, problem["loc"])) or "document", problem["msg"], sep=": ", file=sys.stderr)
        return 2
    _prepare_environment(events=_take_stdout())
    _hand_over(request)
    values = [str(value) for entries in request.secrets.values() for value in entries.values()]
    sys.stdout = Masked(sys.stdout, values)
    sys.stderr = Masked(sys.stderr, values)
    # Ansible reads its configuration when it is imported.
    from ansible.cli.playbook import PlaybookCLI

    try:
        PlaybookCLI.cli_executor(arguments(request))
    except SystemExit as stopped:
        return stopped.code if isinstance(stopped.code, int) else 1
    return 0


def arguments(request: Request) -> list[str]:
    """The command line of ``ansible-playbook``; it never holds a secret."""
    line = ["ansible-playbook", "--inventory", request.stack]
    if request.hosts:
        line += ["--limit", ",".join(request.hosts)]
    if request.tags:
        line += ["--tags", ",".join(request.tags)]
    if request.check:
        line.append("--check")
    if request.diff:
        line.append("--diff")
    if request.verbosity:
        line.append("-" + "v" * min(request.verbosity, 4))
    return [*line, request.playbook or str(resources.site_playbook())]


def _take_stdout() -> int:
    """Keep the real standard output for events and send all other output to standard error."""
    events = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return events


def _prepare_environment(events: int) -> None:
    # A user's own settings of Ansible must not decide how Freehold's run goes.
    for name in [name for name in os.environ if name.startswith("ANSIBLE_")]:
        del os.environ[name]
    os.environ |= {
        "ANSIBLE_CONFIG": str(resources.ansible_config()),
        "ANSIBLE_COLLECTIONS_PATH": str(resources.collections()),
        "ANSIBLE_CALLBACKS_ENABLED": "freehold.stack.events",
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
        EVENTS_DESCRIPTOR: str(events),
    }


def _hand_over(request: Request) -> None:
    from freehold import secrets
    from freehold.ansible import context

    secrets.handed = request.secrets
    context.current = context.Context(
        request.layout, request.ssh_config, frozenset(request.services) if request.services else None
    )


if __name__ == "__main__":
    sys.exit(main())
