"""The ``freehold`` command."""

from __future__ import annotations

import inspect
import os
import sys
from typing import Annotated

import typer

from freehold import __version__
from freehold.cli import audit, life, look, models_try, secrets, users
from freehold.cli.ca import ca
from freehold.cli.console import report
from freehold.cli.driver import app as driver
from freehold.cli.evidence import app as evidence
from freehold.cli.lab import app as lab
from freehold.cli.mirror import app as mirror
from freehold.cli.models import app as models
from freehold.cli.route import app as route
from freehold.cli.size import size
from freehold.cli.versions import app as versions
from freehold.errors import ExitCode, FreeholdError

app = typer.Typer(
    name="freehold",
    help="Own your AI: a Proxmox VE server with GPUs becomes a private AI stack, from one file per client.",
    epilog="Exit codes: 0 done or nothing to do, 1 failed, 2 bad input (nothing was touched), 3 something is pending.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

FIRST = "From nothing to a stack"
DAILY = "Any day"
LOOK = "Look"

app.command(rich_help_panel=FIRST)(size)
app.command(rich_help_panel=FIRST)(life.init)
app.command(rich_help_panel=FIRST)(life.prepare)
app.command(rich_help_panel=FIRST)(life.check)
app.command(rich_help_panel=FIRST)(life.plan)
app.command(rich_help_panel=FIRST)(life.up)
app.command(rich_help_panel=DAILY)(life.verify)
app.command(rich_help_panel=DAILY)(life.status)
app.command(rich_help_panel=DAILY)(life.down)
app.command(rich_help_panel=DAILY)(ca)
app.command("ssh-config", rich_help_panel=LOOK)(look.ssh_config)
app.add_typer(look.show, name="show", rich_help_panel=LOOK)
app.add_typer(secrets.app, name="secrets", rich_help_panel=DAILY)
app.add_typer(users.app, name="users", rich_help_panel=DAILY)
app.add_typer(route, name="route", rich_help_panel=DAILY)
app.add_typer(audit.app, name="audit", rich_help_panel=DAILY)
app.add_typer(evidence, name="evidence", rich_help_panel=DAILY)
app.add_typer(driver, name="driver", rich_help_panel=DAILY)
models_try.register(models)
app.add_typer(models, name="models", rich_help_panel=DAILY)
app.add_typer(mirror, name="mirror", rich_help_panel=DAILY)
app.add_typer(versions, name="versions", rich_help_panel=LOOK)
app.add_typer(lab, name="lab", rich_help_panel="Develop")


def _flowing(group: typer.Typer) -> None:
    """Make paragraphs of the commands' docstrings, whose lines Typer would keep: the terminal breaks them."""
    for command in group.registered_commands:
        text = command.help or inspect.getdoc(command.callback) or ""
        command.help = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
    for part in group.registered_groups:
        if part.typer_instance:
            _flowing(part.typer_instance)


_flowing(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"freehold {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Nothing of its own: options of all commands."""


def main() -> None:
    """Entry point; anything that is no FreeholdError is a bug and says so."""
    os.umask(0o077)
    try:
        app()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        fault = FreeholdError(
            f"This is a fault in Freehold: {type(error).__name__}: {error}",
            remedy="Run the command again with --debug and report what it prints (it holds no secret).",
        )
        report(fault, as_json_line="--json" in sys.argv)
        sys.exit(ExitCode.FAILED)
