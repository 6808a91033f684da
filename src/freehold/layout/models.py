"""Language models of the stack: which engine serves each, in which form of its weights, and whether the GPUs hold it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

from freehold.catalog import gpus as cards
from freehold.catalog.models import LanguageModel, Quantization
from freehold.catalog.services import ServiceMeta
from freehold.layout import sizing
from freehold.layout.placement import Seat
from freehold.layout.types import AssignedGpu, ServedModel
from freehold.schema.problems import Problem, nearest
from freehold.schema.stack import ModelUse, Stack

CONTEXT = 16384
"""Tokens of a conversation where the stack names none: some forty pages of text."""

KV_CACHES = get_args(ModelUse.model_fields["kv_cache"].annotation)
"""What a stack may say of the precision of conversations."""

MODELS = "/models"
"""Where engines find the weights of their node."""


def serve(
    stack: Stack,
    catalog: Mapping[str, LanguageModel],
    seats: Sequence[Seat],
    given: Mapping[str, Sequence[AssignedGpu]],
    settings: Mapping[str, Mapping[str, Any]],
    problems: list[Problem],
) -> dict[str, list[ServedModel]]:
    """The language models of each engine, by service; what cannot be is added to ``problems``.

    Args:
        stack: What the client wants.
        catalog: Language models by id.
        seats: The hosts.
        given: The GPUs of each host.
        settings: The client's settings of each service; an engine with ``device: cpu`` is not sized.
        problems: Takes what is wrong.
    """
    engines = {seat.name: seat for seat in seats if seat.meta.engine}
    served: dict[str, list[ServedModel]] = {}
    for name, use in stack.models.items():
        wanted = use or ModelUse()
        model = catalog.get(name)
        if model is None:
            problems.append(
                Problem(
                    ("models", name),
                    "unknown language model",
                    nearest=nearest(name, catalog),
                    allowed=f"one of `freehold models list {stack.client}`, or an entry of your own in models.yml",
                )
            )
            continue
        for seat in _engines(model, wanted, engines, problems):
            on_cpu = settings[seat.name].get("device") == "cpu"
            gpus = None if on_cpu else given.get(seat.name, ())
            if found := _served(stack, model, wanted, seat, gpus, problems):
                served.setdefault(seat.name, []).append(found)
    problems += _too_many(served, engines)
    problems += _named_twice(served)
    problems += _do_not_fit_together(served, catalog, given)
    return served


def _engines(
    model: LanguageModel, use: ModelUse, engines: Mapping[str, Seat], problems: list[Problem]
) -> list[Seat]:
    forms = model.quantizations
    chosen = [forms[use.quantization]] if use.quantization in forms else list(forms.values())
    able = {engine for form in chosen for engine in form.engines}
    candidates = {name: seat for name, seat in engines.items() if seat.role in able}
    allowed = ", ".join(candidates) or f"one of {', '.join(sorted(able))}, listed under services"
    key = ("models", model.id, "engine")
    for name in use.engines:
        if name not in candidates:
            reason = f"cannot serve {model.title}" if name in engines else "is not among the services"
            problems.append(Problem(key, reason, found=name, allowed=allowed))
    if not use.engines and len(candidates) != 1:
        found = f"{len(candidates)} engines" if candidates else "no engine of the services"
        form = f" as {use.quantization}" if use.quantization in forms else ""
        problems.append(Problem(key, f"is missing: {found} can serve {model.title}{form}", allowed=allowed))
        return []
    return [candidates[name] for name in use.engines or candidates if name in candidates]


def _served(
    stack: Stack,
    model: LanguageModel,
    use: ModelUse,
    seat: Seat,
    gpus: Sequence[AssignedGpu] | None,
    problems: list[Problem],
) -> ServedModel | None:
    key = ("models", model.id)
    forms = {name: form for name, form in model.quantizations.items() if seat.role in form.engines}
    if use.quantization and use.quantization not in forms:
        problems.append(
            Problem(
                (*key, "quantization"),
                f"the catalogue has no such form of it for {seat.meta.title}",
                found=use.quantization,
                nearest=nearest(use.quantization, forms),
                allowed=", ".join(forms),
            )
        )
        return None
    if use.kv_cache not in sizing.KV_BYTES[seat.role]:
        problems.append(
            Problem(
                (*key, "kv_cache"),
                f"{seat.meta.title} has no such precision",
                found=use.kv_cache,
                allowed=", ".join(name for name in KV_CACHES if name in sizing.KV_BYTES[seat.role]),
            )
        )
        return None
    longest = model.architecture.context
    context = use.context or min(CONTEXT, longest or CONTEXT)
    if longest and context > longest:
        problems.append(
            Problem(
                (*key, "context"),
                f"is more than {model.title} can",
                found=context,
                allowed=f"at most {longest}",
            )
        )
        return None
    demand = sizing.Demand(context=context, users=use.users or _users(stack), kv_cache=use.kv_cache)
    if gpus is None:
        return _value(model, use, seat, use.quantization or next(iter(forms)), demand, None)
    given = [found for gpu in gpus if (found := card(gpu))]
    if not gpus or len(given) < len(gpus):
        if gpus and not use.unsized:
            problems.append(
                Problem(
                    (*key,),
                    f"cannot be sized: the stack does not say how much memory the GPUs of {seat.name} have",
                    allowed=f"card or memory under nodes.{seat.node}.gpus (`freehold show gpus {stack.client}`)",
                )
            )
        # An engine without a GPU is refused by the checks of a run, which name the host.
        return _value(model, use, seat, use.quantization or next(iter(forms)), demand, None)
    sized = (
        sizing.size(model, use.quantization, seat.role, given, demand)
        if use.quantization
        else sizing.best(model, seat.role, given, demand)
    )
    if sized.unknown and not use.unsized:
        problems.append(
            Problem(
                key,
                f"cannot be sized: unknown of it: {', '.join(sized.unknown)}",
                allowed="these figures in models.yml, or `unsized: true` to serve it without",
            )
        )
    elif not sized.unknown and not sized.fits:
        problems.append(
            Problem(
                key,
                f"{model.title} ({sized.quantization}) does not fit {_names(given)}"
                f" with {demand.users} conversations of {context} tokens",
                found=_need(sized),
                allowed="; ".join(sized.advice) or "a larger GPU, or a smaller language model",
            )
        )
    return _value(model, use, seat, sized.quantization, demand, sized)


def _users(stack: Stack) -> int:
    return stack.use.users or len(stack.users) or 1


def card(gpu: AssignedGpu) -> sizing.Card | None:
    """The GPU as the sizing wants it; none where its memory is unknown."""
    known = cards.load().get(gpu.card or "")
    if not gpu.memory:
        return None
    return sizing.Card(
        name=known.title if known else f"GPU {gpu.key}",
        memory=gpu.memory,
        share=gpu.share,
        compute_capability=known.compute_capability if known else None,
        vendor=gpu.vendor,
    )


def _names(given: Sequence[sizing.Card]) -> str:
    counted = {card.name: sum(other.name == card.name for other in given) for card in given}
    return ", ".join(f"{number}x {name}" if number > 1 else name for name, number in counted.items())


def _need(sized: sizing.Sizing) -> str:
    if sized.per_gpu is None:
        return "unknown"
    return f"{sized.per_gpu.total} MiB of {sized.per_gpu.memory} MiB per GPU"


def _value(
    model: LanguageModel,
    use: ModelUse,
    seat: Seat,
    quantization: str,
    demand: sizing.Demand,
    sized: sizing.Sizing | None,
) -> ServedModel:
    form = model.quantizations[quantization]
    ollama = seat.role == "ollama"
    # An engine reads a form of the weights; Ollama keeps what it pulled itself.
    served = (form.ollama or model.id) if ollama else model.id
    return ServedModel(
        id=model.id,
        title=model.title,
        name=use.name or model.id,
        served=served,
        engine=seat.name,
        kind=model.kind,
        licence=model.licence,
        quantization=quantization,
        repository=form.repository,
        revision=form.revision,
        files=form.files,
        path=None if ollama else path_of(model, quantization, form),
        ollama=form.ollama,
        digest=form.digest,
        context=demand.context,
        users=demand.users,
        kv_cache=demand.kv_cache,
        tool_parser=model.tool_parser,
        reasoning_parser=model.reasoning_parser,
        tensor_parallel=sized.tensor_parallel if sized else 1,
        gpu_memory_utilization=sized.gpu_memory_utilization if sized else None,
        max_num_seqs=sized.max_num_seqs if sized else demand.users,
        sizing=asdict(sized) if sized else None,
    )


def path_of(model: LanguageModel, quantization: str, form: Quantization) -> str:
    """Where the weights lie: by repository and revision, so that an old one stays until it is removed by name."""
    name = form.repository.replace("/", "--") if form.repository else f"{model.id}--{quantization}"
    return f"{MODELS}/{name}/{form.revision or 'unlocked'}"


def _too_many(served: Mapping[str, Sequence[ServedModel]], engines: Mapping[str, Seat]) -> Iterable[Problem]:
    for name, models in served.items():
        meta: ServiceMeta = engines[name].meta
        if meta.name != "ollama" and len(models) > 1:
            yield Problem(
                ("models", models[1].id, "engine"),
                f'{meta.title} serves one language model, and "{name}" serves {models[0].id} already',
                found=name,
                allowed=f"an engine of its own, such as {meta.name}-2 under services",
            )


def _named_twice(served: Mapping[str, Sequence[ServedModel]]) -> Iterable[Problem]:
    owners: dict[str, str] = {}
    for model in (each for models in served.values() for each in models):
        other = owners.setdefault(model.name, model.id)
        if other != model.id:
            yield Problem(("models", model.id, "name"), f"is that of {other} too", found=model.name)


def _do_not_fit_together(
    served: Mapping[str, Sequence[ServedModel]],
    catalog: Mapping[str, LanguageModel],
    given: Mapping[str, Sequence[AssignedGpu]],
) -> Iterable[Problem]:
    """Ollama holds several language models at once: each must fit beside the others.

    It has one context, one number of conversations and one precision of them for all (``roles/ollama/meta/service.yml``).
    """
    for name, models in served.items():
        if len(models) < 2 or any(not model.sizing or not model.sizing["per_gpu"] for model in models):
            continue
        context, users = max(m.context for m in models), max(m.users for m in models)
        cache = next((m.kv_cache for m in models if m.kv_cache != "auto"), "auto")
        wanted = [
            (
                catalog[m.id],
                m.quantization,
                sizing.Demand(min(context, catalog[m.id].architecture.context or context), users, cache),
            )
            for m in models
        ]
        together = sizing.size_together(wanted, [found for gpu in given[name] if (found := card(gpu))])
        if not together.fits and all(one.fits for one in together.sizings):
            fullest = max(together.cards, key=lambda gpu: gpu.total - gpu.memory)
            yield Problem(
                ("models", models[-1].id),
                f"does not fit beside the other language models of {name}",
                found=f"{fullest.total} MiB of {fullest.memory} MiB on a GPU",
                allowed="; ".join(together.advice),
            )
