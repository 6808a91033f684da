"""``freehold models try``, ``promote`` and ``back``: the change of a language model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from freehold.cli.console import (
    ClientArgument,
    DebugOption,
    JsonOption,
    as_json,
    err,
    errors,
    out,
    show_table,
)
from freehold.cli.render import renderer
from freehold.errors import ExitCode

if TYPE_CHECKING:
    from freehold.run.evaluation.compare import Comparison

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="The candidate: its id in the stack, or its name at its engine.",
        show_default=False,
    ),
]
AsOption = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help="The name that it is to take, as people and applications know it; the only one when left out.",
        show_default=False,
    ),
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine", metavar="SERVICE", help="The engine, where several serve it.", show_default=False
    ),
]


def try_(
    client: ClientArgument,
    model: ModelArgument,
    name: AsOption = None,
    engine: EngineOption = None,
    at_once: Annotated[
        int,
        typer.Option(
            "--at-once", min=1, max=32, help="Questions at the same time; more than one makes times longer."
        ),
    ] = 1,
    instead: Annotated[
        bool,
        typer.Option(
            "--instead",
            help="Serve it in the place of the current one, on its engine, and put that back afterwards.",
        ),
    ] = False,
    window: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TIME",
            help="With --instead: how long people have it after the cases, such as 30m or 2h.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Try a language model: ask the current one and the candidate the client's own cases, and compare.

    Beside the current one, nothing is changed: the candidate is served by an engine of
    the stack (a second one such as vllm-2, or Ollama). With --instead, the engine of the
    current one serves it for a window: the name is silent while the engine restarts,
    twice. Cases lie in inventory/CLIENT/cases, the comparison in inventory/CLIENT/runs.
    Ends with 1 when the candidate is worse.

    Example: freehold models try acme qwen3-14b --as assistant
    """
    from freehold.run import model_change, model_trial
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=json):
        minutes = _minutes(window)
        if minutes and not instead:
            raise typer.BadParameter("a window is for --instead", param_hint="--for")
        opened = Client.open(client)
        say = (
            (lambda _: None) if json else (lambda step: err.print(f"  {step}", highlight=False, markup=False))
        )
        if instead:
            with renderer(err, json=False, verbose=False) as sink:
                comparison, folder = model_trial.try_instead(
                    opened, model, sink, name=name, minutes=minutes, at_once=at_once, say=say
                )
        else:
            new = model_change.candidate(opened, model, engine)
            now = model_change.current(opened, new, name)
            comparison, folder = model_trial.try_out(opened, new, now, at_once=at_once, say=say)
        if json:
            as_json({**comparison.as_dict(), "folder": str(folder)})
        else:
            _show(comparison)
            out.print(
                f"The comparison: {folder}/comparison.html", highlight=False, markup=False, soft_wrap=True
            )
            if instead:
                out.print(f"{comparison.name} is {comparison.current.model} again.", highlight=False)
            elif not (comparison.worse or comparison.leaks):
                out.print(
                    f"Next: freehold models promote {client} {model} --as {comparison.name}", highlight=False
                )
        if comparison.worse or comparison.leaks:
            raise typer.Exit(int(ExitCode.FAILED))


def _minutes(window: str | None) -> int:
    found = re.fullmatch(r"(\d+)(m|h)", window or "0m")
    if not found:
        raise typer.BadParameter("such as 30m or 2h", param_hint="--for")
    return int(found.group(1)) * (60 if found.group(2) == "h" else 1)


def _show(comparison: Comparison) -> None:
    table = Table(box=None)
    for column in ("case", f"{comparison.current.model} (now)", f"{comparison.candidate.model} (candidate)"):
        table.add_column(column)
    for case in comparison.cases:
        cells = []
        for side in (comparison.current, comparison.candidate):
            outcome = side.outcomes[case.name]
            time = "" if outcome.seconds is None else f", {outcome.seconds:.1f} s"
            reason = "" if outcome.passed else f": {'; '.join(outcome.wrong)}"
            cells.append(
                Text(
                    f"{'passed' if outcome.passed else 'failed'}{time}{reason}",
                    "green" if outcome.passed else "red",
                )
            )
        table.add_row(Text(case.name), *cells)
    show_table(table)
    out.print(comparison.verdict, highlight=False, markup=False)


def promote(
    client: ClientArgument,
    model: ModelArgument,
    name: AsOption = None,
    engine: EngineOption = None,
    untested: Annotated[
        bool, typer.Option("--untested", help="Also without a comparison, or although it was found worse.")
    ] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Let a name lead to the candidate, from the next request on; those in flight are answered where they are.

    The router alone changes, without a restart; inventory/CLIENT/aliases.yml says where
    names lead. Refuses a candidate that was not tried or was found worse (2).

    Example: freehold models promote acme qwen3-14b --as assistant
    """
    from freehold.run import model_change
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=json):
        opened = Client.open(client)
        new = model_change.candidate(opened, model, engine)
        now = model_change.current(opened, new, name)
        if not untested:
            model_change.require_tried(opened, new, now)
        with renderer(out, json=json, verbose=False) as sink:
            model_change.promote(opened, new, now, sink)
        if not json:
            out.print(
                f"{now.name} leads to {new.model} on {new.engine}. Back to {now.model}: freehold models back {client}",
                highlight=False,
            )


def back(
    client: ClientArgument,
    name: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help="The name; the only one that was promoted when left out.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Let a name lead where it led before the last promotion; end a trial with --instead that was cut off.

    Example: freehold models back acme --as assistant
    """
    from freehold.run import model_change, model_trial
    from freehold.run.context import Client

    with errors(debug=debug, as_json_lines=json):
        with renderer(out, json=json, verbose=False) as sink:
            opened = Client.open(client)
            if model_trial.end_trial(opened, sink):
                return
            which, alias = model_change.back(opened, sink, name)
        if not json:
            out.print(f"{which} leads to {alias.model} on {alias.engine} again.", highlight=False)


def register(app: typer.Typer) -> None:
    """Add the commands to the group ``models``."""
    app.command("try")(try_)
    app.command()(promote)
    app.command()(back)
