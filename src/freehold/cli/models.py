"""``freehold models``: the language models of the catalogue, and their weights on the client's nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from freehold.cli.console import (
    ClientArgument,
    DebugOption,
    JsonOption,
    as_json,
    err,
    errors,
    out,
    show_table,
)
from freehold.cli.mirror import mib
from freehold.errors import BadInputError, ExitCode

if TYPE_CHECKING:
    from freehold.run.models import Listed
    from freehold.run.weights import Report

app = typer.Typer(
    help="Language models: what the catalogue has, and their weights on the client's nodes.",
    no_args_is_help=True,
)

NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL", help="Language models by id; those of the stack when left out.", show_default=False
    ),
]
QuantizationOption = Annotated[
    str | None,
    typer.Option(
        "--quantization", metavar="FORM", help="Form of the weights; else the stack's, or the best one."
    ),
]

_STATES = {
    "ready": "green",
    "engine": "green",
    "fetching": "yellow",
    "incomplete": "red",
    "missing": "yellow",
}
_WORDS = {"engine": "kept by its engine", "missing": "not fetched yet"}


@app.command("list")
def list_(
    client: ClientArgument,
    used: Annotated[bool, typer.Option("--used", help="Those alone that the stack uses.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show language models: those that the stack uses first, then what else the catalogue has.

    The state is that of the weights on the nodes: ready (fetched, checked, scanned),
    incomplete (a file is gone: fetch again), fetching, not fetched yet. Entries of
    models.yml in the client's folder are shown with the catalogue's own.

    Example: freehold models list acme --used
    """
    from freehold.run import models
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=json):
        listed, problem = models.listing(Client.open(client), used_only=used)
        if json:
            as_json({"models": [one.as_dict() for one in listed], "problem": problem})
            return
        mine = [one for one in listed if one.engines]
        _table(mine, served=True)
        if others := [one for one in listed if not one.engines]:
            if mine:
                out.print("\nWhat else the catalogue has:\n")
            # Weights that lie there although nothing uses them have a state worth showing.
            _table(others, served=any(one.state for one in others))
        if problem:
            err.print(
                f"The nodes could not be asked what they have: {problem}", highlight=False, markup=False
            )


def _table(rows: Sequence[Listed], *, served: bool) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("id", "form", "size", "licence", *(("served by", "state") if served else ())):
        table.add_column(
            column,
            no_wrap=column != "state" and (column != "licence" or not served),
            min_width=11 if column in {"licence", "state"} else None,
            justify="right" if column == "size" else "left",
        )
    for one in rows:
        cells = (
            Text(one.id, style="bold" if one.engines else ""),
            one.quantization,
            mib(one.size) if one.size else "unknown",
            one.licence or "unknown",
            ", ".join(one.engines),
            Text(_WORDS.get(one.state, one.state), style=_STATES.get(one.state, "")),
        )
        table.add_row(*cells[: len(table.columns)])
    if rows:
        show_table(table)


@app.command()
def fetch(
    client: ClientArgument,
    names: NamesArgument = None,
    quantization: QuantizationOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Fetch weights onto the nodes, check and scan every file, and lock what was learned.

    A stack's weights are fetched by `freehold up` anyhow; this fetches them before, or
    others to try. It goes on where it was cut off, and when this command is stopped
    the node goes on alone. Revisions and checksums that nobody knew before are written
    to models.lock.yml in the client's folder: from then on nothing else is taken.

    Example: freehold models fetch acme qwen3-32b --quantization awq
    """
    from freehold.run import models
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=json):
        opened = Client.open(client)
        wanted = models.request(opened, names or (), quantization)
        with _progress(show=not json) as report:
            results = models.fetch(opened, wanted, report)
        if json:
            as_json(results)
            return
        for one in results:
            done = "fetched" if one["fetched"] else "was there"
            out.print(
                f"{one['id']} ({one['quantization']}) {done} on {one['host']}: {mib(one['size'])}, {one['path']}",
                highlight=False,
                markup=False,
            )
            for asked in one["asks_for_code"]:
                err.print(
                    f"It asks for a program of its own, which engines do not run: {asked}",
                    highlight=False,
                    markup=False,
                )


@app.command()
def lock(
    client: ClientArgument,
    names: NamesArgument = None,
    quantization: QuantizationOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Lock revisions and checksums of weights as the hub names them, without fetching the weights.

    Needed before a mirror can hold them; the first fetch from the hub does it anyhow.
    Asks from this machine; HF_TOKEN is shown to the hub for repositories that want it.

    Example: freehold models lock acme
    """
    from freehold.run import models, models_lock
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=json):
        opened = Client.open(client)
        wanted = models.request(opened, names or (), quantization)
        with err.status("asking the hub") as spinner:
            learned = models_lock.look_up(opened, wanted, lambda name: spinner.update(f"reading {name}"))
        if json:
            as_json({"locked": learned})
        else:
            out.print(
                f"Locked: {', '.join(learned)}" if learned else "Everything was known.",
                highlight=False,
                markup=False,
            )


