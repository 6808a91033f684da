"""``freehold users``: who has an account where, and the first passwords to hand over."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from freehold.cli.console import ClientArgument, DebugOption, JsonOption, as_json, err, errors, show_table

app = typer.Typer(
    help="A client's people: accounts follow the users of its stack file.",
    no_args_is_help=True,
)


@app.command()
def show(
    client: ClientArgument,
    mail: Annotated[
        str | None,
        typer.Argument(
            metavar="MAIL", help="Mail address of one person: shows the first password to hand over."
        ),
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show people and their applications; with a mail address, what this person needs to log in.

    Example: freehold users show acme ada@acme.example
    """
    from freehold.run import users
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=json):
        opened = Client.open(client)
        if mail is not None:
            one = users.account(opened, mail)
            if json:
                as_json(one.as_dict())
                return
            typer.echo(f"Name             {one.name}")
            typer.echo(f"Login            {one.mail}")
            typer.echo(f"First password   {one.password}")
            for title, address in one.applications.items():
                typer.echo(f"{title:<16} {address}")
            if not one.applications:
                err.print("No application of this stack makes accounts of its users.")
            return
        people = users.accounts(opened)
        if json:
            as_json([person.as_dict() for person in people])
            return
        table = Table("Name", "Login", "Groups", "Administrator", "Applications", box=None)
        for person in people:
            table.add_row(
                person.name,
                person.mail,
                ", ".join(person.groups),
                "yes" if person.admin else "",
                ", ".join(person.applications),
            )
        if people:
            show_table(table)
        else:
            err.print(f"{opened.stack.client} has no users: list them under users in {opened.loaded.path}.")
