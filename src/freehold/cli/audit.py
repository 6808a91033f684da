"""``freehold audit``: what the record of requests holds of a person, and its erasure."""

from __future__ import annotations

from typing import Annotated

import typer

from freehold.cli.console import ClientArgument, DebugOption, JsonOption, as_json, errors, out
from freehold.errors import BadInputError

app = typer.Typer(
    help="The record of requests to language models, which Langfuse keeps; erase what it holds of a person.",
    no_args_is_help=True,
)


@app.callback()
def _audit() -> None:
    """A group of commands, also while it has one."""


@app.command()
def erase(
    client: ClientArgument,
    user: Annotated[
        str,
        typer.Option(
            "--user", metavar="ID", help="The person, as traces name it: for the chat, the mail address."
        ),
    ],
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", metavar="ID", help="The same again, instead of asking for it."),
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Erase all traces of a person. Shows how many there are and asks; nothing brings them back.

    Traces go with their observations, scores and media. Raw uploads of traces stay
    until their bucket's retention ends, 30 days at most. What applications keep
    themselves, such as chats, is not touched. With --json it asks nothing and wants
    --confirm. Ends with 1 when something is left after ten minutes.

    Example: freehold audit erase acme --user ada@acme.example
    """
    from freehold.run import audit
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=json):
        opened = Client.open(client)
        found = audit.count(opened, user)
        if not found.traces:
            if json:
                as_json({"erased": False, **found.as_dict()})
            else:
                out.print(f"{client} has no traces of {user}.", highlight=False, markup=False)
            return
        if not json:
            out.print(
                f"{found.traces} traces of {user} with {found.observations} observations will be erased.",
                highlight=False,
                markup=False,
            )
        if confirm is None and not json:
            confirm = typer.prompt("To erase them, type who it is about")
        if confirm != user:
            raise BadInputError(
                f"{confirm!r} is not {user!r}; nothing was touched"
                if confirm is not None
                else "Nothing was touched: nobody confirmed",
                remedy=f"To confirm without being asked: --confirm {user}",
            )
        erased = audit.erase(opened, user)
        if json:
            as_json({"erased": True, **erased.as_dict()})
        else:
            out.print(f"{erased.traces} traces of {user} are erased.", highlight=False, markup=False)
