"""Events as a person or a machine wants to see them: a live table, plain lines, or JSON lines."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from freehold.cli.console import harmless
from freehold.events import Event, Stage, Status

_SHOWN = (
    Stage.NODE,
    Stage.CONTAINERS,
    Stage.ROOT_STEPS,
    Stage.START,
    Stage.BASE,
    Stage.SERVICES,
    Stage.PROOF,
)
_MARK = {
    Status.OK: ("ok", "green"),
    Status.CHANGED: ("changed", "yellow"),
    Status.SKIPPED: ("-", "dim"),
    Status.FAILED: ("failed", "bold red"),
}


class Renderer(AbstractContextManager["Renderer"]):
    """Takes the events of a run."""

    def __call__(self, event: Event) -> None:
        """Show one event."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class JsonRenderer(Renderer):
    """One JSON object per line on standard output."""

    def __call__(self, event: Event) -> None:
        sys.stdout.write(event.line() + "\n")
        sys.stdout.flush()


class PlainRenderer(Renderer):
    """One line per finished step, for logs and pipes. Steps that had nothing to do are left out unless verbose."""

    def __init__(self, console: Console, *, verbose: bool) -> None:
        self._console = console
        self._verbose = verbose
        self._began = time.monotonic()

    def __call__(self, event: Event) -> None:
        quiet = event.status in {Status.OK, Status.PROGRESS, Status.SKIPPED} and event.host
        if quiet and not self._verbose:
            return
        if event.status is Status.STARTED and event.host and not self._verbose:
            return
        clock = f"{time.monotonic() - self._began:7.1f}s"
        place = f" {event.host}" if event.host else ""
        tail = f": {event.message}" if event.message else ""
        self._console.print(
            harmless(f"{clock} [{event.stage}]{place} {event.status}: {event.step}{tail}"),
            markup=False,
            highlight=False,
        )


class LiveRenderer(Renderer):
    """A table of hosts and stages that follows the run, above it the stage that is under way."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._cells: dict[str, dict[Stage, Status]] = {}
        self._steps: dict[str, str] = {}
        self._spinner = Spinner("dots", text="starting")
        self._live = Live(self._picture(), console=console, refresh_per_second=8, transient=False)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spinner.update(text="" if kind is None else Text("stopped", style="red"))
        self._live.update(self._table(), refresh=True)
        self._live.__exit__(kind, error, trace)

    def __call__(self, event: Event) -> None:
        seconds = int(time.monotonic() - self._began)
        self._spinner.update(
            text=Text(
                f"{event.stage}: {event.host + ': ' if event.host else ''}{event.step}"
                f"  ({seconds // 60}:{seconds % 60:02d})"
            )
        )
        if event.host:
            cells = self._cells.setdefault(event.host, {})
            cells[event.stage] = _worse(cells.get(event.stage), event.status)
            self._steps[event.host] = event.step
        self._live.update(self._picture())

    def _picture(self) -> RenderableType:
        return Group(self._table(), self._spinner)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, show_edge=False)
        table.add_column("host", style="bold")
        for stage in _SHOWN:
            table.add_column(stage.value)
        for host, cells in self._cells.items():
            table.add_row(host, *(_cell(cells.get(stage)) for stage in _SHOWN))
        return table


_ORDER = (Status.STARTED, Status.PROGRESS, Status.SKIPPED, Status.OK, Status.CHANGED, Status.FAILED)


def _worse(old: Status | None, new: Status) -> Status:
    if old is None:
        return new
    return max(old, new, key=_ORDER.index)


def _cell(status: Status | None) -> Text:
    if status is None:
        return Text("")
    if status in {Status.STARTED, Status.PROGRESS}:
        return Text("...", style="cyan")
    text, style = _MARK[status]
    return Text(text, style=style)


def renderer(console: Console, *, json: bool, verbose: bool) -> Renderer:
    """The renderer that fits: JSON when asked for, a live table on a terminal, plain lines elsewhere."""
    if json:
        return JsonRenderer()
    if console.is_terminal and not verbose:
        return LiveRenderer(console)
    return PlainRenderer(console, verbose=verbose)
