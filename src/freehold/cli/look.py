"""Commands that show what Freehold computed and change nothing."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from freehold.cli.console import (
    ClientArgument,
    DebugOption,
    JsonOption,
    OnlyOption,
    as_json,
    errors,
    out,
    show_table,
)
from freehold.errors import BadInputError

show = typer.Typer(
    help="Show what Freehold computed: the stack, the layout, the JSON schema.", no_args_is_help=True
)


@show.command()
def stack(
    client: ClientArgument,
    origin: Annotated[
        bool, typer.Option("--origin", help="Say of each value which file and line it comes from.")
    ] = False,
    as_document: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show a client's stack with everything filled in: defaults, inventory/defaults.yml, stack.yml.

    Example: freehold show stack acme --origin
    """
    from freehold.schema.load import load_stack

    with errors(debug=debug, as_json_lines=as_document):
        loaded = load_stack(client)
        rows = loaded.rows()
        if as_document:
            as_json(
                [{"key": r.key, "value": r.value, "origin": r.origin} for r in rows]
                if origin
                else loaded.stack.model_dump(mode="json")
            )
            return
        table = Table(box=None)
        table.add_column("key", style="bold")
        table.add_column("value", min_width=16)
        if origin:
            table.add_column("origin", style="dim", no_wrap=True)
        for row in rows:
            table.add_row(row.key, json.dumps(row.value, default=str), *([row.origin] if origin else []))
        show_table(table)


@show.command()
def layout(
    client: ClientArgument,
    only: OnlyOption = None,
    as_document: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show the hosts that a stack becomes: addresses, VMIDs, sizes, GPUs.

    Example: freehold show layout acme --only openwebui
    """
    from freehold.layout.compute import load_layout

    with errors(debug=debug, as_json_lines=as_document):
        computed = load_layout(client, only)
        if as_document:
            as_json(computed.model_dump(mode="json"))
            return
        table = Table(box=None, pad_edge=False)
        for column in ("host", "vmid", "address", "node", "cores", "memory", "disk", "GPUs"):
            table.add_column(column, no_wrap=True)
        for host in computed.hosts:
            gpus = sum(device.path.removeprefix("/dev/nvidia").isdigit() for device in host.devices)
            table.add_row(
                host.name,
                str(host.vmid),
                str(host.interface),
                host.node,
                str(host.cores),
                f"{host.memory} MiB",
                f"{host.disk} GiB",
                str(gpus or ""),
            )
        show_table(table)
        for host in computed.hosts:
            for volume in host.volumes:
                out.print(f"{host.name}: {volume.size} GiB more at {volume.path}", highlight=False)
        for route in computed.routes:
            out.print(
                f"https://{route.fqdn} -> {route.service} at {route.address}:{route.port}", highlight=False
            )


@show.command()
def gpus(client: ClientArgument, as_document: JsonOption = False, debug: DebugOption = False) -> None:
    """Show the GPUs that the nodes really have, and which hosts get them. The nodes are asked; nothing is changed.

    Over SSH where the client gives it; else the API tells addresses and models, and no driver.

    Example: freehold show gpus acme
    """
    from freehold.run import gpus as run_gpus
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=as_document):
        opened = Client.open(client)
        rows = run_gpus.rows(opened)
        if as_document:
            as_json([row.as_dict() for row in rows])
            return
        table = Table(box=None, pad_edge=False)
        for column in ("node", "pci", "card", "VRAM", "driver", "device", "hosts", "uuid"):
            table.add_column(column, no_wrap=column != "hosts")
        for row in rows:
            gpu = row.gpu
            table.add_row(
                row.node,
                gpu.pci,
                gpu.card or gpu.name,
                f"{gpu.memory} MiB" if gpu.memory else "",
                " ".join(text for text in (gpu.driver, gpu.driver_version) if text),
                gpu.device or "",
                ", ".join(row.hosts) if row.listed else "not in the stack",
                gpu.uuid or "",
            )
        show_table(table)
        for text in run_gpus.complaints(opened):
            out.print(text, style="yellow", markup=False, highlight=False)
        if not rows:
            out.print("No node of this client has a GPU.", highlight=False)


@show.command()
def schema() -> None:
    """Print the JSON schema of stack files, for completion in an editor.

    Example: freehold show schema > inventory/stack.schema.json
    """
    from freehold.layout.json_schema import stack_json_schema

    as_json(stack_json_schema())


def ssh_config(client: ClientArgument, debug: DebugOption = False) -> None:
    """Print the client's SSH configuration: host keys pinned, one connection shared.

    Use it as: ssh -F <(freehold ssh-config acme) postgres
    """
    from freehold.run.context import Client
    from freehold.secrets import SSH_KEY

    with errors(debug=debug):
        opened = Client.open(client)
        if not opened.secrets.has(SSH_KEY):
            raise BadInputError(
                f"{client} has no SSH key yet", remedy=f"It is made by the first run: freehold up {client}"
            )
        typer.echo(opened.ssh().config.read_text(encoding="utf-8"), nl=False)
