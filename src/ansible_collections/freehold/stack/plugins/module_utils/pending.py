"""Handlers that are still to run on a host: they survive a run that was killed between a change and its handler.

Ansible keeps notifications in memory alone. A service whose file was replaced by a run that then died would go on with
the old file for good, because the next run finds nothing to change. So each change is noted on the host before it is
made, the next run notifies the handlers again, and the service's manifest, written last, clears the note.

A note without handlers says just that something was changed: ``freehold up`` then runs the role to its end even where
the stack is back to what the manifest records.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ansible_collections.freehold.stack.plugins.module_utils import kept

FOLDER = "/etc/freehold"
_NAME = "pending.json"


def _all(folder: str) -> dict[str, list[str]]:
    try:
        found = kept.read(Path(folder) / _NAME)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def read(folder: str, service: str) -> list[str]:
    """Names of the handlers that wait for the service."""
    return _all(folder).get(service, [])


def add(folder: str, service: str, handlers: Iterable[str]) -> None:
    """Note handlers of the service, before the change that they follow."""
    noted = _all(folder)
    wanted = sorted({*noted.get(service, []), *handlers})
    if service not in noted or wanted != noted[service]:
        kept.write(Path(folder) / _NAME, noted | {service: wanted})


def clear(folder: str, service: str) -> None:
    """Forget the handlers of the service: they ran."""
    noted = _all(folder)
    if noted.pop(service, None) is not None:
        kept.write(Path(folder) / _NAME, noted)
