"""What every command shares: the console, error panels, exit codes, the options that repeat."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from freehold.errors import ExitCode, FreeholdError

# No emoji: they would turn ":AB:" of a fingerprint into a picture.
out = Console(emoji=False)
err = Console(stderr=True, emoji=False)

ClientArgument = Annotated[
    str,
    typer.Argument(
        metavar="CLIENT",
        help="A folder under inventory/ (such as lab), or the path of a stack file.",
        show_default=False,
    ),
]
OnlyOption = Annotated[
    str | None,
    typer.Option(
        "--only",
        metavar="SERVICE",
        help="Take this service and what it needs, nothing else.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON for machines: one document, or one event per line.")
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show every step and the engines' own output.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def panel(error: FreeholdError) -> Panel:
    """One error as one panel: what went wrong, where, what answered, what to do next."""
    parts: list[Text] = [Text(error.message, style="bold")]
    for label, value in (("Where", error.where), ("While", error.doing), ("Answer", error.answer)):
        if value:
            parts.append(Text.assemble((f"{label}: ", "dim"), value))
    if error.remedy:
        parts.append(Text.assemble(("\nRemedy: ", "bold green"), error.remedy))
    title = "Nothing was touched" if error.exit_code is ExitCode.BAD_INPUT else "Failed"
    return Panel(Group(*parts), title=title, title_align="left", border_style="red", expand=False)


def as_json(data: Any) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(data, indent=2, sort_keys=True, default=str) + "\n")


@contextmanager
def errors(*, debug: bool = False, as_json_lines: bool = False) -> Iterator[None]:
    """Turn errors into a panel (or one JSON line) and the exit code that belongs to them."""
    try:
        yield
    except FreeholdError as error:
        if debug:
            err.print_exception()
        if as_json_lines:
            sys.stdout.write(json.dumps(error.as_dict()) + "\n")
        else:
            err.print(panel(error))
        raise typer.Exit(int(error.exit_code)) from error
    except KeyboardInterrupt as error:
        err.print("\nStopped. What was done stays; run the same command again and it goes on from there.")
        raise typer.Exit(130) from error
