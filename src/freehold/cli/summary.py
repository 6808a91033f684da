"""Plans and closing summaries for people."""

from __future__ import annotations

import json as json_module
import sys

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from freehold.proxmox import in_force
from freehold.proxmox.changes import Change, Effect, Plan
from freehold.proxmox.in_force import FirewallState
from freehold.run.summary import Summary

_SIGN = {
    "create": "+",
    "destroy": "-",
    "start": ">",
    "stop": "x",
    "restart": "~",
    "update": "~",
    "resize": "~",
}
_COLOUR = {"+": "green", "-": "red", ">": "green", "x": "yellow", "~": "yellow"}
_EFFECT = {
    Effect.LIVE: "",
    Effect.RESTART: "  (needs a restart)",
    Effect.IMPOSSIBLE: "  (impossible in place)",
}


def plan(console: Console, made: Plan, *, api_calls: int, firewall: FirewallState | None = None) -> None:
    """Print a plan as a diff, and what holds of Proxmox VE's firewall."""
    for change in made.changes:
        _change(console, change)
    for note in made.notes:
        console.print(f"note: {note}", style="dim", markup=False, highlight=False)
    guests = len({change.vmid for change in made.changes if change.actionable})
    if made.empty and made.impossible:
        pass  # the error that follows says it
    elif made.empty:
        console.print("Nothing to change: the containers are as the stack wants them.", style="green")
    else:
        what = "1 container" if guests == 1 else f"{guests} containers"
        console.print(f"{what} would change.", style="bold", highlight=False)
    if firewall:
        console.print(firewall_line(firewall.text))
    console.print(f"({api_calls} API calls to find out)", style="dim", highlight=False)


def firewall_line(text: str) -> Text:
    """What holds of Proxmox VE's firewall, as one line."""
    return Text(f"Proxmox firewall: {text}", style="green" if text == in_force.IN_FORCE else "yellow")


def _change(console: Console, change: Change) -> None:
    sign = _SIGN[change.action.value]
    where = f"{change.host} ({change.vmid} on {change.node})"
    how = " as root" if change.root_steps else ""
    reason = f": {change.reason}" if change.reason else ""
    console.print(Text(f"{sign} {change.action.value} {where}{how}{reason}", style=f"bold {_COLOUR[sign]}"))
    for diff in change.diffs:
        line = Text(f"    {diff.field}: ")
        if diff.old is not None:
            line.append(diff.old.strip(), style="red")
            line.append(" -> ")
        line.append("(removed)" if diff.new is None else diff.new.strip(), style="green")
        if diff.about:
            line.append(f"  {diff.about}", style="bold")
        line.append(_EFFECT[diff.effect], style="dim")
        console.print(line)
        if diff.remedy:
            console.print(Text(f"      {diff.remedy}", style="yellow"))
    for step in change.root_steps:
        console.print(Text(f"    root step: {' '.join(step.argv())}", style="magenta"))


def summary(console: Console, found: Summary, *, json: bool) -> None:
    """Print the closing summary."""
    if json:
        sys.stdout.write(json_module.dumps({"summary": found.as_dict()}) + "\n")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("host", "address", "vmid", "services"):
        table.add_column(column)
    for host in found.hosts:
        table.add_row(host.host, host.address, str(host.vmid), host.services)
    console.print()
    console.print(table)
    console.print()
    lines: list[Text] = []
    for title, address in found.addresses.items():
        lines.append(Text.assemble((f"{title}: ", "bold"), (address, "cyan")))
    lines += [Text.assemble((f"{name}: ", "bold"), what) for name, what in found.models.items()]
    lines += [Text.assemble(("Log in: ", "bold"), login) for login in found.logins]
    lines += [Text(note) for note in found.notes]
    if found.firewall:
        lines.append(firewall_line(found.firewall))
    if found.stand_ins:
        text = f"Stand-ins of the lab, not the programs themselves: {', '.join(found.stand_ins)}"
        lines.append(Text(text, style="yellow"))
    if found.changes is not None:
        changes = ", ".join(f"{number} in {stage}" for stage, number in found.changes.items())
        text = f"Changes: {changes}" if changes else "Nothing had to change."
        lines.append(Text(text, style="yellow" if changes else "green"))
    if found.passed is not None:
        skipped = f", {found.skipped} skipped" if found.skipped else ""
        lines.append(Text(f"Proof: {found.passed} checks passed{skipped}; {found.report}", style="green"))
    minutes, seconds = divmod(round(found.seconds), 60)
    lines.append(
        Text(
            f"{minutes} min {seconds} s, {found.api_calls} API calls; run folder {found.folder}", style="dim"
        )
    )
    console.print(
        Panel(
            Text("\n").join(lines), title=found.client, title_align="left", border_style="green", expand=False
        )
    )
