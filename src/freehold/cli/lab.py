"""``freehold lab``: a Proxmox VE node for development on this machine (a stand-in; its containers are real)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from freehold.catalog.versions import OVERLAY
from freehold.cli.console import DebugOption, JsonOption, as_json, err, errors, show_table
from freehold.errors import BadInputError
from freehold.schema.load import STACK_FILE, inventory

if TYPE_CHECKING:
    from freehold.lab.machine.paths import LabPaths

app = typer.Typer(
    help="A stand-in of a Proxmox VE node on this machine, for development: the API, with real LXC containers.",
    no_args_is_help=True,
)

DirectoryOption = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        help="Where the lab keeps guests and state (else FREEHOLD_LAB_DIR, else /var/lib/freehold-lab).",
        show_default=False,
        file_okay=False,
    ),
]


@app.command()
def start(
    directory: DirectoryOption = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1024, max=65535, help="Port of the API on 127.0.0.1 (8006).")
    ] = None,
    bridge: Annotated[
        str | None, typer.Option("--bridge", help="Name of the lab's own bridge (fhlab0).")
    ] = None,
    subnet: Annotated[
        str | None, typer.Option("--subnet", help="The lab's own subnet (10.86.0.0/24).")
    ] = None,
    as_document: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Start the lab, or go on with what is there. The first start builds templates, which takes about a minute."""
    with errors(debug=debug, as_json_lines=as_document):
        service = _service()
        from freehold.lab.machine.paths import LabPaths
        from freehold.lab.machine.setup import LabSettings

        paths = LabPaths.from_environment(directory)
        last = LabSettings.load(paths)
        settings = LabSettings(port or last.port, bridge or last.bridge, subnet or last.subnet)
        with err.status("starting the lab") as spinner:

            def say(text: str) -> None:
                spinner.update(text)
                err.print(text, style="dim", highlight=False)

            state = service.start(paths, settings, say)
            stack = inventory() / "lab" / STACK_FILE
            # The stack of that name belongs to one lab; another one is for clients of its own.
            if stack.is_file() and f"{paths.state}/" in stack.read_text(encoding="utf-8"):
                _lay_over(paths, stack.parent)
        _show(state, as_document)


@app.command()
def versions(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder of a client of the lab.", exists=True, file_okay=False),
    ],
    directory: DirectoryOption = None,
    debug: DebugOption = False,
) -> None:
    """Write the lock and the cloud's certificate of the lab's stand-ins into a client's folder; `start` does that for inventory/lab.

    Example: freehold lab versions inventory/acme
    """
    with errors(debug=debug):
        from freehold.lab.machine.paths import LabPaths

        paths = LabPaths.from_environment(directory)
        if not paths.versions.is_file():
            raise BadInputError("the lab has built no stand-ins yet", remedy="Run: freehold lab start")
        _lay_over(paths, folder)


@app.command()
def stop(directory: DirectoryOption = None, debug: DebugOption = False) -> None:
    """Stop the API, all containers and the lab's network. Guests and state stay; `start` brings them back."""
    with errors(debug=debug):
        from freehold.lab.machine.paths import LabPaths

        _service().stop(LabPaths.from_environment(directory), _say)


@app.command()
def status(
    directory: DirectoryOption = None, as_document: JsonOption = False, debug: DebugOption = False
) -> None:
    """Show whether the lab runs and how to reach it."""
    with errors(debug=debug, as_json_lines=as_document):
        from freehold.lab.machine.paths import LabPaths

        _show(_service().status(LabPaths.from_environment(directory)), as_document)


@app.command()
def reset(
    directory: DirectoryOption = None,
    purge: Annotated[bool, typer.Option("--purge", help="Remove the built templates too.")] = False,
    debug: DebugOption = False,
) -> None:
    """Stop the lab and remove its guests and state. Built templates stay, unless --purge."""
    with errors(debug=debug):
        from freehold.lab.machine.paths import LabPaths

        _service().reset(LabPaths.from_environment(directory), _say, purge=purge)


def _lay_over(paths: LabPaths, folder: Path) -> None:
    from freehold.lab.cloud_standin import CERTIFICATE

    (folder / OVERLAY).write_bytes(paths.versions.read_bytes())
    (folder / CERTIFICATE).write_bytes((paths.state / CERTIFICATE).read_bytes())


def _service() -> Any:
    try:
        from freehold.lab import service
    except ModuleNotFoundError as error:
        if error.name != "aiohttp":
            raise
        raise BadInputError(
            "the lab needs the package aiohttp",
            remedy="Install Freehold with its lab: pip install 'freehold[lab]'",
        ) from error
    return service


def _say(text: str) -> None:
    err.print(text, style="dim", highlight=False)


def _show(state: dict[str, Any], as_document: bool) -> None:
    if as_document:
        as_json(state)
        return
    node = state["node"]
    table = Table(box=None, show_header=False, highlight=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("lab", "runs" if state["running"] else "stopped")
    table.add_row("API", f"{state['endpoint']} (a stand-in of Proxmox VE, for development)")
    table.add_row("fingerprint", state["fingerprint"] or "made at the first start")
    table.add_row("certificate", state["certificate"])
    table.add_row("root@pam", f"password in {state['root_password_file']}")
    table.add_row(
        "node", f"ssh -i {node['ssh_key']} -o UserKnownHostsFile={node['known_hosts']} root@{node['address']}"
    )
    table.add_row("files", f"{state['files']} (wheels of this machine, for containers)")
    for guest in state["guests"]:
        table.add_row(f"container {guest['vmid']}", f"{guest['name']} {guest['status']}")
    table.add_row("state", state["state"])
    show_table(table)
