"""Tasks with UPIDs, logs and exit status (part of a stand-in of Proxmox VE, for development).

Each task is a thread; its log is a file, and the list of tasks is one JSON file, so that both survive a killed process. A
task that ran when the process was killed ends with ``unexpected status``, as on a node that lost its worker.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from freehold.lab.answers import PveError
from freehold.lab.backend import BackendError, Log
from freehold.vault import write_private

KEPT = 2000
"""Finished tasks that stay in the list; older ones go with their logs."""


class InterruptedTaskError(BackendError):
    """Somebody stopped the task (``DELETE /nodes/{node}/tasks/{upid}``)."""

    def __init__(self) -> None:
        super().__init__("received interrupt")


@dataclass
class Task:
    """One task as the task list tells it; ``status`` is ``None`` while it runs."""

    upid: str
    node: str
    pid: int
    pstart: int
    starttime: int
    type: str
    id: str
    user: str
    status: str | None = None
    endtime: int | None = None

    @property
    def running(self) -> bool:
        """Whether the task has not ended yet."""
        return self.status is None


Work = Callable[[Log], None]


class Tasks:
    """The task engine of one node."""

    def __init__(self, directory: Path, node: str) -> None:
        self.directory = directory
        self.node = node
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.RLock()
        self._file = directory / "tasks.json"
        self._serial = os.getpid() * 16 % 0x3FFFFF
        self._stopping: set[str] = set()
        self._threads: dict[str, threading.Thread] = {}
        stored = json.loads(self._file.read_text("utf-8")) if self._file.exists() else []
        self._tasks: dict[str, Task] = {entry["upid"]: Task(**entry) for entry in stored}
        self.lost = [task for task in self._tasks.values() if task.running]
        """Tasks that were running when the process before this one ended."""
        for task in self.lost:
            self._finish(task, "unexpected status")

    def start(self, kind: str, ident: str, user: str, work: Work) -> str:
        """Run ``work`` in a thread of its own and answer with its UPID at once."""
        with self._lock:
            self._serial += 1
            now, started = int(time.time()), int(time.monotonic() * 100)
            name = urllib.parse.quote(ident, safe="@._-!")
            upid = f"UPID:{self.node}:{self._serial:08X}:{started:08X}:{now:08X}:{kind}:{name}:{user}:"
            task = Task(upid, self.node, self._serial, started, now, kind, ident, user)
            self._tasks[upid] = task
            self._log_file(upid).touch(mode=0o600)
            self._save()
            thread = threading.Thread(target=self._run, args=(task, work), name=upid, daemon=True)
            self._threads[upid] = thread
        thread.start()
        return upid

    def _run(self, task: Task, work: Work) -> None:
        warnings = 0

        def log(line: str) -> None:
            nonlocal warnings
            if task.upid in self._stopping:
                raise InterruptedTaskError
            warnings += line.startswith("WARN:")
            self._append(task.upid, line)

        try:
            work(log)
        except PveError as error:
            status = error.task_text()
        except BackendError as error:
            status = str(error)
        except Exception as error:  # noqa: BLE001 - a fault of the lab must end the task, not the thread
            status = f"{type(error).__name__}: {error}"
        else:
            status = f"WARNINGS: {warnings}" if warnings else "OK"
        self._finish(task, status)

    def _finish(self, task: Task, status: str) -> None:
        last = (
            f"TASK {status}" if status == "OK" or status.startswith("WARNINGS") else f"TASK ERROR: {status}"
        )
        self._append(task.upid, last)
        with self._lock:
            task.status, task.endtime = status.split("\n")[0], int(time.time())
            self._stopping.discard(task.upid)
            self._threads.pop(task.upid, None)
            self._save()

    def _append(self, upid: str, text: str) -> None:
        with self._log_file(upid).open("a", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in text.split("\n"))

    def _log_file(self, upid: str) -> Path:
        return self.directory / (urllib.parse.quote(upid, safe="@!:._-") + ".log")

    def _save(self) -> None:
        finished = [task for task in self._tasks.values() if not task.running]
        for task in finished[: max(0, len(finished) - KEPT)]:
            del self._tasks[task.upid]
            self._log_file(task.upid).unlink(missing_ok=True)
        write_private(self._file, json.dumps([asdict(task) for task in self._tasks.values()]).encode())

    def get(self, upid: str) -> Task | None:
        """A task by its UPID."""
        return self._tasks.get(upid)

    def all(self) -> list[Task]:
        """All known tasks, newest first."""
        with self._lock:
            return list(reversed(self._tasks.values()))

    def log_lines(self, upid: str) -> list[str] | None:
        """All lines of a task's log, or ``None`` when there is none."""
        try:
            return self._log_file(upid).read_text("utf-8").split("\n")[:-1]
        except OSError:
            return None

    def stop(self, upid: str) -> None:
        """Stop a running task at its next line; one that has ended stays as it is."""
        with self._lock:
            if (task := self._tasks.get(upid)) and task.running:
                self._stopping.add(upid)

    def wait(self, upid: str, timeout: float | None = None) -> None:
        """Wait for the end of a task."""
        if thread := self._threads.get(upid):
            thread.join(timeout)


def owner_and_node(upid: str) -> tuple[str, str] | None:
    """``(user, node)`` of a well-formed UPID."""
    match = re.fullmatch(
        r"UPID:([a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?):[0-9A-Fa-f]{8}:[0-9A-Fa-f]{8,9}:[0-9A-Fa-f]{8}:[^:\s]+:[^:\s]*:([^:\s]+):",
        upid,
    )
    return (match[2], match[1]) if match else None
