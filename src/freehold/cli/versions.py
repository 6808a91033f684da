"""``freehold versions``: the one lock of everything that is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from freehold.cli.console import DebugOption, JsonOption, as_json, err, errors, out, show_table
from freehold.errors import BadInputError, ExitCode

app = typer.Typer(invoke_without_command=True)

ClientOption = Annotated[
    str | None,
    typer.Option(
        "--client",
        metavar="CLIENT",
        help="With this client's own versions.yml laid over.",
        show_default=False,
    ),
]


@app.callback()
def show(
    context: typer.Context,
    client: ClientOption = None,
    as_document: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show the versions that are installed, their source, licence and what pins them; `check` says what is newer.

    Example: freehold versions --client acme
    """
    if context.invoked_subcommand:
        return
    from freehold.catalog import versions

    with errors(debug=debug, as_json_lines=as_document):
        folder = _folder(client)
        found, own = versions.load(folder), versions.load()
        if as_document:
            as_json(
                {
                    name: entry.model_dump(mode="json", exclude_none=True)
                    | {"pinned": entry.pinned, "of_client": entry != own.get(name)}
                    for name, entry in found.items()
                }
            )
            return
        table = Table(box=None)
        for column in ("name", "version", "source", "licence", "pinned by"):
            table.add_column(column, no_wrap=column in {"name", "version", "source"})
        if client:
            table.add_column("of")
        for name, entry in sorted(found.items()):
            by = {
                "release": "sha256",
                "oci": "digest",
                "pypi": entry.lock,
                "npm": entry.lock,
                "debian": f"Debian {entry.suite or ''}".strip(),
            }[entry.source]
            row: list[str | Text] = [name, entry.version, entry.source, entry.licence]
            row.append(Text(str(by)) if entry.pinned else Text("no checksum yet", style="yellow"))
            if client:
                row.append("" if entry == own.get(name) else client)
            table.add_row(*row)
        show_table(table)
        if unknown := [name for name, entry in sorted(found.items()) if not entry.pinned]:
            out.print(
                f"Not installed before their checksum is known: {', '.join(unknown)}. freehold versions lock NAME",
                highlight=False,
            )


@app.command()
def check(client: ClientOption = None, as_document: JsonOption = False, debug: DebugOption = False) -> None:
    """Say what is newer upstream; changes nothing.

    Asks PyPI, npm, Debian's archive, GitHub and registries of images.
    Ends with 3 when something is newer, and with 1 when nobody answered.

    Example: freehold versions check
    """
    from freehold.catalog import versions
    from freehold.upstream import newer

    with errors(debug=debug, as_json_lines=as_document):
        with err.status("asking upstream"):
            answers = newer.check(versions.load(_folder(client)))
        if as_document:
            as_json([answer.as_dict() for answer in answers])
        else:
            table = Table(box=None)
            for column in ("name", "version", "upstream"):
                table.add_column(column, no_wrap=column != "upstream")
            for answer in answers:
                if answer.problem:
                    said = Text(f"not known: {answer.problem}", style="dim")
                else:
                    said = Text(str(answer.newest), style="yellow" if answer.newer else "green")
                table.add_row(answer.name, answer.version, said)
            show_table(table)
        if answers and all(answer.problem for answer in answers):
            raise typer.Exit(int(ExitCode.FAILED))
        if any(answer.newer for answer in answers):
            raise typer.Exit(int(ExitCode.PENDING))


@app.command()
def lock(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of an entry, such as qdrant.", show_default=False)
    ],
    version: Annotated[
        str | None, typer.Option("--version", metavar="VERSION", help="Another version than the lock's.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Its address, where the version alone does not give it."),
    ] = None,
    client: Annotated[
        str | None,
        typer.Option(
            "--client",
            metavar="CLIENT",
            help="Write into this client's own versions.yml.",
            show_default=False,
        ),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Find the checksum of a release or an image upstream, and write it into the lock.

    Reads the file once, whole; from then on nothing else is installed.
    Compare the sum with what upstream publishes.

    Example: freehold versions lock qdrant --version 1.19.1
    """
    from freehold import resources
    from freehold.catalog import versions
    from freehold.cli.mirror import mib
    from freehold.upstream.lock import lock as find

    with errors(debug=debug):
        folder = _folder(client)
        file = folder / versions.OVERLAY if folder else resources.versions()
        if folder is None and resources.versions().parent.name == "data":
            raise BadInputError(
                "The lock of an installed Freehold is not to be changed",
                where=str(file),
                remedy="Write the version into a client's own lock: --client CLIENT.",
            )
        known = versions.load(folder)
        if name not in known:
            versions.artifact(name, folder)  # says which there are
        with err.status("reading it") as spinner:
            values = find(
                name,
                known[name],
                file,
                version=version,
                url=url,
                report=lambda count: spinner.update(f"reading it: {mib(count)}"),
            )
        for key, value in values.items():
            out.print(f"{name}.{key}: {value}", highlight=False, markup=False)


def _folder(client: str | None) -> Path | None:
    if client is None:
        return None
    from freehold.schema.load import load_stack

    return load_stack(client).directory
