"""Callback plugin: progress as JSON lines, for ``freehold up`` and for machines."""

from __future__ import annotations

import os
from typing import Any

from ansible.plugins.callback import CallbackBase

from freehold import secrets
from freehold.events import Event, Stage, Status

DOCUMENTATION = r"""
name: events
type: notification
short_description: Writes Freehold's events
description:
  - Writes one JSON line for each task and host to the file descriptor that C(FREEHOLD_EVENTS_FD) names, and is silent
    without it.
  - Results of tasks with C(no_log) are left out, and no line holds a secret of the client.
requirements:
  - the Python package freehold on the controller
"""

_LONGEST = 4000


class CallbackModule(CallbackBase):
    """Translates Ansible's callbacks to ``freehold.events``."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "freehold.stack.events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        descriptor = os.environ.get("FREEHOLD_EVENTS_FD", "")
        self.disabled = not descriptor.isdecimal()
        self._descriptor = int(descriptor) if descriptor.isdecimal() else -1

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A task begins on a host."""
        self._write(Status.STARTED, task, host)

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task is done."""
        self._finished(Status.CHANGED if result.is_changed() else Status.OK, result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """A task does not apply."""
        self._finished(Status.SKIPPED, result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task failed."""
        self._finished(Status.OK if ignore_errors else Status.FAILED, result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host does not answer."""
        self._finished(Status.FAILED, result)

    def v2_runner_retry(self, result: Any) -> None:
        """A task waits and is tried again."""
        attempt = f"attempt {result.result.get('attempts', '?')} of {result.result.get('retries', '?')}"
        self._write(Status.PROGRESS, result.task, result.host, message=attempt)

    def _finished(self, status: Status, result: Any) -> None:
        found = result.result
        data: dict[str, Any] = {}
        message = ""
        if status is Status.FAILED:
            message = _reason(found)
        elif found.get("diff") and not result.task.no_log:
            diff = _scrubbed(self._get_diff(found["diff"])).strip()[:_LONGEST]
            data |= {"diff": diff} if diff else {}
        self._write(status, result.task, result.host, message=message, data=data)

    def _write(
        self, status: Status, task: Any, host: Any, message: str = "", data: dict[str, Any] | None = None
    ) -> None:
        role = task._role.get_name().rpartition(".")[2] if task._role else ""
        event = Event(
            stage=Stage.SERVICES,
            status=status,
            step=_step(task),
            host=host.get_name(),
            message=_scrubbed(message)[:_LONGEST],
            data={**({"service": role} if role else {}), **(data or {})},
        )
        line = (event.line() + "\n").encode()
        while line:
            line = line[os.write(self._descriptor, line) :]


def _step(task: Any) -> str:
    # Ansible puts this task before a role and names it in a paragraph.
    if str(task.action).endswith("validate_argument_spec"):
        return "Check the role's variables"
    return str(task.name or task.action)


def _reason(result: dict[str, Any]) -> str:
    if result.get("censored"):
        return "its output is hidden because it may hold secrets"
    parts = [result.get("msg"), result.get("stderr") or result.get("module_stderr")]
    failed = [item for item in result.get("results", []) if item.get("failed")]
    parts += [_reason(item) for item in failed]
    return "\n".join(str(part).strip() for part in parts if part)


def _scrubbed(text: str) -> str:
    for entries in (secrets.handed or {}).values():
        for value in entries.values():
            if value:
                text = text.replace(str(value), "********")
    return text
