"""Whether one language model fits GPUs: values in, values out; what to change if not is :mod:`freehold.layout.sizing`'s."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from freehold.catalog.models import LanguageModel, Quantization
from freehold.errors import BadInputError
from freehold.layout import sizing_memory as memory
from freehold.layout.sizing_types import Card, Demand, PerGpu, Sizing

FP8 = 8.9
"""CUDA compute capability that computes in FP8 (Ada Lovelace): docs.vllm.ai/en/latest/features/quantization."""

MOST_USERS = 4096
LONGEST_CONTEXT = 1 << 20
"""Where the search for the most users and tokens ends."""


def fit(
    model: LanguageModel, quantization: str, engine: str, cards: Sequence[Card], demand: Demand
) -> Sizing:
    """Computes whether it fits; ``advice`` holds only what no amount of memory would help against.

    Raises:
        BadInputError: No GPU, an unknown form, engine or type of KV cache, or less than one user or token.
    """
    form = _form(model, quantization, engine, cards, demand)
    gpus = _gpus(model, form, engine, cards, demand)
    used = _used(engine, cards, gpus)
    unknown = (*memory.missing(model, form, engine, len(cards)), *_unknown_cards(form, engine, used, demand))
    per_gpu = max_users = max_context = kv_bytes = utilization = None
    obstacles = _obstacles(model, form, quantization, engine, used, demand)
    if not unknown:
        per_gpu = on_each(model, form, engine, used, demand.context, demand.users, demand.kv_cache)
        kv_bytes = memory.token_bytes(model.architecture, engine, demand.kv_cache)
        utilization = _utilization(engine, used, per_gpu)

        # Ollama takes more of its GPUs where fewer do not hold it.
        choices = range(1, len(cards) + 1) if engine == "ollama" else (gpus,)

        def has_room(context: int, users: int) -> bool:
            return any(
                _enough(
                    on_each(model, form, engine, _used(engine, cards, n), context, users, demand.kv_cache)
                )
                for n in choices
            )

        max_users = _most(lambda users: has_room(demand.context, users), MOST_USERS)
        longest = model.architecture.context or LONGEST_CONTEXT
        max_context = min(
            longest, 256 * _most(lambda n: has_room(256 * n, demand.users), math.ceil(longest / 256))
        )
    return Sizing(
        model=model.id,
        quantization=quantization,
        engine=engine,
        tensor_parallel=gpus,
        fits=bool(per_gpu and _enough(per_gpu) and not obstacles),
        unknown=unknown,
        per_gpu=per_gpu,
        users=demand.users,
        max_users=max_users,
        context=demand.context,
        max_context=max_context,
        kv_bytes_per_token=kv_bytes,
        gpu_memory_utilization=utilization,
        max_num_seqs=demand.users if engine == "ollama" else sequences(demand.users),
        kv_cache=demand.kv_cache,
        advice=obstacles,
    )


def sequences(users: int) -> int:
    """``max_num_seqs`` for so many users: vLLM's graphs come in steps of eight."""
    return -(-users // 8) * 8


def on_each(
    model: LanguageModel,
    form: Quantization,
    engine: str,
    used: Sequence[Card],
    context: int,
    users: int,
    kv_cache: str,
) -> PerGpu:
    """MiB on each of the GPUs, which share the work evenly; the smallest of them decides."""
    gpus = len(used)
    card = min(used, key=lambda card: card.given)
    weights = (form.weights_bytes or 0) / memory.MIB * memory.LOADED
    if engine == "ollama":
        part = share_of_layers(model, gpus)
        kept = users * memory.conversation_bytes(
            model.architecture, engine, kv_cache, context, batched=memory.MICROBATCH
        )
        buffer = memory.compute_buffer(model.architecture, context)
        return _summed(
            math.ceil(weights * part),
            math.ceil(kept / memory.MIB * part),
            buffer,
            0,
            memory.OLLAMA_MINIMUM + math.ceil(memory.DRIVER * card.share),
            card,
        )
    batched = memory.batched_tokens(card.memory, card.compute_capability)
    kept = users * memory.conversation_bytes(
        model.architecture, engine, kv_cache, context, gpus=gpus, batched=batched
    )
    return _summed(
        math.ceil(weights / gpus),
        math.ceil(kept / memory.MIB),
        memory.activations(model, gpus, sequences(users), batched),
        memory.graphs(sequences(users)),
        card.given - _budget(card) + memory.beside_torch(gpus, card.compute_capability),
        card,
    )


def share_of_layers(model: LanguageModel, gpus: int) -> float:
    """The largest part of a model that one of several GPUs gets from llama.cpp, which deals out whole layers."""
    layers = (model.architecture.layers or 0) + 1  # the output counts as one
    return math.ceil(layers / gpus) / layers


def _summed(weights: int, kv_cache: int, activations: int, graphs: int, reserve: int, card: Card) -> PerGpu:
    total = weights + kv_cache + activations + graphs + reserve
    return PerGpu(weights, kv_cache, activations, graphs, reserve, total, card.given)


def _enough(per_gpu: PerGpu) -> bool:
    return per_gpu.total <= per_gpu.memory


def _budget(card: Card) -> int:
    return int((card.memory - memory.DRIVER) * memory.UTILIZATION * card.share)


def _utilization(engine: str, used: Sequence[Card], per_gpu: PerGpu) -> float | None:
    if engine == "ollama":
        return None
    card = min(used, key=lambda card: card.given)
    if engine == "vllm":
        return round(memory.UTILIZATION * card.share, 3)
    # SGLang's fraction holds weights and KV cache alone: docs.sglang.ai/advanced_features/server_arguments.html
    rest = per_gpu.activations + per_gpu.graphs + memory.beside_torch(len(used), card.compute_capability)
    return max(0.0, math.floor((_budget(card) - rest) / (card.memory - memory.DRIVER) * 100) / 100)


def _gpus(
    model: LanguageModel, form: Quantization, engine: str, cards: Sequence[Card], demand: Demand
) -> int:
    """How many GPUs it is divided over: with Ollama as few as it fits on, else as many as can divide it."""
    if engine != "ollama":
        return memory.tensor_parallel(model, len(cards))
    if any(memory.missing(model, form, engine, 1)):
        return 1
    for gpus in range(1, len(cards)):
        used = _used(engine, cards, gpus)
        if _enough(on_each(model, form, engine, used, demand.context, demand.users, demand.kv_cache)):
            return gpus
    return len(cards)


def _used(engine: str, cards: Sequence[Card], gpus: int) -> Sequence[Card]:
    if engine == "ollama":
        return sorted(cards, key=lambda card: -card.given)[:gpus]
    return cards[:gpus]


def _most(has_room: Callable[[int], bool], limit: int) -> int:
    """The largest number up to the limit that there is room for; more never needs less."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if has_room(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _needed_capability(form: Quantization, engine: str, demand: Demand) -> float:
    cache = FP8 if engine != "ollama" and demand.kv_cache == "fp8" else 0.0
    return max(form.compute_capability or 0.0, cache)


def _unknown_cards(form: Quantization, engine: str, used: Sequence[Card], demand: Demand) -> tuple[str, ...]:
    # What vLLM takes beside the weights was measured on NVIDIA's alone; llama.cpp takes the same everywhere.
    others = [card.name for card in used if engine != "ollama" and card.vendor != "nvidia"]
    if others:
        return tuple(f"what {engine} takes of {name}" for name in dict.fromkeys(others))
    if engine == "ollama" or not _needed_capability(form, engine, demand):
        return ()
    names = dict.fromkeys(card.name for card in used if card.compute_capability is None)
    return tuple(f"compute capability of {name}" for name in names)


def _obstacles(
    model: LanguageModel,
    form: Quantization,
    quantization: str,
    engine: str,
    used: Sequence[Card],
    demand: Demand,
) -> tuple[str, ...]:
    found = []
    if engine not in form.engines:
        found.append(f"{engine} does not serve {model.id} in the form {quantization}")
    longest = model.architecture.context
    if longest is not None and demand.context > longest:
        found.append(f"its longest context is {longest} tokens")
    needed = _needed_capability(form, engine, demand)
    for card in dict.fromkeys(used):
        if card.compute_capability is not None and card.compute_capability < needed:
            found.append(
                f"{card.name} has compute capability {card.compute_capability}, and this needs {needed}"
            )
    return tuple(dict.fromkeys(found))


def _form(
    model: LanguageModel, quantization: str, engine: str, cards: Sequence[Card], demand: Demand
) -> Quantization:
    where = f"models.{model.id}"
    if quantization not in model.quantizations:
        raise BadInputError(
            f"{model.id} has no form {quantization}",
            where=where,
            remedy=f"It has: {', '.join(model.quantizations)}.",
        )
    if engine not in memory.KV_BYTES:
        raise BadInputError(
            f"{engine} is no engine", where=where, remedy=f"One of {', '.join(memory.KV_BYTES)}."
        )
    if demand.kv_cache not in memory.KV_BYTES[engine]:
        raise BadInputError(
            f"{engine} has no KV cache of the type {demand.kv_cache}",
            where=where,
            remedy=f"One of {', '.join(memory.KV_BYTES[engine])}.",
        )
    if not cards:
        raise BadInputError(f"{model.id} has no GPU", where=where, remedy="Give its engine's host a GPU.")
    if demand.users < 1 or demand.context < 1:
        raise BadInputError("At least one user and one token", where=where)
    return model.quantizations[quantization]
