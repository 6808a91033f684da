"""The verbs of a stack's life: init, prepare, check, plan, up, verify, status, down."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from freehold.cli import summary as show_summary
from freehold.cli.console import (
    ClientArgument,
    DebugOption,
    JsonOption,
    OfflineOption,
    OnlyOption,
    VerboseOption,
    as_json,
    errors,
    out,
    show_table,
)
from freehold.cli.render import renderer
from freehold.errors import ExitCode


def init(
    client: Annotated[str, typer.Argument(metavar="CLIENT", help="Short name of the client, such as acme.")],
    endpoint: Annotated[
        str | None, typer.Option(help="The Proxmox VE node: its address, or https://host:8006.")
    ] = None,
    domain: Annotated[
        str | None, typer.Option(help="Domain of the applications; the chat will be chat.<domain>.")
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="SHA-256 fingerprint of the API's certificate.")
    ] = None,
    root: Annotated[
        str | None, typer.Option(help="How to become root on the node, once: ssh or password.")
    ] = None,
    ssh_host: Annotated[
        str | None, typer.Option(help="Address for SSH to the node; the endpoint's when left out.")
    ] = None,
    ssh_key: Annotated[Path | None, typer.Option(help="Private key for SSH to the node.")] = None,
    password_command: Annotated[
        str | None, typer.Option(help="Command that prints the password of root@pam.")
    ] = None,
    node: Annotated[str | None, typer.Option(help="Node that takes the containers.")] = None,
    storage: Annotated[str | None, typer.Option(help="Storage of root disks and volumes.")] = None,
    bridge: Annotated[str | None, typer.Option(help="Bridge of the containers.")] = None,
    subnet: Annotated[
        str | None, typer.Option(help="Network of the containers, such as 192.168.10.0/24.")
    ] = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Ask nothing: take what was found, trust the keys that are shown."),
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Write a client's stack file: asks for what cannot be guessed, makes the API token, probes the node for the rest.

    Writes inventory/CLIENT/stack.yml and secrets.yml here; makes a role, a pool, a user and a token on the node.

    Example: freehold init acme --endpoint 192.168.10.5
    """
    from freehold.cli.ask import Answers
    from freehold.run.init import Wishes
    from freehold.run.init import init as run_init

    with errors(debug=debug):
        wishes = Wishes(
            client=client,
            endpoint=endpoint,
            domain=domain,
            fingerprint=fingerprint,
            root=root,
            ssh_host=ssh_host,
            ssh_key=ssh_key,
            password_command=password_command,
            node=node,
            storage=storage,
            bridge=bridge,
            subnet=subnet,
        )
        path = run_init(wishes, Answers(out, silent=yes))
        out.print(
            f"\nWrote {path}. Look through it, then:\n  freehold check {client}\n  freehold up {client}",
            highlight=False,
        )


