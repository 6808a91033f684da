"""``freehold driver``: the NVIDIA driver of nodes, and its user space in containers, in lockstep."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from freehold.cli import summary as show_summary
from freehold.cli.console import (
    ClientArgument,
    DebugOption,
    JsonOption,
    VerboseOption,
    as_json,
    errors,
    out,
    show_table,
)
from freehold.cli.render import renderer

app = typer.Typer(
    help="The NVIDIA driver of nodes and of the containers on their GPUs: one version, changed in the right order.",
    no_args_is_help=True,
)

RebootOption = Annotated[
    bool,
    typer.Option(
        "--reboot", help="Reboot the node where that is needed: all its guests restart, also those of others."
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the steps, and do nothing.")]
LeaveOption = Annotated[
    bool,
    typer.Option(
        "--leave-stopped",
        help="Stop containers of clients whose folders are not here, and leave it to others to bring them back.",
    ),
]


@app.command()
def status(client: ClientArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Show which driver each node has, would boot and is to have, and what its containers have; changes nothing.

    Example: freehold driver status acme
    """
    from freehold.run import driver
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=json):
        found = [each.as_dict() for each in driver.status(Client.open(client))]
        if json:
            as_json(found)
            return
        if not found:
            out.print(f"{client} uses no NVIDIA GPU of a node that it reaches over SSH.", highlight=False)
            return
        table = Table(box=None)
        for column in ("node", "", ""):
            table.add_column(column)
        for each in found:
            rows = {
                "lock": each["locked"],
                "installed": each["installed"] or ("cut off" if each["unfinished"] else "none"),
                "loaded": each["loaded"] or "none",
                "before": each["former"] or "none in the cache",
                "kernel": each["kernel"],
                "next boot": each["next_boot"]
                + ("" if each["next_boot_ready"] else " (no module of the driver)"),
                "installed by": "Freehold" if each["managed"] else "the node's administrator",
                **{f"container {name}": version or "none" for name, version in each["containers"].items()},
                **{f"also {name}": ", ".join(guests) for name, guests in each["others"].items()},
                "lockstep": "[green]yes[/]" if each["in_lockstep"] else "[yellow]no[/]",
            }
            for number, (label, value) in enumerate(rows.items()):
                table.add_row(each["node"] if number == 0 else "", label, value)
            if each["reboot"]:
                table.add_row("", "reboot", f"[yellow]needed[/]: {each['reboot']}")
        show_table(table)


_UPGRADE = """Bring the client's nodes to the locked driver, and all containers on their GPUs along.

Stops the containers on the GPUs (of every client), installs the driver, stops for a reboot or makes it, and brings each
client up again: device nodes, user space, services, proof. Whatever it stopped at, the same command goes on.

Example: freehold driver upgrade acme --dry-run
"""

_ROLLBACK = """Go back to the driver that the nodes had before the locked one; its installer lies in each node's cache.

The order is that of an upgrade. The next upgrade goes to the lock again.

Example: freehold driver rollback acme --reboot
"""


@app.command("rollback", help=_ROLLBACK)
@app.command("upgrade", help=_UPGRADE)
def change(
    context: typer.Context,
    client: ClientArgument,
    reboot: RebootOption = False,
    dry_run: DryRunOption = False,
    leave_stopped: LeaveOption = False,
    json: JsonOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
) -> None:
    """Change the driver of the client's nodes, to which one the command's name says."""
    from freehold.run import driver_upgrade
    from freehold.run.context import Client

    rollback = context.info_name == "rollback"
    with errors(debug=debug, as_json_lines=json):
        opened = Client.open(client)
        if dry_run:
            steps = {
                each.access.name: each.steps(opened.stack.client, reboot=reboot)
                for each in driver_upgrade.plan(opened, rollback=rollback)
            }
            if json:
                as_json(steps)
                return
            for node, lines in steps.items():
                out.print(f"{node}:", highlight=False)
                for number, line in enumerate(lines, 1):
                    out.print(f"  {number}. {line}", highlight=False, markup=False)
            return
        options = driver_upgrade.Options(
            reboot=reboot, leave_stopped=leave_stopped, verbosity=2 if verbose else 0
        )
        with renderer(out, json=json, verbose=verbose) as sink:
            summaries = driver_upgrade.upgrade(opened, sink, options, rollback=rollback)
        for each in summaries:
            show_summary.summary(out, each, json=json)
