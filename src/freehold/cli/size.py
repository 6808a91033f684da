"""``freehold size``: whether language models fit GPUs, of a stack or before anything is bought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from freehold.cli.console import DebugOption, JsonOption, as_json, errors, harmless, out, show_table
from freehold.errors import BadInputError, ExitCode
from freehold.layout.sizing import Card, PerGpu, Together
from freehold.run.size import Row

PARTS = (
    ("weights", "█", "blue"),
    ("KV cache", "▓", "cyan"),
    ("overhead", "▒", "yellow"),
    ("free", "·", "dim"),
)
"""Parts of the picture: what, sign, colour. The signs tell them apart without colours too."""

WIDTH = 24
"""Signs of one picture; one that is too long for its GPU gets up to a quarter more."""

USERS = 15
"""Conversations at once where nothing else is asked for."""


def size(
    client: Annotated[
        str | None,
        typer.Argument(
            metavar="CLIENT",
            help="A folder under inventory/, or the path of a stack file; --hardware needs none.",
            show_default=False,
        ),
    ] = None,
    hardware: Annotated[
        str | None,
        typer.Option(
            "--hardware",
            metavar="GPUS",
            help='GPUs by name, such as "2x RTX 4090".',
            show_default=False,
        ),
    ] = None,
    users: Annotated[
        int | None,
        typer.Option(
            "--users",
            min=1,
            metavar="NUMBER",
            help=f"Conversations at once; {USERS} when left out.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="One language model of the catalogue, with each of its forms.",
            show_default=False,
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            "--context",
            min=1,
            metavar="TOKENS",
            help="Tokens per conversation; 16384 when left out.",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", metavar="ENGINE", help="vllm, sglang or ollama.", show_default=False),
    ] = None,
    kv_cache: Annotated[
        str | None,
        typer.Option(
            "--kv-cache",
            metavar="TYPE",
            help="auto (16 bits), fp8 (vLLM, SGLang), q8_0 or q4_0 (Ollama).",
            show_default=False,
        ),
    ] = None,
    as_document: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Say which language models fit the GPUs, for how many users and how long a context, and what to change if not.

    Computed from the catalogue; nothing is contacted. docs/sizing.md explains it.
    Ends with 3 when nothing fits; for a client, when one of its models does not.

    Example: freehold size --hardware "2x RTX 4090" --users 15
    """
    from freehold.run import size as run

    with errors(debug=debug, as_json_lines=as_document):
        if (client is None) == (hardware is None):
            raise BadInputError(
                "Name a client or GPUs, one of them",
                remedy='Such as: freehold size acme, or freehold size --hardware "2x RTX 4090" --users 15',
            )
        if client is not None:
            from freehold.schema.load import load_stack

            if any((users, model, context, engine, kv_cache)):
                raise BadInputError(
                    f"What is asked of the language models of {client} stands in its stack file",
                    where="models",
                    remedy="Leave the other options out, or ask with --hardware instead of the client.",
                )
            rows = run.of_stack_file(load_stack(client))
        else:
            cards = run.hardware(hardware or "")
            rows = run.of_hardware(
                cards,
                users or USERS,
                context=context,
                model=model,
                engine=engine,
                kv_cache=kv_cache or "auto",
            )
            if not as_document:
                out.print(_asked(cards, users or USERS), highlight=False, markup=False)
        if as_document:
            as_json([row.as_dict() for row in rows])
        else:
            _show(rows, explain=client is not None or model is not None)
        if not (any if hardware is not None else all)(row.fits for row in rows):
            raise typer.Exit(int(ExitCode.PENDING))


def _asked(cards: Sequence[Card], users: int) -> str:
    counted = {card.name: sum(other.name == card.name for other in cards) for card in cards}
    gpus = ", ".join(f"{count} x {name}" for name, count in counted.items())
    return f"{gpus} of {min(card.memory for card in cards)} MiB, {users} conversations at once\n"


