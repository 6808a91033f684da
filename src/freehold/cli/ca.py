"""``freehold ca``: the root certificate for a client's computers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freehold.cli.console import ClientArgument, DebugOption, JsonOption, as_json, errors


def ca(
    client: ClientArgument,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="FOLDER", help="Where to write; `ca` in the client's folder when left out."
        ),
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the root certificate that computers must trust: for group policy, Intune, Firefox and others.

    It vouches for the client's domain and for private addresses alone. docs/gateway.md says how each system takes it.

    Example: freehold ca acme --to /tmp/for-it
    """
    from freehold.run import ca as run_ca
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=json):
        made = run_ca.export(Client.open(client), to)
        if json:
            as_json(made.as_dict())
            return
        typer.echo(f"Certificate   {made.subject}, until {made.until}")
        typer.echo(f"SHA-256       {made.sha256}")
        typer.echo(f"SHA-1         {made.sha1}  (Windows: thumbprint)")
        for about, path in made.files.items():
            typer.echo(f"{path}  ({about})")
        name = Path(made.files["Windows, group policy, Intune"]).name
        typer.echo(f"One computer with Windows, as administrator: certutil -addstore -f Root {name}")
        typer.echo(
            "All of a domain: Group Policy, Computer Configuration > Policies > Windows Settings > Security Settings >"
            " Public Key Policies > Trusted Root Certification Authorities > Import."
        )
