"""Engines as child processes: one JSON document in, one event per line out, everything else into a log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from freehold.errors import FreeholdError
from freehold.events import Event

_SECRET_NAMES = ("FREEHOLD_VAULT_KEY",)
_GRACE = 10


class EngineError(FreeholdError):
    """An engine stopped without saying why; its log does."""


def run(
    module: str,
    document: dict[str, Any],
    *,
    on_event: Callable[[Event], None],
    log: Path,
    echo: bool = False,
) -> int:
    """Run ``python -m <module>`` with ``document`` on its standard input; returns its exit code.

    Args:
        module: ``freehold.pyinfra`` or ``freehold.ansible``.
        document: What the engine reads; it may hold secrets, and never touches a disk, an argument or an environment.
        on_event: Called for each event, in order.
        log: File (0600) that takes the engine's own output.
        echo: Whether the engine's own output is also written to standard error (``-v``).

    Raises:
        EngineError: The engine wrote something that is no event.
        KeyboardInterrupt: After the engine was stopped.
    """
    with _log_file(log) as sink:
        child = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if echo else sink,
            env=_environment(),
            start_new_session=True,
        )
        pump = _echo(child, sink) if echo else None
        try:
            assert child.stdin is not None
            try:
                with child.stdin:
                    child.stdin.write(json.dumps(document).encode())
            except BrokenPipeError:
                pass  # the child died at once: its exit code and its log say why
            for event in _events(child, log):
                on_event(event)
            return child.wait()
        except BaseException:
            _stop(child)
            raise
        finally:
            if pump is not None:
                pump.join(timeout=5)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _SECRET_NAMES}


@contextmanager
def _log_file(path: Path) -> Iterator[int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _echo(child: subprocess.Popen[bytes], sink: int) -> Any:
    import threading

    def copy() -> None:
        assert child.stderr is not None
        for line in child.stderr:
            os.write(sink, line)
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread


def _events(child: subprocess.Popen[bytes], log: Path) -> Iterator[Event]:
    assert child.stdout is not None
    for line in child.stdout:
        if not line.strip():
            continue
        try:
            yield Event.model_validate_json(line)
        except ValidationError as error:
            raise EngineError(
                "An engine wrote a line that is no event",
                answer=line.decode(errors="replace")[:500],
                where=str(log),
                remedy="This is a fault in Freehold: report it with the log. The same command, run again, goes on.",
            ) from error


def _stop(child: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        try:
            child.wait(timeout=_GRACE)
        except subprocess.TimeoutExpired:
            continue
        break
    # Forks of the engine that outlive it would go on working on hosts.
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