def _show(rows: Sequence[Row], *, explain: bool) -> None:
    shown = [row for row in rows if explain or row.fits or _for_fewer(row)]
    for row in shown:
        _row(row)
    if any(row.sizing and row.sizing.per_gpu for row in shown):
        legend = Text("\n")
        for name, sign, colour in PARTS:
            legend.append(sign, style=colour).append(f" {name}  ")
        out.print(legend.append("of each GPU"))
        out.print("Users and tokens: asked for / the most that fit while the other stays.")
    unknown = [row for row in rows if row.sizing and row.sizing.unknown]
    if left := [row.model for row in rows if row not in shown and row not in unknown]:
        out.print(f"\nDo not fit, not even for one: {', '.join(left)}.", highlight=False, markup=False)
        out.print("Why: the same command with --model and one of these names.")
    for row in unknown:
        assert row.sizing is not None
        out.print(
            f"{row.title}: nothing is computed, since the catalogue lacks: {', '.join(row.sizing.unknown)}.",
            highlight=False,
            markup=False,
        )
    for row in rows if explain else ():
        if row not in unknown and not (row.sizing.fits if row.sizing else row.fits):
            _explain(row)
    for name, together in {row.engine: row.together for row in rows if row.together}.items():
        _together(name, together)


def _row(row: Row) -> None:
    """Two lines that 80 columns hold: which, its picture and its memory; whether it fits, where and for how many."""
    sizing = row.sizing
    gpu = sizing.per_gpu if sizing else None
    first, second = Text(f"{row.model:<30} "), Text("  ").append(_verdict(row))
    second.pad_right(max(0, 13 - len(second)))
    if sizing is None:
        second.append(row.engine)
    else:
        gpus = "1 GPU" if sizing.tensor_parallel == 1 else f"{sizing.tensor_parallel} GPUs"
        second.append(f"{sizing.quantization}, {row.engine}, {gpus}")
    if sizing and gpu:
        first.append(picture(gpu))
        first.pad_right(max(1, 63 - len(first)))
        first.append(f"{gpu.total / 1024:.{0 if gpu.total > 102_400 else 1}f} of {gpu.memory / 1024:.1f} GiB")
        second.pad_right(max(2, 41 - len(second)))
        second.append(
            f"{_of(sizing.users, sizing.max_users)} users, {_of(sizing.context, sizing.max_context)} tokens"
        )
    out.print(first, highlight=False)
    out.print(second, highlight=False)


def _explain(row: Row) -> None:
    if row.sizing is None:
        out.print(
            f"\n{row.engine} computes on a GPU and is given none: hosts.{row.engine}.gpus or gpu_layout gives it one.",
            highlight=False,
            markup=False,
        )
        return
    out.print(
        f"\n{row.title} ({row.sizing.quantization}, {row.engine}) does not fit:",
        highlight=False,
        markup=False,
    )
    for advice in row.sizing.advice or ("nothing that was tried is enough",):
        out.print(f"- {harmless(advice)}", highlight=False, markup=False)
    if row.instead:
        out.print(f"- instead of it would fit: {', '.join(row.instead)}", highlight=False, markup=False)


def _together(engine: str, together: Together) -> None:
    out.print(f"\n{engine} holds all of its language models at once:", highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    for number, gpu in enumerate(together.cards):
        table.add_row(f"GPU {number}", f"{gpu.total / 1024:.1f} of {gpu.memory / 1024:.1f} GiB", picture(gpu))
    show_table(table)
    for advice in together.advice:
        out.print(f"- {advice}", highlight=False, markup=False)


def _verdict(row: Row) -> Text:
    if row.sizing and row.sizing.unknown:
        return Text("unknown", style="yellow")
    if row.sizing is None:
        return Text(row.without, style="dim" if row.fits else "red")
    if row.fits:
        return Text("fits", style="green")
    return Text("for fewer", style="yellow") if _for_fewer(row) else Text("no", style="red")


def _for_fewer(row: Row) -> bool:
    return bool(row.sizing and row.sizing.max_users and not row.together)


def _of(asked: int, most: int | None) -> str:
    return f"{asked} / {'?' if most is None else most}"


def picture(gpu: PerGpu) -> Text:
    """The VRAM of one GPU as a bar; what is too much goes on behind the GPU's end, which a line marks."""
    overhead = gpu.activations + gpu.graphs + gpu.reserve
    amounts = (gpu.weights, gpu.kv_cache, overhead, max(0, gpu.memory - gpu.total))
    scale = WIDTH / gpu.memory
    if gpu.total > 1.25 * gpu.memory:
        scale = 1.25 * WIDTH / gpu.total
    bar, drawn, sum_ = Text(), 0, 0
    for (_, sign, colour), amount in zip(PARTS, amounts, strict=True):
        sum_ += amount
        end = round(sum_ * scale)
        bar.append(sign * (end - drawn), style=colour)
        drawn = end
    if gpu.total <= gpu.memory:
        return bar
    edge = round(gpu.memory * scale)
    return Text.assemble(bar[:edge], ("|", "bold red"), bar[edge:])
