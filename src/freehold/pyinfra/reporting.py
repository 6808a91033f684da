"""pyinfra's callbacks as Freehold's events."""

# mypy: allow-subclassing-any, allow-untyped-decorators
from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gevent
from pyinfra.api import Host, State
from pyinfra.api.state import BaseStateCallback

from freehold.events import Event, Stage, Status

Emit = Callable[[Event], None]


_NOT_REACHED = "See whether the container runs and has its address; then run the command again."
_NOT_LET_IN = (
    "The container lets in another key than that of this client's secrets.yml: it was made from another copy of the client's "
    "folder. Bring its secrets.yml back, or remove the container with `freehold down` if nothing in it is needed."
)


class Reporter(BaseStateCallback):
    """Says what each operation began, did or failed at, per host, as soon as it is known."""

    def __init__(self, stage: Stage, emit: Emit) -> None:
        self._stage, self._send = stage, emit
        self._pending: list[gevent.Greenlet] = []
        self.changed: dict[str, int] = {}
        self.failed: set[str] = set()

    def emit(self, host: str, step: str, status: Status, message: str = "", **data: Any) -> None:
        """Write one event, and count it."""
        if status is Status.CHANGED:
            self.changed[host] = self.changed.get(host, 0) + 1
        elif status is Status.FAILED:
            self.failed.add(host)
        self._send(Event(stage=self._stage, status=status, step=step, host=host, message=message, data=data))

    def finish(self) -> None:
        """Wait for the results that are not written yet."""
        gevent.joinall(self._pending)

    # pyinfra declares these as static methods that it calls on the instance, and decides their arguments
    # ruff: noqa: ARG002
    def host_connect(self, state: State, host: Host) -> None:
        """A connection is made."""
        self.emit(name(host), "Connect", Status.OK)

    def host_connect_error(self, state: State, host: Host, error: Exception) -> None:
        """A host does not answer, shows a key that is not the pinned one, or does not let ours in."""
        self.emit(
            name(host),
            "Connect",
            Status.FAILED,
            str(error),
            error={
                "error": "UnreachableError",
                "message": f"{name(host)} cannot be reached",
                "doing": "connecting over SSH",
                "answer": str(error),
                "remedy": _NOT_LET_IN if "authentication" in str(error).lower() else _NOT_REACHED,
            },
        )

    def operation_host_start(self, state: State, host: Host, op_hash: str) -> None:
        """An operation begins; hosts that do not have it are passed over."""
        if op_hash in state.ops[host]:
            self.emit(name(host), step(state, op_hash), Status.STARTED)

    def operation_host_success(self, state: State, host: Host, op_hash: str, retry_count: int = 0) -> None:
        """An operation is done. Its result is set right after this call, so it is read in a greenlet of its own."""
        self._pending.append(gevent.spawn(self._result, state, host, op_hash))

    def operation_host_error(
        self, state: State, host: Host, op_hash: str, retry_count: int = 0, max_retries: int = 0
    ) -> None:
        """An operation failed; see :meth:`operation_host_success`."""
        self._pending.append(gevent.spawn(self._result, state, host, op_hash))

    def _result(self, state: State, host: Host, op_hash: str) -> None:
        meta = state.ops[host][op_hash].operation_meta
        title = step(state, op_hash)
        if meta.did_error():
            error = _error(meta.stderr_lines or meta.stdout_lines, title)
            self.emit(name(host), title, Status.FAILED, error.get("message", ""), error=error)
        elif meta.did_change():
            self.emit(name(host), title, Status.CHANGED, **_warnings(host, meta.stdout_lines))
        else:
            self.emit(name(host), title, Status.OK)


def name(host: Host) -> str:
    """The host's name in the layout."""
    return str(host.data.get("freehold_host") or host.name)


def step(state: State, op_hash: str) -> str:
    """The operation's name."""
    return ", ".join(sorted(state.get_op_meta(op_hash).names))


def _warnings(host: Host, lines: list[str]) -> dict[str, Any]:
    """What a task of the API warned of."""
    return {"warnings": lines} if lines and "@pve" in host.groups else {}


def _error(lines: list[str], title: str) -> dict[str, str]:
    """What a failed command said: an error of ours as it is, anything else as an answer."""
    if lines:
        try:
            error = json.loads(lines[-1])
        except ValueError:
            error = None
        if isinstance(error, dict) and "message" in error:
            return {str(key): str(value) for key, value in error.items()}
    answer = "\n".join(lines[-20:])
    return {
        "error": "OperationError",
        "message": lines[-1] if lines else f"{title} failed",
        "doing": title,
        "answer": answer,
        "remedy": "Read the answer, correct the cause, and run the command again: it goes on where it stopped.",
    }
