"""``freehold audit``: the record of requests: whether it is whole, files of it for auditors, and the erasure of a person's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freehold.cli.console import ClientArgument, DebugOption, JsonOption, as_json, errors, out
from freehold.errors import BadInputError

app = typer.Typer(
    help="The record of requests to language models, which Langfuse keeps: check that it is whole, export it signed, "
    "erase what it holds of a person.",
    no_args_is_help=True,
)


FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="DAY",
        help="Beginning: a day (UTC) or a moment, as 2026-01-31 or 2026-01-31T12:00+01:00.",
    ),
]
ToOption = Annotated[
    str | None, typer.Option("--to", metavar="DAY", help="End; a day is included whole. Now when left out.")
]


@app.command()
def check(
    client: ClientArgument,
    since: FromOption = None,
    until: ToOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Hold the router's calls against the traces. Ends with 1 when a call is missing.

    The router writes each call into its ledger before anybody is asked. Without
    --from it looks at the last day. Calls that wait on the router for Langfuse, or
    that were erased on purpose, are counted and not missing.

    Example: freehold audit check acme --from 2026-11-01 --to 2026-11-30
    """
    from freehold.run import audit_check
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=json):
        found = audit_check.check(Client.open(client), audit_check.period(since, until))
        if json:
            as_json(found.as_dict())
        else:
            show = {"calls": found.calls, "traces": found.traces, "waiting": found.waiting}
            show |= {"set aside": found.aside, "erased": found.erased, "missing": len(found.missing)}
            for name, count in show.items():
                out.print(f"{name:<10} {count:>8}", highlight=False, markup=False)
            for identifier in found.missing[:20]:
                out.print(f"missing: {identifier}", highlight=False, markup=False)
        if not found.complete:
            raise typer.Exit(1)


@app.command()
def export(
    client: ClientArgument,
    folder: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder that is made.")],
    since: FromOption = None,
    until: ToOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the traces of a period as files, with a manifest, signed with the client's key.

    A file per day (UTC), a line of JSON per trace; without --from, the last day. The
    manifest says too whether all calls of the router are in it. The files hold what
    people wrote: keep them as such.

    Example: freehold audit export acme --from 2026-11-01 --to 2026-11-30 --out november
    """
    from freehold.run import audit_check, audit_export
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=json):
        found = audit_export.export(Client.open(client), audit_check.period(since, until), folder)
        if json:
            as_json(
                {
                    "folder": str(found.folder),
                    "traces": found.traces,
                    "files": found.files,
                    "fingerprint": found.fingerprint,
                    "completeness": found.completeness.as_dict(),
                }
            )
            return
        out.print(f"{found.traces} traces in {found.files} files in {folder}", highlight=False, markup=False)
        out.print(f"Signed with the key {found.fingerprint}", highlight=False, markup=False)
        if missing := len(found.completeness.missing):
            out.print(
                f"{missing} calls of the router are not among the traces.", highlight=False, markup=False
            )


@app.command()
def verify(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A folder that `freehold audit export` has written.")
    ],
    key: Annotated[
        str | None,
        typer.Option(
            "--key", metavar="KEY", help="The key that must have signed it: a PEM file or a fingerprint."
        ),
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Check an export: no file changed, none missing, none added. Asks no host.

    Without --key the folder's own key is taken, which does not prove who signed it:
    inventory/<client>/signing-key.pem is the client's.

    Example: freehold audit verify november --key inventory/acme/signing-key.pem
    """
    from freehold.run import audit_export

    with errors(debug=debug, as_json_lines=json):
        trusted = Path(key).read_bytes() if key and Path(key).is_file() else key
        found, manifest = audit_export.verify(folder, trusted)
        if json:
            as_json({"fingerprint": found.fingerprint, "known": found.known, "manifest": manifest})
            return
        words = f"{manifest['client']}, {manifest['from']} to {manifest['to']}: {manifest['traces']} traces"
        out.print(
            f"{words}, as they were signed with the key {found.fingerprint}", highlight=False, markup=False
        )
        if not found.known:
            out.print("Whose key it is was not checked: give it with --key.", highlight=False, markup=False)


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

    Traces go with their observations, scores and media, and what waits on the router
    for Langfuse goes too; the router's ledger keeps that they were erased. Raw uploads stay
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
        if not found.traces and not found.waiting:
            if json:
                as_json({"erased": False, **found.as_dict()})
            else:
                out.print(f"{client} has no traces of {user}.", highlight=False, markup=False)
            return
        if not json:
            out.print(
                f"{found.traces} traces of {user} with {found.observations} observations will be erased,"
                f" and {found.waiting} records that wait on the router.",
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
            out.print(
                f"{erased.traces} traces of {user} are erased, and {erased.waiting} records on the router.",
                highlight=False,
                markup=False,
            )
