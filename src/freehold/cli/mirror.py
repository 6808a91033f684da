"""``freehold mirror``: one place that everything is downloaded from, on a disk of the client's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli.console import DebugOption, JsonOption, OnlyOption, as_json, err, errors, out
from freehold.errors import BadInputError, ExitCode, FreeholdError

if TYPE_CHECKING:
    from freehold.mirror.needs import Need

app = typer.Typer(
    help="Everything that stacks download, in one folder and from one address: sources.mirror of a stack.",
    no_args_is_help=True,
)

FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder of the mirror.", file_okay=False, show_default=False)
]


@app.command()
def build(
    folder: FolderArgument,
    clients: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CLIENT", help="Clients whose stacks it serves; all when left out.", show_default=False
        ),
    ] = None,
    only: OnlyOption = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Fetch nothing: read every file again and say what is damaged or lacking."
        ),
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove what these stacks do not need any more.")
    ] = False,
    debian: Annotated[
        str | None,
        typer.Option("--debian", metavar="URL", help="Debian's archive; else that of this machine's apt."),
    ] = None,
    debian_security: Annotated[
        str | None,
        typer.Option("--debian-security", metavar="URL", help="Debian's security archive, likewise."),
    ] = None,
    npm: Annotated[
        str | None,
        typer.Option(
            "--npm", metavar="URL", help="Registry of npm packages; else that of this machine's npm."
        ),
    ] = None,
    as_document: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Fill a mirror with what stacks download, each file by its checksum.

    Run again, it fetches only what changed; cut off, it goes on where it stopped.
    With --check it ends with 1 when a file is damaged (the next build fetches it
    again) and with 3 when something is lacking.

    Example: freehold mirror build /srv/mirror acme
    """
    from freehold.mirror import build as mirror
    from freehold.schema.load import clients as all_clients

    with errors(debug=debug, as_json_lines=as_document):
        names = clients or all_clients()
        if not names:
            raise BadInputError("There are no clients here", remedy="Name one, or run: freehold init")
        wanted = mirror.needs(names, only)
        if check:
            _check(folder, wanted, as_document)
            return
        _say_sizes(wanted)
        with err.status("filling the mirror") as spinner:
            step = ""

            def say(text: str, size: int) -> None:
                nonlocal step
                if not size:
                    step = text
                    err.print(text, style="dim", highlight=False, markup=False)
                spinner.update(step if not size else f"{step}: {Path(text).name} ({mib(size)})")

            done = mirror.build(
                folder,
                wanted,
                say,
                upstream=mirror.Upstream(debian, debian_security, npm),
                prune=prune,
            )
        if as_document:
            as_json(vars(done))
            return
        out.print(
            f"{folder} holds all {done.needs} things that {', '.join(names)} need: {done.files} files, {mib(done.size)}."
            f" Fetched now: {done.fetched} files, {mib(done.fetched_size)}."
            + (f" Removed: {done.removed} files." if prune else ""),
            highlight=False,
            markup=False,
        )


def _say_sizes(wanted: list[Need]) -> None:
    """Weights are large: name them before the first byte."""
    from freehold.mirror.needs import File

    sizes: dict[str, int] = {}
    for need in wanted:
        if isinstance(need, File) and need.size:
            what = need.title.rpartition(" of ")[2]
            sizes[what] = sizes.get(what, 0) + need.size
    for what, size in sorted(sizes.items()):
        err.print(f"weights of {what}: {mib(size)}", highlight=False, markup=False)


def _check(folder: Path, wanted: list[Need], as_document: bool) -> None:
    from freehold.mirror import build as mirror
    from freehold.mirror.index import Index

    damaged = mirror.check(folder)
    index = Index.read(folder)
    lacking = [need for need in wanted if need.key not in index.needs]
    if as_document:
        as_json(
            {
                "files": len(index.files),
                "damaged": [vars(one) for one in damaged],
                "lacking": [need.title for need in lacking],
            }
        )
    else:
        for one in damaged:
            out.print(f"{one.path} {one.what}", highlight=False, markup=False)
        for need in lacking:
            out.print(f"lacking: {need.title}", highlight=False, markup=False)
        if not damaged and not lacking:
            out.print(f"{len(index.files)} files, all as they should be.", highlight=False)
    mirror.forget(folder, damaged)
    if damaged:
        raise typer.Exit(int(ExitCode.FAILED))
    if lacking:
        raise typer.Exit(int(ExitCode.PENDING))


@app.command()
def serve(
    folder: FolderArgument,
    listen: Annotated[
        str, typer.Option("--listen", metavar="ADDRESS:PORT", help="Where to answer.")
    ] = "127.0.0.1:8086",
    debug: DebugOption = False,
) -> None:
    """Serve a mirror over HTTP, read-only, with a line per request, until it is stopped.

    Example: freehold mirror serve /srv/mirror --listen 192.168.10.4:8086
    """
    with errors(debug=debug):
        from freehold.mirror.index import NAME
        from freehold.mirror.serve import server

        address, _, port = listen.rpartition(":")
        if not address or not port.isdigit():
            raise BadInputError(f"{listen} is no address and port", remedy="Such as 192.168.10.4:8086.")
        if not (folder / NAME).is_file():
            raise BadInputError(
                f"{folder} is no mirror",
                where=str(folder),
                remedy=f"Fill it first: freehold mirror build {folder}",
            )
        try:
            running = server(folder, address.strip("[]"), int(port))
        except OSError as error:
            raise FreeholdError(
                f"Nothing can answer at {listen}",
                answer=str(error),
                remedy="Choose a free port of this machine.",
            ) from error
        err.print(f"{folder} at http://{listen} (sources.mirror)", highlight=False, markup=False)
        with running:
            running.serve_forever()


def mib(size: int) -> str:
    """Bytes as a person reads them."""
    return f"{size / 2**20:.1f} MiB" if size < 2**30 else f"{size / 2**30:.2f} GiB"
