"""Sizing: whether a language model fits GPUs, for how many users and how long a context, and what to change if not.

Pure: the catalogue's figures in, an answer out. The formula and its sources are in ``sizing_memory``; ``docs/sizing.md``
explains it and says how exact it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from freehold.catalog import gpus
from freehold.catalog.models import LanguageModel
from freehold.errors import BadInputError
from freehold.layout.sizing_fit import fit, on_each
from freehold.layout.sizing_memory import KV_BYTES
from freehold.layout.sizing_types import Card, Demand, PerGpu, Sizing

__all__ = [
    "KV_BYTES",
    "Card",
    "Demand",
    "PerGpu",
    "Sizing",
    "Together",
    "alternatives",
    "best",
    "size",
    "size_together",
]

_SHORT = 2048
"""Tokens below which a context is of no use, so that it is not proposed."""


def size(
    model: LanguageModel, quantization: str, engine: str, cards: Sequence[Card], demand: Demand
) -> Sizing:
    """Computes whether a language model fits in this form, with advice if it does not.

    Raises:
        BadInputError: No GPU, an unknown form, engine or type of KV cache, or less than one user or token.
    """
    sizing = fit(model, quantization, engine, cards, demand)
    if sizing.fits:
        return sizing
    return replace(sizing, advice=(*sizing.advice, *_advice(model, sizing, cards, demand)))


def best(model: LanguageModel, engine: str, cards: Sequence[Card], demand: Demand) -> Sizing:
    """The best form that fits (the catalogue has the best first); if none does, the one that lacks least.

    Raises:
        BadInputError: As of :func:`size`, or the engine serves no form of it.
    """
    forms = [name for name, form in model.quantizations.items() if engine in form.engines]
    if not forms:
        raise BadInputError(
            f"{engine} serves no form of {model.id}",
            where=f"models.{model.id}",
            remedy=f"Its engines are {', '.join(_engines(model))}.",
        )
    sizings = [fit(model, name, engine, cards, demand) for name in forms]
    chosen = next((sizing for sizing in sizings if sizing.fits), None) or min(sizings, key=_lack)
    return size(model, chosen.quantization, engine, cards, demand)


def alternatives(
    models: Mapping[str, LanguageModel],
    engine: str,
    cards: Sequence[Card],
    demand: Demand,
    *,
    kind: str = "chat",
) -> tuple[Sizing, ...]:
    """Language models of a catalogue that fit instead, the largest first."""
    fitting = []
    for model in models.values():
        if model.kind == kind and any(engine in form.engines for form in model.quantizations.values()):
            sizing = best(model, engine, cards, demand)
            if sizing.fits:
                fitting.append((model.parameters.total if model.parameters else 0.0, sizing))
    return tuple(sizing for _, sizing in sorted(fitting, key=lambda pair: -pair[0]))


@dataclass(frozen=True)
class Together:
    """The answer for several language models that one Ollama holds at once."""

    fits: bool
    sizings: tuple[Sizing, ...]
    """Each for itself."""
    cards: tuple[PerGpu, ...]
    """The sum on each GPU; empty where a figure is missing."""
    advice: tuple[str, ...] = ()


def size_together(wanted: Sequence[tuple[LanguageModel, str, Demand]], cards: Sequence[Card]) -> Together:
    """Several language models on one Ollama, all loaded: each a process with its own CUDA context.

    As Ollama's scheduler does, the largest comes first, each goes onto the one GPU with the most memory left, and onto all
    of them where no single one has enough (server/sched.go in github.com/ollama/ollama).

    Raises:
        BadInputError: As of :func:`size`.
    """
    sizings = tuple(size(model, form, "ollama", cards, demand) for model, form, demand in wanted)
    if any(sizing.per_gpu is None for sizing in sizings):
        return Together(False, sizings, ())
    sums = [PerGpu(0, 0, 0, 0, 0, 0, card.given) for card in cards]
    order = sorted(zip(sizings, wanted, strict=True), key=lambda pair: -_total(pair[0]))
    for _, (model, form, demand) in order:
        roomiest = max(range(len(cards)), key=lambda n: sums[n].memory - sums[n].total)
        for places in ([roomiest], list(range(len(cards)))):
            one = on_each(
                model,
                model.quantizations[form],
                "ollama",
                [cards[n] for n in places],
                demand.context,
                demand.users,
                demand.kv_cache,
            )
            if all(sums[n].total + one.total <= sums[n].memory for n in places):
                break
        for n in places:
            sums[n] = _added(sums[n], one)
    fits = all(sizing.fits for sizing in sizings) and all(gpu.total <= gpu.memory for gpu in sums)
    advice: tuple[str, ...] = ()
    if all(sizing.fits for sizing in sizings) and not fits:
        advice = (
            "each fits alone, but not all of them at once: let Ollama hold fewer at a time, or give it another GPU",
        )
    return Together(fits, sizings, tuple(sums), advice)


def _added(one: PerGpu, other: PerGpu) -> PerGpu:
    return PerGpu(
        one.weights + other.weights,
        one.kv_cache + other.kv_cache,
        one.activations + other.activations,
        one.graphs + other.graphs,
        one.reserve + other.reserve,
        one.total + other.total,
        one.memory,
    )


def _advice(model: LanguageModel, sizing: Sizing, cards: Sequence[Card], demand: Demand) -> Iterator[str]:
    """What to change, each of it alone enough; nothing that was not computed."""
    form, engine = sizing.quantization, sizing.engine
    for name, other in model.quantizations.items():
        if name != form and engine in other.engines and fit(model, name, engine, cards, demand).fits:
            yield f"quantization {name} fits"
    if sizing.per_gpu is None or sizing.advice:
        return
    smaller = "q8_0" if engine == "ollama" else "fp8"
    if demand.kv_cache != smaller and fit(model, form, engine, cards, replace(demand, kv_cache=smaller)).fits:
        yield f"kv_cache {smaller} fits"
    if sizing.max_users:
        users = "1 user at once fits" if sizing.max_users == 1 else f"{sizing.max_users} users at once fit"
        yield f"{users}, at {demand.context} tokens each"
    if sizing.max_context and _SHORT <= sizing.max_context < demand.context:
        yield f"a context of {sizing.max_context} tokens fits, for {demand.users} users at once"
    if card := _smallest_card(model, form, engine, cards, demand):
        yield f"{len(cards)} x {card} would do" if len(cards) > 1 else f"one {card} would do"
    for times in (2, 4, 8):
        if fit(model, form, engine, [*cards] * times, demand).fits:
            yield f"{times * len(cards)} of these GPUs would do"
            return


def _smallest_card(
    model: LanguageModel, form: str, engine: str, cards: Sequence[Card], demand: Demand
) -> str | None:
    smallest = min(card.memory for card in cards)
    known = (gpu for gpu in gpus.load().values() if gpu.vendor == "nvidia" and gpu.memory > smallest)
    for gpu in sorted(known, key=lambda gpu: gpu.memory):
        card = Card(gpu.id, gpu.memory, compute_capability=gpu.compute_capability)
        if fit(model, form, engine, [card] * len(cards), demand).fits:
            return gpu.title
    return None


def _lack(sizing: Sizing) -> float:
    """How far from fitting, in MiB; unknown is farther than anything."""
    if sizing.per_gpu is None:
        return float("inf")
    obstacles = 1e9 if sizing.advice else 0.0
    return obstacles + sizing.per_gpu.total - sizing.per_gpu.memory


def _total(sizing: Sizing) -> int:
    return sizing.per_gpu.total if sizing.per_gpu else 0


def _engines(model: LanguageModel) -> list[str]:
    return sorted({engine for form in model.quantizations.values() for engine in form.engines})
