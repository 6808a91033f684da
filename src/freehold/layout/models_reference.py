"""The reference page of language models, written from the catalogue: what they are, and which GPUs hold them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from freehold.catalog.gpus import GpuModel
from freehold.catalog.models import LanguageModel
from freehold.layout.sizing import Card, Demand, Sizing, best, size

HARDWARE = (
    ("One card of 24 GB", "rtx-4090", 1),
    ("Two cards of 24 GB", "rtx-4090", 2),
    ("One card of 80 GB", "h100-sxm", 1),
    ("One card of 141 GB", "h200", 1),
)
"""Heading, GPU by its name in ``catalog/gpus.yml``, number."""

CONTEXTS = (8192, 16384, 32768)
"""Tokens per conversation, of each of which the page says how many users fit."""

USERS = 5
"""Conversations at once, of which the page says how long they may be."""

_ENGINES = ("vllm", "ollama")

_HEAD = """# Language models

What the catalogue knows, and which of it fits which GPUs. A stack names them under `models:`; entries of your own go into
`models.yml` in the client's folder ([models.md](../models.md)). How the figures below are computed, and how exact they are:
[sizing.md](../sizing.md). For other GPUs, other contexts or other users: `freehold size --hardware "2x RTX 4090" --users 15`.

This page is written by `python -m freehold.layout`; edit `src/freehold/catalog/language_models/*.yml` instead.
"""

_FITS = """## What fits

Users are conversations at once of which every one has reached the whole context at the same moment: far more people can work
with it, and beyond that number questions wait. SGLang is sized as vLLM. KV cache in 16 bits; `kv_cache: fp8` (vLLM) or `q8_0`
(Ollama) about doubles users and context. The form is the best of which {users} users at {context:,} tokens fit, else the best
of which one user at {short:,} tokens does. Memory is not speed: on Ollama above all, many users at once get slow answers long
before the memory is full.
"""


def page(models: Mapping[str, LanguageModel], gpus: Mapping[str, GpuModel]) -> str:
    """The reference page in Markdown."""
    parts = [_HEAD, "## The catalogue\n", _catalogue(models)]
    parts.append(_FITS.format(users=USERS, context=CONTEXTS[1], short=CONTEXTS[0]))
    seen: set[str] = set()
    for heading, name, count in HARDWARE:
        gpu = gpus[name]
        card = Card(gpu.title, gpu.memory, compute_capability=gpu.compute_capability)
        rows = sorted(_rows(models, [card] * count), key=lambda row: (-_total(models[row.model]), row.engine))
        seen |= {row.model for row in rows}
        parts.append(f"### {heading} ({f'{count} x ' if count > 1 else ''}{gpu.title})\n")
        heads = [f"users at {context:,} tokens" for context in CONTEXTS]
        parts.append(
            _table(
                ("language model", "form", "engine", *heads, f"longest context for {USERS} users"),
                (_row(models[row.model], row, [card] * count) for row in rows),
            )
        )
    others = [model for model in models.values() if model.kind != "chat"]
    parts += ["### Embedding, reranking and OCR\n", _table(_SMALL, map(_small, others))]
    absent = [model for model in models.values() if model.kind == "chat" and model.id not in seen]
    if absent:
        gpu = gpus[HARDWARE[-1][1]]
        card = Card(gpu.title, gpu.memory, compute_capability=gpu.compute_capability)
        parts.append("### None of these\n")
        parts.append("\n".join(_why(model, card) for model in sorted(absent, key=_total)) + "\n")
    return "\n".join(parts)


def _catalogue(models: Mapping[str, LanguageModel]) -> str:
    rows = [
        (
            f"`{model.id}`",
            model.title,
            model.kind,
            f"{model.provider} ({model.jurisdiction})",
            _parameters(model),
            f"{model.architecture.context:,}" if model.architecture.context else "unknown",
            model.licence or "unknown",
            ", ".join(_form(name, form.weights_bytes) for name, form in model.quantizations.items()),
        )
        for model in sorted(models.values(), key=lambda model: (model.kind, model.family, _total(model)))
    ]
    heads = ("id", "title", "for", "provider", "parameters (active)", "context", "licence", "forms, GB")
    return _table(heads, rows)


def _parameters(model: LanguageModel) -> str:
    if model.parameters is None:
        return "unknown"
    total, active = model.parameters.total / 1e9, model.parameters.active / 1e9
    return f"{_short(total)} B" if active == total else f"{_short(total)} B ({_short(active)} B)"


def _form(name: str, weights: int | None) -> str:
    return f"{name} {_short(weights / 1e9)}" if weights else f"{name} (size unknown)"


def _rows(models: Mapping[str, LanguageModel], cards: Sequence[Card]) -> Iterator[Sizing]:
    """The form of each language model and engine that fits, if any does."""
    for model in models.values():
        for engine in _ENGINES if model.kind == "chat" else ():
            if any(engine in form.engines for form in model.quantizations.values()):
                roomy = best(model, engine, cards, _demand(model, CONTEXTS[1], USERS))
                tight = roomy if roomy.fits else best(model, engine, cards, _demand(model, CONTEXTS[0], 1))
                if tight.fits:
                    yield tight


def _row(model: LanguageModel, chosen: Sizing, cards: Sequence[Card]) -> tuple[str, ...]:
    longest = model.architecture.context or CONTEXTS[-1]
    users = [
        str(size(model, chosen.quantization, chosen.engine, cards, Demand(context, 1)).max_users)
        if context <= longest
        else "-"
        for context in CONTEXTS
    ]
    together = size(model, chosen.quantization, chosen.engine, cards, _demand(model, CONTEXTS[0], USERS))
    return (model.title, chosen.quantization, chosen.engine, *users, f"{together.max_context or 0:,}")


_SMALL = ("model", "for", "form", "engine", "GiB", "with one text of")


def _small(model: LanguageModel) -> tuple[str, ...]:
    """What one takes besides what the engine keeps back."""
    roomy = [Card("one of 80 GB", 81559, compute_capability=9.0)]
    engine = _engine(model)
    answer = best(model, engine, roomy, _demand(model, CONTEXTS[0], 1))
    gpu = answer.per_gpu
    taken = f"{(gpu.total - gpu.reserve) / 1024:.1f}" if gpu else f"unknown: {', '.join(answer.unknown)}"
    return (model.title, model.kind, answer.quantization, engine, taken, f"{answer.context:,} tokens")


def _why(model: LanguageModel, card: Card) -> str:
    answer = best(model, _engine(model), [card], _demand(model, CONTEXTS[0], 1))
    if answer.per_gpu is None:
        return f"- {model.title}: not computed, since the catalogue lacks {', '.join(answer.unknown)}."
    weights = answer.per_gpu.weights / 1024
    return f"- {model.title}: {weights:.0f} GiB of weights ({answer.quantization})."


def _engine(model: LanguageModel) -> str:
    return next(name for name in ("vllm", "ollama", "sglang") if _serves(model, name))


def _serves(model: LanguageModel, engine: str) -> bool:
    return any(engine in form.engines for form in model.quantizations.values())


def _demand(model: LanguageModel, context: int, users: int) -> Demand:
    return Demand(min(context, model.architecture.context or context), users)


def _total(model: LanguageModel) -> float:
    return model.parameters.total if model.parameters else 0.0


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _short(figure: float) -> str:
    return f"{figure:.3g}" if figure < 999.5 else f"{figure:,.0f}"
