"""A lock per client: one run that changes things at a time, from one controller."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from platformdirs import user_state_path

from freehold.errors import FreeholdError


class RunningError(FreeholdError):
    """Another run holds the client's lock."""


@contextmanager
def client_lock(
    client: str, *, doing: str = "changing the client", directory: Path | None = None
) -> Iterator[None]:
    """Hold the lock of a client.

    The kernel drops the lock with the process, so a killed run leaves none behind.

    Args:
        client: Name of the client.
        doing: What the run does, for the message that a second run gets.
        directory: Where lock files lie; the user's state directory when left out.

    Raises:
        RunningError: Another run holds it.
    """
    folder = directory or user_state_path("freehold") / "locks"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{client}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _running(client, path) from None
        note = {"pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds"), "doing": doing}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(note).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _running(client: str, path: Path) -> RunningError:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        holder = f"process {note['pid']}, since {note['since']} ({note['doing']})"
    except (OSError, ValueError, KeyError, TypeError):
        holder = "a process that has just begun"
    return RunningError(
        f"Another run works on client {client}.",
        answer=holder,
        where=str(path),
        remedy="Wait until it has ended. A run that was killed holds no lock.",
    )
