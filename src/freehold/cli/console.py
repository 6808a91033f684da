"""What every command shares: the console, error panels, exit codes, the options that repeat."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from freehold.errors import BadInputError, ExitCode, FreeholdError

# No emoji: they would turn ":AB:" of a fingerprint into a picture.
out = Console(emoji=False)
if not out.is_terminal and "COLUMNS" not in os.environ:
    # Nobody looks at a screen: logs and other programs want whole lines.
    out.width = 10_000
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
        metavar="SERVICES",
        help="Take this service and what it needs, nothing else; commas separate several.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON for machines: one document, or one event per line.")
]
OfflineOption = Annotated[
    bool,
    typer.Option(
        "--offline", help="sources.mirror must have everything, and no way may lead out of the hosts."
    ),
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show every step and the engines' own output.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def harmless(text: str) -> str:
    """Text of a host without what a terminal would obey, such as escape sequences; lines and tabs stay."""
    return _CONTROLS.sub("", text)


def panel(error: FreeholdError) -> Panel:
    """One error as one panel: what went wrong, where, what answered, what to do next."""
    parts: list[Text] = [Text(harmless(error.message), style="bold")]
    for label, value in (("Where", error.where), ("While", error.doing), ("Answer", error.answer)):
        if value:
            parts.append(Text.assemble((f"{label}: ", "dim"), harmless(value)))
    if error.remedy:
        parts.append(Text.assemble(("\nRemedy: ", "bold green"), harmless(error.remedy)))
    title = "Nothing was touched" if error.exit_code is ExitCode.BAD_INPUT else "Failed"
    return Panel(Group(*parts), title=title, title_align="left", border_style="red", expand=False)


def show_table(table: Table) -> None:
    """Print a table; what is too long for its column goes on in the next line, and nothing is cut off."""
    for column in table.columns:
        column.overflow = "fold"
    out.print(table)


def as_json(data: Any) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(data, indent=2, sort_keys=True, default=str) + "\n")


@contextmanager
def errors(*, debug: bool = False, as_json_lines: bool = False) -> Iterator[None]:
    """Turn errors into a panel (or one JSON line) and the exit code that belongs to them."""
    try:
        yield
    except typer.Abort as error:
        if sys.stdin is not None and sys.stdin.isatty():
            raise _stopped() from error
        raise _failed(_NOBODY, debug=debug, as_json_lines=as_json_lines) from error
    except FreeholdError as error:
        raise _failed(error, debug=debug, as_json_lines=as_json_lines) from error
    except OSError as error:
        if error.filename is None:
            raise
        raise _failed(_of_system(error), debug=debug, as_json_lines=as_json_lines) from error
    except KeyboardInterrupt as error:
        raise _stopped() from error


_NOBODY = BadInputError(
    "There is a question, and nobody to answer it: standard input is not a terminal",
    remedy="Give the answer as an option; --help lists them.",
)


def _stopped() -> typer.Exit:
    err.print("\nStopped. What was done stays; run the same command again and it goes on from there.")
    return typer.Exit(130)


def _failed(error: FreeholdError, *, debug: bool, as_json_lines: bool) -> typer.Exit:
    if debug:
        err.print_exception()
    report(error, as_json_line=as_json_lines)
    return typer.Exit(int(error.exit_code))


def report(error: FreeholdError, *, as_json_line: bool) -> None:
    """Show an error: as a panel on standard error, or as one JSON line on standard output."""
    if as_json_line:
        sys.stdout.write(json.dumps(error.as_dict()) + "\n")
    else:
        err.print(panel(error))


def _of_system(error: OSError) -> FreeholdError:
    """What the operating system refuses: a file of another user, a full disk, a program that is not there."""
    remedy = None
    if isinstance(error, PermissionError):
        remedy = "Run the command as the user whom the file belongs to (what root made with sudo belongs to root), or give it to yourself with chown."
    elif isinstance(error, FileNotFoundError):
        remedy = "Is it the name of a program? Then install it."
    return FreeholdError(
        f"{error.filename}: {error.strerror or type(error).__name__}",
        where=str(error.filename),
        remedy=remedy,
    )