def prepare(
    client: ClientArgument,
    ask_password: Annotated[
        bool, typer.Option("--password", help="Ask for the password of root@pam instead of using SSH.")
    ] = False,
    new_token: Annotated[
        bool, typer.Option("--new-token", help="Give the token a new secret; the old one stops working.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Make the least-privilege role, pool, user and API token on the node, as root, once.

    What is there already stays. Root comes over SSH, with --password, or by proxmox.root_password_command.

    Example: freehold prepare acme --password
    """
    from freehold.run.context import Client
    from freehold.run.prepare import prepare as run_prepare

    with errors(debug=debug):
        password = typer.prompt("Password of root@pam", hide_input=True) if ask_password else None
        done = run_prepare(
            Client.open(client),
            password=password,
            new_token=new_token,
            report=lambda step: out.print(f"  {step.what}", highlight=False, markup=False),
        )
        if done.steps:
            out.print(
                f"Prepared: {len(done.steps)} steps. The token's secret is in the client's secrets.yml.",
                highlight=False,
            )
        else:
            out.print("Already prepared: nothing to do.")


def check(
    client: ClientArgument,
    only: OnlyOption = None,
    offline: OfflineOption = False,
    as_document: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Can it work? Looks at the API, privileges, storages, bridges, GPUs, root access, the firewall and what only you can give.

    Touches nothing.

    Ends with 0 when all is there, and with 2 when something is missing.

    Example: freehold check acme
    """
    from freehold.run import check as run_check
    from freehold.run.context import Client
    from freehold.run.offline import findings as missing_offline

    with errors(debug=debug, as_json_lines=as_document):
        opened = Client.open(client, only)
        findings = run_check.check(opened)
        if offline:
            findings += missing_offline(opened)
        failed = any(finding.status == "problem" for finding in findings)
        if as_document:
            as_json([finding.as_dict() for finding in findings])
        else:
            table = Table(box=None)
            table.add_column("", no_wrap=True)
            table.add_column("what", max_width=24)
            table.add_column("found")
            marks = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "problem": "[bold red]missing[/]"}
            for finding in findings:
                remedy = f"\n{finding.remedy}" if finding.remedy else ""
                found = Text.assemble(finding.detail, (remedy, "green"))
                table.add_row(marks[finding.status], Text(finding.about), found)
            show_table(table)
            out.print(
                "Something is missing." if failed else f"All there. Next: freehold plan {client}",
                highlight=False,
            )
        if failed:
            raise typer.Exit(int(ExitCode.BAD_INPUT))


def plan(
    client: ClientArgument,
    only: OnlyOption = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Also plan to destroy containers that the stack no longer names.")
    ] = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 3 when changes are pending.")
    ] = False,
    as_document: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what would change, with the old and the new value of every option; touches nothing.

    Ends with 2 when a change is impossible in place, and with --detailed-exitcode with 3 when changes are pending.

    Example: freehold plan acme --prune --detailed-exitcode
    """
    from freehold.run import firewall as run_firewall
    from freehold.run import plan as run_plan
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=as_document):
        opened = Client.open(client, only)
        made, _ = run_plan.plan(opened, prune=prune)
        firewall = run_firewall.state(opened, made)
        if as_document:
            # One document also where a change is impossible in place: the change says so and holds the remedy.
            found = {"firewall": firewall.model_dump(mode="json"), "api_calls": opened.api.calls}
            as_json(made.model_dump(mode="json") | found)
            if made.impossible:
                raise typer.Exit(int(ExitCode.BAD_INPUT))
        else:
            show_summary.plan(out, made, api_calls=opened.api.calls, firewall=firewall)
        run_plan.refuse_impossible(made)
        if detailed_exitcode and not made.empty:
            raise typer.Exit(int(ExitCode.PENDING))


def up(
    client: ClientArgument,
    only: OnlyOption = None,
    full: Annotated[bool, typer.Option("--full", help="Run every role, also where nothing differs.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Destroy this client's containers that the stack no longer names.")
    ] = False,
    until: Annotated[
        str | None, typer.Option("--until", metavar="STAGE", help="Stop after start, base or services.")
    ] = None,
    offline: OfflineOption = False,
    no_proof: Annotated[bool, typer.Option("--no-proof", help="Do not prove the hosts at the end.")] = False,
    as_lines: JsonOption = False,
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            show_default=False,
            help="Show every step and the engines' own output; -vv more.",
        ),
    ] = 0,
    debug: DebugOption = False,
) -> None:
    """Bring the stack up: containers, base system, services, proof. Run it again at any time: it goes on, or changes nothing.

    Touches this client's containers alone, and on the node: container templates, the
    unit for GPU device nodes and, where there is monitoring, the node exporter.
    Each run leaves a folder in inventory/CLIENT/runs. Ends with 1 when a stage or a
    check of the proof failed, and with 2 before anything is touched when something is
    missing; with --offline, also when the mirror lacks something.

    Example: freehold up acme --only openwebui
    """
    from freehold.events import Stage
    from freehold.run.context import Client
    from freehold.run.up import Options
    from freehold.run.up import up as run_up

    if until is not None and until not in {Stage.START, Stage.BASE, Stage.SERVICES}:
        raise typer.BadParameter("STAGE is start, base or services", param_hint="--until")
    with errors(debug=debug, as_json_lines=as_lines):
        options = Options(
            full=full,
            prune=prune,
            offline=offline,
            prove=not no_proof,
            until=Stage(until) if until else None,
            verbosity=verbose,
        )
        opened = Client.open(client, only)
        with renderer(out, json=as_lines, verbose=verbose > 0) as sink:
            summary = run_up(opened, sink, options)
        show_summary.summary(out, summary, json=as_lines)


def verify(
    client: ClientArgument,
    only: OnlyOption = None,
    offline: OfflineOption = False,
    as_lines: JsonOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
) -> None:
    """Prove every host as it is now, with a report as JUnit XML and as a web page; changes nothing.

    Ends with 1 when a check failed. The report lies in inventory/CLIENT/runs.

    Example: freehold verify acme --only postgres
    """
    from freehold.run.context import Client
    from freehold.run.verify import verify as run_verify

    with errors(debug=debug, as_json_lines=as_lines):
        opened = Client.open(client, only)
        with renderer(out, json=as_lines, verbose=verbose) as sink:
            summary = run_verify(opened, sink, offline=offline, verbosity=2 if verbose else 0)
        show_summary.summary(out, summary, json=as_lines)


def status(
    client: ClientArgument,
    only: OnlyOption = None,
    as_document: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what runs where, as Proxmox VE says it; changes nothing.

    It looks at containers, not into them: `freehold verify` proves the services, and that engines compute on their GPUs.

    Example: freehold status acme --json
    """
    from freehold.run.context import Client
    from freehold.run.served import reminders
    from freehold.run.status import status as run_status

    with errors(debug=debug, as_json_lines=as_document):
        opened = Client.open(client, only)
        states = run_status(opened)
        if as_document:
            as_json([state.as_dict() for state in states])
            return
        table = Table(box=None)
        for column in ("host", "vmid", "address", "state", "memory"):
            table.add_column(column, no_wrap=True)
        table.add_column("waits for a restart")
        colours = {"running": "green", "stopped": "yellow", "missing": "red", "unfinished": "red"}
        for state in states:
            colour = colours[state.state]
            table.add_row(
                state.host,
                str(state.vmid),
                state.address,
                f"[{colour}]{state.state}[/]",
                state.memory,
                state.pending,
            )
        show_table(table)
        if states and states[0].firewall:
            out.print(show_summary.firewall_line(states[0].firewall))
        if any(host.gpus for host in opened.layout.hosts):
            out.print(
                f"This is the state of the containers. Whether engines compute on their GPUs: freehold verify {client}",
                style="dim",
                highlight=False,
                markup=False,
            )
        for old in reminders(opened):
            out.print(f"[yellow]reminder[/] {old.text}.", highlight=False)


def down(
    client: ClientArgument,
    only: OnlyOption = None,
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", metavar="CLIENT", help="The client's name, instead of asking for it."),
    ] = None,
    as_lines: JsonOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
) -> None:
    """Remove the client's containers with their data; asks for the client's name. Nothing of others is touched.

    The stack file, the secrets, the token and the pool stay. With --only, the containers of those services go.

    Example: freehold down acme --confirm acme
    """
    from freehold.run import down as run_down
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=as_lines):
        opened = Client.open(client, only)
        made = run_down.what_goes(opened)
        if not made.changes:
            if not as_lines:
                out.print(f"{opened.stack.client} has no containers: nothing to do.", highlight=False)
            return
        if not as_lines:
            show_summary.plan(out, made, api_calls=opened.api.calls)
        if confirm is None and not as_lines:
            confirm = typer.prompt(
                f"All data in these containers is lost. Type the client's name ({opened.stack.client}) to go on"
            )
        if confirm != opened.stack.client:
            raise run_down.NotConfirmedError(
                f"{confirm!r} is not the name of this client; nothing was touched"
                if confirm is not None
                else "With --json nothing is asked, and containers are removed only when the client's name is given",
                remedy=f"To confirm without being asked: --confirm {opened.stack.client}",
            )
        with renderer(out, json=as_lines, verbose=verbose) as sink:
            gone = run_down.down(opened, sink, made)
        if not as_lines:
            out.print(
                f"{gone} container{'s' * (gone != 1)} removed. The secrets stay in {opened.secrets.file}.",
                highlight=False,
            )
