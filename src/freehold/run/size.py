"""What fits: for a client's stack, or for GPUs that nobody bought yet. Nothing is contacted."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from freehold.catalog import gpus as known_gpus
from freehold.catalog import models as catalog
from freehold.catalog import services as roles
from freehold.catalog.gpus import GpuModel
from freehold.catalog.models import LanguageModel
from freehold.errors import BadInputError
from freehold.layout import gpus, models, placement
from freehold.layout.compute import of_stack
from freehold.layout.sizing import (
    KV_BYTES,
    Card,
    Demand,
    Sizing,
    Together,
    alternatives,
    best,
    size,
    size_together,
)
from freehold.layout.types import AssignedGpu, ServedModel
from freehold.layout.wiring import own_settings
from freehold.schema.load import LoadedStack
from freehold.schema.problems import Problem

_ENGINES = ("vllm", "ollama")

CONTEXT = models.CONTEXT
"""Tokens per conversation where nothing else is asked for."""

MOST_GPUS = 16
"""More are not in one machine."""

CPU, NO_GPU, UNSIZED = "on the CPU", "no GPU", "not sized"
"""Why an answer has no sizing: the engine computes without a GPU; it is to have one, and the stack gives it none; the stack
does not say how much memory its GPUs have."""


@dataclass(frozen=True)
class Row:
    """One answer."""

    model: str
    """The language model by its id."""
    title: str
    """Its name for people."""
    engine: str
    """The service that serves it, or the engine."""
    sizing: Sizing | None
    """None where ``without`` says why."""
    instead: tuple[str, ...] = ()
    """Language models of the catalogue that would fit, where this one does not."""
    without: str = ""
    """Why there is no sizing: :data:`CPU`, :data:`NO_GPU` or :data:`UNSIZED`."""
    together: Together | None = None
    """All that its Ollama holds at once, where that is more than this one."""

    @property
    def fits(self) -> bool:
        """Whether it fits, also beside the others of its engine; what a CPU computes is not sized."""
        alone = self.sizing.fits if self.sizing else self.without != NO_GPU
        return alone and (self.together is None or self.together.fits)

    def as_dict(self) -> dict[str, Any]:
        """The answer as plain data."""
        rest = asdict(self.sizing) if self.sizing else {}
        if self.without:
            rest["without"] = self.without
        rest |= {
            "model": self.model,
            "title": self.title,
            "service": self.engine,
            "fits": self.fits,
            "instead": self.instead,
        }
        if self.together:
            rest["together"] = [asdict(gpu) for gpu in self.together.cards]
        return rest


def of_hardware(
    cards: Sequence[Card],
    users: int,
    *,
    context: int | None = None,
    model: str | None = None,
    engine: str | None = None,
    kv_cache: str = "auto",
) -> list[Row]:
    """What of the catalogue fits these GPUs, the largest first; of one language model each of its forms.

    Args:
        cards: The GPUs, all for one engine.
        users: Conversations at once.
        context: Tokens per conversation; the language model's own longest, at most :data:`CONTEXT`, when left out.
        model: One language model alone.
        engine: ``vllm``, ``sglang`` or ``ollama``; when left out, for one language model all that serve it, else vLLM where
            it fits there, or Ollama; where neither fits, the one that holds more users. SGLang is sized as vLLM and only asked by name.
        kv_cache: Type of the KV cache.

    Raises:
        BadInputError: An unknown language model, engine or type of KV cache.
    """
    _check(engine, kv_cache)
    known = catalog.load()
    if model is not None:
        chosen = _named(model, known)
        rows = [
            Row(
                chosen.id,
                chosen.title,
                name,
                size(chosen, form, name, cards, _demand(chosen, context, users, kv_cache)),
            )
            for form, quantization in chosen.quantizations.items()
            for name in quantization.engines
            # SGLang is sized as vLLM is: the same figures twice would say nothing.
            if name == engine or (engine is None and (name != "sglang" or "vllm" not in quantization.engines))
            if engine or kv_cache in KV_BYTES[name]
        ]
        if not rows:
            raise BadInputError(
                f"{engine} serves no form of {chosen.title}", remedy="Leave --engine out to see which do."
            )
        if not any(row.fits for row in rows):
            rows[0] = replace(rows[0], instead=_instead(known, rows[0], cards))
        return rows
    rows = []
    for each in known.values():
        able = {name for form in each.quantizations.values() for name in form.engines}
        demand = _demand(each, context, users, kv_cache)
        answers = [
            Row(each.id, each.title, name, best(each, name, cards, demand))
            for name in ([engine] if engine else _ENGINES)
            if name in able and kv_cache in KV_BYTES[name]
        ]
        if answers:
            rows.append(next((row for row in answers if row.fits), max(answers, key=_users)))
    largest = {each.title: each.parameters.total if each.parameters else 0.0 for each in known.values()}
    return sorted(
        rows, key=lambda row: (not row.fits, bool(row.sizing and row.sizing.unknown), -largest[row.title])
    )


def of_stack_file(loaded: LoadedStack) -> list[Row]:
    """How the language models of a stack fit the GPUs that it gives their engines, whether they do or not.

    Raises:
        BadInputError: The stack names no language model, or has another fault than one that does not fit.
    """
    stack = loaded.stack
    if not stack.models:
        raise BadInputError(
            f"{stack.client} names no language model",
            where="models",
            remedy="Write them under models: in the stack file, or ask with --hardware what would fit.",
        )
    meta = roles.load()
    faults: list[Problem] = []
    seats = placement.seats(stack, placement.chosen(stack, meta, faults), meta, faults)
    given = {name: [gpu for _, gpu in each] for name, each in gpus.assign(stack, seats, faults).items()}
    if faults:
        of_stack(loaded)
    known = catalog.load(loaded.directory)
    settings = {seat.name: own_settings(stack, seat, given) for seat in seats}
    served = models.serve(stack, known, seats, given, settings, [])
    found = [each for name in sorted(served) for each in served[name]]
    if {each.id for each in found} != set(stack.models):
        of_stack(loaded)
    cards = {
        name: [card for gpu in given.get(name, ()) if (card := models.card(gpu))] for name in sorted(served)
    }
    rows = [
        _served(each, known, cards[each.engine], _without(settings[each.engine], given.get(each.engine, ())))
        for each in found
    ]
    return [replace(row, together=_beside(row, found, known, cards[row.engine])) for row in rows]


def _without(settings: Mapping[str, Any], given: Sequence[AssignedGpu]) -> str:
    if settings.get("device") == "cpu":
        return CPU
    return UNSIZED if given else NO_GPU


def _beside(
    row: Row, found: Sequence[ServedModel], known: Mapping[str, LanguageModel], cards: Sequence[Card]
) -> Together | None:
    others = [each for each in found if each.engine == row.engine and each.sizing is not None]
    if row.sizing is None or row.sizing.engine != "ollama" or len(others) < 2:
        return None
    wanted = [
        (known[each.id], each.quantization, Demand(each.context, each.users, each.kv_cache))
        for each in others
    ]
    return size_together(wanted, cards)


def _served(
    each: ServedModel, known: Mapping[str, LanguageModel], cards: Sequence[Card], without: str
) -> Row:
    if each.sizing is None:
        return Row(each.id, each.title, each.engine, None, without=without)
    role = str(each.sizing["engine"])
    demand = Demand(each.context, each.users, each.kv_cache)
    row = Row(each.id, each.title, each.engine, size(known[each.id], each.quantization, role, cards, demand))
    return row if row.fits else replace(row, instead=_instead(known, row, cards))


def _instead(known: Mapping[str, LanguageModel], row: Row, cards: Sequence[Card]) -> tuple[str, ...]:
    """The three largest that fit as asked, of the same kind."""
    sizing = row.sizing
    if sizing is None:
        return ()
    demand = Demand(sizing.context, sizing.users, sizing.kv_cache)
    fitting = alternatives(known, sizing.engine, cards, demand, kind=known[sizing.model].kind)
    return tuple(f"{each.model} ({each.quantization})" for each in fitting[:3])


def _users(row: Row) -> int:
    return (row.sizing.max_users if row.sizing else None) or 0


def _demand(model: LanguageModel, context: int | None, users: int, kv_cache: str) -> Demand:
    return Demand(context or min(CONTEXT, model.architecture.context or CONTEXT), users, kv_cache)


def _check(engine: str | None, kv_cache: str) -> None:
    if engine is not None and engine not in KV_BYTES:
        raise BadInputError(
            f'No engine is called "{engine}"', where="--engine", remedy=f"One of {', '.join(KV_BYTES)}."
        )
    types = {name for each in ([engine] if engine else KV_BYTES) for name in KV_BYTES[each]}
    if kv_cache not in types:
        of = f" of {engine}" if engine else ""
        raise BadInputError(
            f"No KV cache{of} has the type {kv_cache}",
            where="--kv-cache",
            remedy=f"One of {', '.join(sorted(types))}.",
        )


def _named(name: str, known: Mapping[str, LanguageModel]) -> LanguageModel:
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.4)
    raise BadInputError(
        f'The catalogue has no language model "{name}"',
        where="--model",
        remedy=f"Did you mean {' or '.join(close)}?" if close else "docs/reference/models.md lists them.",
    )


def hardware(text: str) -> list[Card]:
    """GPUs by their names, such as ``2x RTX 4090``, ``2 RTX 4090``, ``RTX 4090 x2`` or ``rtx-4090, h100-pcie``.

    Where a name fits several (``H100``), the one with the least memory is taken.

    Raises:
        BadInputError: Nothing, or no GPU that the catalogue knows; the remedy names the nearest.
    """
    cards: list[Card] = []
    for part in filter(None, (part.strip() for part in re.split(r"[,+]", text))):
        before = re.fullmatch(r"(\d+)(?:\s*[x×*]\s*|\s+(?=[a-z]))(.+)", part, re.IGNORECASE)
        after = None if before else re.fullmatch(r"(.+?)\s*[x×*]\s*(\d{1,2})", part, re.IGNORECASE)
        number, name = before.groups() if before else after.groups()[::-1] if after else ("1", part)
        if not 1 <= int(number) <= MOST_GPUS:
            raise BadInputError(
                f"{number} is no number of GPUs for one engine",
                where="--hardware",
                remedy=f"From 1 to {MOST_GPUS}, such as 2x {name.strip()}.",
            )
        gpu = _gpu(name.strip())
        card = Card(gpu.title, gpu.memory, compute_capability=gpu.compute_capability, vendor=gpu.vendor)
        cards += [card] * int(number)
    if not cards:
        raise BadInputError("No GPU is named", where="--hardware", remedy='Such as --hardware "2x RTX 4090".')
    return cards


def _gpu(name: str) -> GpuModel:
    known = known_gpus.load()
    # "RTX 4090 24GB": the memory is part of few names, and checks the others.
    told = re.search(r"\b(\d+)\s*gi?b\b", name, re.IGNORECASE)
    fitting = _called(name, known.values())
    if told and not fitting:
        fitting = [
            gpu
            for gpu in _called(name.replace(told[0], " "), known.values())
            if abs(gpu.memory / 1024 - int(told[1])) <= 0.06 * int(told[1])
        ]
    if fitting:
        return min(fitting, key=lambda gpu: gpu.memory)
    names = {gpu.id: gpu.id for gpu in known.values()} | {gpu.title.lower(): gpu.id for gpu in known.values()}
    close = difflib.get_close_matches(name.lower(), names, n=6, cutoff=0.3)
    ids = list(dict.fromkeys(names[each] for each in close))[:3]
    raise BadInputError(
        f'No GPU of the catalogue is called "{name}"',
        where="--hardware",
        remedy=(f"Did you mean {' or '.join(ids)}? " if ids else "")
        + f"Known are {', '.join(sorted(known))}.",
    )


def _called(name: str, known: Iterable[GpuModel]) -> list[GpuModel]:
    """GPUs of that name; "RTX 3090" is part of "RTX 3090 Ti" too, and what has the fewest words more is meant."""
    wanted = _words(name)
    more = {
        gpu: len(_words(gpu.title) | _words(gpu.id))
        for gpu in known
        if wanted <= _words(gpu.title) | _words(gpu.id)
    }
    if not wanted:
        return []
    exact = [gpu for gpu in more if wanted in (_words(gpu.id), _words(gpu.title))]
    return exact or [gpu for gpu, words in more.items() if words == min(more.values())]


def _words(name: str) -> frozenset[str]:
    """The words of a GPU's name, without its maker's: ``NVIDIA GeForce RTX 4090`` is ``rtx-4090``."""
    words = re.findall(r"[a-z]+|\d+", name.lower())
    return frozenset(words) - {"nvidia", "geforce", "amd", "intel", "gb", "gib"}
