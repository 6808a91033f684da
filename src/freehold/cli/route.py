"""``freehold route``: what may leave the building, and why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

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
from freehold.errors import BadInputError, ExitCode

app = typer.Typer(
    help="Routing: which requests stay with local language models, which may go to a cloud provider, and why.",
    no_args_is_help=True,
)
names_app = typer.Typer(
    help="Names that must never leave: kept in inventory/<client>/names.yml, encrypted with Ansible Vault.",
    no_args_is_help=True,
)


@app.command()
def explain(
    client: ClientArgument,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="What is asked; - reads it from standard input.")
    ],
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="MAIL", help="Who asks; somebody who may use it when left out."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="What was chosen; the first cloud language model else."),
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show where a question would go, and why. Nothing is sent anywhere.

    Example: freehold route explain acme "Draft a reminder for invoice 4711" --user ada@acme.example
    """
    from freehold.run import route
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=json):
        asked = sys.stdin.read() if text == "-" else text
        told = route.explain(Client.open(client), asked, user=user, model=model)
        if json:
            as_json(told)
            return
        table = Table(box=None, show_header=False)
        table.add_row("Asked", f"{told['model_asked']} by {told['user'] or 'somebody who may use it'}")
        table.add_row("Route", told["route"])
        table.add_row("Answers", told["model"] or "nobody")
        table.add_row("Because", told["words"])
        if told["categories"]:
            table.add_row("Found", ", ".join(told["categories"]))
            table.add_row("By", ", ".join(told["detectors"]))
        if told["sticky"]:
            table.add_row("Then", "the rest of the conversation stays local")
        if told.get("unread"):
            table.add_row("But", told["unread"])
        show_table(table)


@app.command()
def cases(client: ClientArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Hold the cases of routing-cases.yml against the policy of the stack file, on this machine.

    `freehold verify` does the same on the router, by what is installed there. Exits with 1 when a case goes
    elsewhere than it must.

    Example: freehold route cases acme
    """
    from freehold.run import route
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=json):
        opened = Client.open(client)
        results = route.run_cases(opened)
        wrong = [result for result in results if result.difference]
        if json:
            as_json(
                [
                    {"name": r.case.name, "expect": r.case.expect, "ok": not r.difference, **r.told}
                    for r in results
                ]
            )
        elif not results:
            err.print(f"{opened.stack.client} has no cases: write them to {opened.directory / route.CASES}.")
        else:
            table = Table("Case", "Expected", "Goes", "Because", box=None)
            for result in results:
                told = result.told
                because = ", ".join(told["categories"]) or told["reason"]
                because += " (Presidio decides, on the router)" if told.get("unread") else ""
                style = "red" if result.difference else ""
                table.add_row(result.case.name, result.case.expect, told["route"], because, style=style)
            show_table(table)
            for result in wrong:
                err.print(f"{result.case.name}: {result.difference}", style="red", highlight=False)
        if wrong:
            raise typer.Exit(ExitCode.FAILED)


NamesArgument = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="Names, one a line; standard input when left out.")
]


@names_app.command("add")
def add(
    client: ClientArgument,
    file: NamesArgument = None,
    debug: DebugOption = False,
) -> None:
    """Add names, one a line. They are read from a file or from standard input, never from the command line.

    Example: freehold route names add acme clients.txt
    """
    from freehold.run import route_names
    from freehold.run.context import Client

    with errors(debug=debug):
        added = route_names.add(Client.open(client), _lines(file))
        out.print(f"{added} new names. Give them to the router with: freehold up {client}", highlight=False)


@names_app.command("remove")
def remove(
    client: ClientArgument,
    file: NamesArgument = None,
    debug: DebugOption = False,
) -> None:
    """Remove names, one a line.

    Example: freehold route names remove acme < former-clients.txt
    """
    from freehold.run import route_names
    from freehold.run.context import Client

    with errors(debug=debug):
        gone = route_names.remove(Client.open(client), _lines(file))
        out.print(f"{gone} names removed. Tell the router with: freehold up {client}", highlight=False)


@names_app.command("show")
def show(
    client: ClientArgument,
    all_: Annotated[bool, typer.Option("--all", help="Print the names themselves.")] = False,
    debug: DebugOption = False,
) -> None:
    """Say how many names there are; with --all, print them.

    Example: freehold route names show acme --all
    """
    from freehold.run import route_names
    from freehold.run.context import Client

    with errors(debug=debug):
        names = route_names.load(Client.open(client))
        if all_:
            for name in names:
                typer.echo(name)
        else:
            typer.echo(f"{len(names)} names")


def _lines(file: Path | None) -> list[str]:
    if file is not None and not file.is_file():
        raise BadInputError(f"{file} does not exist", where=str(file))
    text = file.read_text(encoding="utf-8") if file else sys.stdin.read()
    return [line for line in text.splitlines() if line.strip()]


app.add_typer(names_app, name="names")
