"""``freehold secrets``: show, set, rotate, rekey."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from freehold.cli.console import ClientArgument, DebugOption, err, errors, out
from freehold.errors import BadInputError

app = typer.Typer(
    help="A client's secrets: kept in inventory/<client>/secrets.yml, encrypted with Ansible Vault.",
    no_args_is_help=True,
)


@app.command()
def show(
    client: ClientArgument,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Name, such as openwebui.admin_password; without it, all names."),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Print one secret, or the names of all.

    Example: freehold secrets show acme openwebui.admin_password
    """
    from freehold.run.context import Client

    with errors(debug=debug):
        secrets = Client.open(client).secrets
        if name is None:
            names = sorted(secrets.all_values())
            for known in names:
                typer.echo(known)
            if not names:
                err.print(
                    f"{client} has no secrets yet: freehold prepare and freehold up make them.",
                    highlight=False,
                )
            return
        typer.echo(secrets.get(name))


@app.command()
def rotate(
    client: ClientArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name, such as postgres.superuser_password.")],
    debug: DebugOption = False,
) -> None:
    """Make one secret anew. The services get it with the next `freehold up`.

    Example: freehold secrets rotate acme openwebui.admin_password
    """
    from freehold.run.context import TOKEN_SECRET, Client
    from freehold.secrets import SSH_KEY

    with errors(debug=debug):
        if name in {SSH_KEY, TOKEN_SECRET}:
            raise BadInputError(
                f"{name} is not made by a rotation alone: the hosts or the node must learn it first",
                remedy=f"For the API token: freehold prepare {client} --new-token",
            )
        Client.open(client).rotate_secret(name)
        out.print(f"{name} is new. Give it to the services with: freehold up {client}", highlight=False)


@app.command("set")
def set_(
    client: ClientArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name, such as openwebui.oidc_client_secret.")],
    debug: DebugOption = False,
) -> None:
    """Keep a secret that was made elsewhere, such as the one of an identity provider or a mail server.

    It is asked for without being shown, or read from standard input; never from the
    command line, which others can see. The services get it with the next `freehold up`.

    Example: freehold secrets set acme alertmanager.smtp_password < password.txt
    """
    from freehold.run.context import Client

    with errors(debug=debug):
        opened = Client.open(client)
        opened.check_settable(name)
        if sys.stdin.isatty():
            value = str(typer.prompt(name, hide_input=True, confirmation_prompt=True))
        else:
            value = sys.stdin.read()
            # A text of several lines, such as a key, ends with a newline of its own.
            value = value if "\n" in value.rstrip("\r\n") else value.rstrip("\r\n")
        if not value.strip():
            raise BadInputError("the secret is empty", doing="keeping a secret", where=name)
        opened.secrets.set(name, value)
        out.print(f"{name} is kept. Give it to the services with: freehold up {client}", highlight=False)


@app.command()
def rekey(
    client: ClientArgument,
    key_file: Annotated[Path, typer.Option("--new-key-file", help="File whose content is the new key.")],
    debug: DebugOption = False,
) -> None:
    """Encrypt the secrets, and the list of names that never leave, with another key.

    Freehold's own key file holds the new key from then on; a key that you keep elsewhere is yours to replace.

    Example: freehold secrets rekey acme --new-key-file new.key
    """
    from freehold.run import route_names
    from freehold.run.context import Client
    from freehold.vault import KEY_COMMAND, KEY_FILE, KEY_VALUE

    with errors(debug=debug):
        if not key_file.is_file():
            raise BadInputError(f"{key_file} does not exist", where=str(key_file))
        key = key_file.read_text(encoding="utf-8").strip()
        opened = Client.open(client)
        opened.secrets.rekey(key, opened.directory / route_names.FILE)
        out.print("The secrets are encrypted with the new key from now on.")
        given = next((name for name in (KEY_FILE, KEY_VALUE, KEY_COMMAND) if os.environ.get(name)), None)
        if given:
            out.print(
                f"{given} still gives the old one: bring the new key there.", style="yellow", highlight=False
            )