@app.command()
def verify(
    client: ClientArgument,
    name: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="One language model; all when left out.", show_default=False),
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Read every file of the weights again and hold it against its checksum.

    What is damaged is removed, so that `freehold models fetch` brings that file back;
    an engine that has it open keeps it until it is started anew. Takes minutes for
    large language models. Ends with 1 when something is damaged.

    Example: freehold models verify acme
    """
    from freehold.run import models
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=json):
        opened = Client.open(client)
        with _progress(show=not json) as report:
            damaged = models.verify(opened, name, report)
        if json:
            as_json({"damaged": damaged})
        else:
            for one in damaged:
                out.print(
                    f"{one['host']}: {one['path']}/{one['file']} {one['what']}", highlight=False, markup=False
                )
            out.print(
                f"To bring {'it' if len(damaged) == 1 else 'them'} back: freehold models fetch {client}"
                if damaged
                else "All weights are as they should be.",
                highlight=False,
                markup=False,
            )
        if damaged:
            raise typer.Exit(int(ExitCode.FAILED))


@app.command()
def remove(
    client: ClientArgument,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A language model by id or repository; all that the stack does not use when left out.",
            show_default=False,
        ),
    ] = None,
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", metavar="CLIENT", help="The client's name, instead of asking for it."),
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Remove weights that the stack does not use, such as those of an older revision.

    Shows what goes and asks; they can be fetched again. What the stack uses is
    refused. With --json it asks nothing and wants --confirm.

    Example: freehold models remove acme qwen3-8b
    """
    from freehold.run import models
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=json):
        opened = Client.open(client)
        entries = models.removable(opened, name)
        own = opened.stack.client
        if not json:
            for one in entries:
                out.print(f"{one['host']}: {one['path']} ({mib(one['size'])})", highlight=False, markup=False)
        if entries:
            if confirm is None and not json:
                confirm = typer.prompt("To remove them, type the client's name")
            if confirm != own:
                raise BadInputError(
                    "Nothing was touched: nobody confirmed"
                    if confirm is None
                    else f"{confirm!r} is not {own!r}; nothing was touched",
                    remedy=f"To confirm without being asked: --confirm {own}",
                )
            models.remove(opened, entries)
        if json:
            as_json({"removed": [{key: one[key] for key in ("host", "path", "size")} for one in entries]})
        elif entries:
            out.print(f"Removed: {mib(sum(one['size'] for one in entries))}.", highlight=False)
        else:
            out.print("The stack uses all weights that are there.", highlight=False)


@contextmanager
def _progress(*, show: bool) -> Iterator[Report]:
    """A bar on standard error for the steps of a host."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        console=err,
        disable=not show,
        transient=True,
    ) as progress:
        task = progress.add_task("asking the nodes", total=None)

        def report(step: Mapping[str, Any]) -> None:
            words = f"{step['state']} {step.get('model', '')}".strip()
            if step.get("of_another"):
                words = f"another fetch goes first: {words}"
            progress.update(task, description=words, total=step.get("total"), completed=step.get("bytes", 0))

        yield report
