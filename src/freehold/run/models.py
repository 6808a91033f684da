"""``freehold models``: weights of language models on the client's nodes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from freehold.catalog import models as catalog
from freehold.catalog.models import LanguageModel, Quantization
from freehold.errors import BadInputError, FreeholdError
from freehold.layout import trial
from freehold.layout.models import path_of
from freehold.layout.types import ServedModel, ServicePlacement
from freehold.run.context import Client
from freehold.run.models_lock import learn_results
from freehold.run.weights import (
    NoWeightsError,
    Report,
    WeightsError,
    ask,
    keepers,
    last,
    required,
    state,
    told,
)
from freehold.schema.problems import nearest


@dataclass(frozen=True)
class Listed:
    """A language model of the catalogue, in one form of its weights."""

    id: str
    title: str
    kind: str
    licence: str | None
    quantization: str
    size: int | None
    """Bytes of the weights."""
    source: str
    """Repository at the hub, or name in Ollama's registry."""
    revision: str | None
    engines: tuple[str, ...]
    """Services that serve it; empty where the stack does not use it."""
    state: str
    """``ready``, ``incomplete``, ``fetching``, ``missing``; ``engine`` where the engine keeps it; empty: nobody asked."""

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def listing(client: Client, *, used_only: bool = False) -> tuple[list[Listed], str | None]:
    """The catalogue, what the stack uses first; and why the nodes could not be asked, where that is so."""
    entries = catalog.load(client.directory)
    found, problem = _states(client)
    used = [_used(model, entries[model.id], client, found) for model in _once(client.whole_layout.models)]
    names = {listed.id for listed in used}
    others = (
        _listed(entry, name, form, (), _state(path_of(entry, name, form), found) if found else "")
        for entry in entries.values()
        for name, form in entry.quantizations.items()
        if entry.id not in names
    )
    return used + ([] if used_only else list(others)), problem


def _once(models: Iterable[ServedModel]) -> list[ServedModel]:
    return list({(model.id, model.quantization): model for model in models}.values())


def _states(client: Client) -> tuple[dict[str, Any] | None, str | None]:
    """Registers of all nodes by path, with ``active`` where a fetch is under way; or why not."""
    there: dict[str, Any] = {}
    try:
        for keeper in keepers(client.whole_layout):
            found = state(client, keeper)
            for entry in found["weights"]:
                there[entry["path"]] = "incomplete" if entry["lacking"] else "ready"
            if found["active"] and found["progress"]:
                there[f"fetching {found['progress'].get('model')}"] = "fetching"
    except FreeholdError as error:
        return None, error.message
    return there, None


def _state(path: str, found: Mapping[str, Any]) -> str:
    return str(found.get(path, ""))


def _used(
    model: ServedModel, entry: LanguageModel, client: Client, found: Mapping[str, Any] | None
) -> Listed:
    engines = tuple(
        other.engine
        for other in client.whole_layout.models
        if (other.id, other.quantization) == (model.id, model.quantization)
    )
    if model.path is None:
        where = "engine"
    elif found is None:
        where = ""
    else:
        fetching = found.get(f"fetching {model.repository or model.id}", "missing")
        where = _state(model.path, found) or fetching
    return _listed(entry, model.quantization, entry.quantizations[model.quantization], engines, where)


def _listed(
    entry: LanguageModel, name: str, form: Quantization, engines: tuple[str, ...], where: str
) -> Listed:
    size = sum(file.size or 0 for file in form.files) or form.weights_bytes
    source = form.repository or form.ollama or (form.files[0].url if form.files else "")
    return Listed(
        entry.id,
        entry.title,
        entry.kind,
        entry.licence,
        name,
        size,
        str(source),
        form.revision,
        engines,
        where,
    )


# --- what is fetched


def request(client: Client, names: Sequence[str], quantization: str | None = None) -> list[dict[str, Any]]:
    """What to fetch: language models by id, or all of the stack's whose weights a node keeps.

    Raises:
        BadInputError: The catalogue has no such language model, or no such form of it.
        NoWeightsError: There is nothing to fetch.
    """
    entries = catalog.load(client.directory)
    used = {model.id: model for model in client.whole_layout.models if model.path}
    if not names:
        wanted = [(entries[model.id], model.quantization) for model in used.values()]
    else:
        wanted = [_chosen(client, entries, name, quantization, used.get(name)) for name in names]
    if not wanted:
        raise NoWeightsError(
            f"{client.stack.client} uses no language model whose weights a node keeps",
            where=f"{client.loaded.path}: models",
            remedy=f"Name one under models, or here: freehold models fetch {client.stack.client} MODEL",
        )
    return [_wanted(entry, name) for entry, name in wanted]


def _chosen(
    client: Client,
    entries: Mapping[str, LanguageModel],
    name: str,
    quantization: str | None,
    used: ServedModel | None,
) -> tuple[LanguageModel, str]:
    entry = known(client, entries, name)
    forms = {form: each for form, each in entry.quantizations.items() if set(each.engines) - {"ollama"}}
    if not forms:
        raise BadInputError(
            f"{entry.title} is served by Ollama alone, which fetches it itself",
            where=name,
            remedy=f"Name it under models in {client.loaded.path}, and run: freehold up {client.stack.client}",
        )
    chosen = quantization or (used.quantization if used else next(iter(forms)))
    if chosen not in forms:
        raise BadInputError(
            f"The catalogue has no {chosen} of {entry.title} that a node keeps",
            where=name,
            remedy=f"One of: {', '.join(forms)}.",
        )
    return entry, chosen


def known(client: Client, entries: Mapping[str, LanguageModel], name: str) -> LanguageModel:
    """An entry of the catalogue.

    Raises:
        BadInputError: There is none of this name.
    """
    if name not in entries:
        close = nearest(name, entries)
        raise BadInputError(
            f"The catalogue has no language model {name}" + (f"; did you mean {close}?" if close else ""),
            remedy=f"All of them: freehold models list {client.stack.client}",
        )
    return entries[name]


def _wanted(entry: LanguageModel, quantization: str) -> dict[str, Any]:
    form = entry.quantizations[quantization]
    return {
        "id": entry.id,
        "quantization": quantization,
        "repository": form.repository,
        "revision": form.revision,
        "path": path_of(entry, quantization, form),
        "licence": entry.licence,
        "files": [file.model_dump() for file in form.files],
    }


def fetch(client: Client, wanted: Sequence[Mapping[str, Any]], report: Report) -> list[dict[str, Any]]:
    """Fetch weights on every node that keeps some, and lock what is learned; what is there then, by node.

    Raises:
        NoWeightsError: No node keeps weights.
        UnreachableError: A host does not answer; what it fetches goes on.
        WeightsError: They cannot be had; the message says why.
    """
    results = []
    for keeper in required(client):
        lines = ask(client, keeper, ["run", "-"], as_root=True, given=json.dumps({"models": wanted}))
        ended = last(told(lines, report))
        learn_results(client, ended.get("results", []))
        if ended["state"] == "failed":
            raise WeightsError(
                ended["error"]["message"],
                doing=f"fetching weights on {keeper.host}",
                where=keeper.host,
                remedy=ended["error"]["remedy"].replace("CLIENT", client.stack.client)
                or f"Its log says more: journalctl -u weights-fetch on {keeper.host}",
            )
        results += [{"host": keeper.host, **result} for result in ended["results"]]
    return results


# --- what is checked and removed


def verify(client: Client, name: str | None, report: Report) -> list[dict[str, Any]]:
    """Read every file of the weights again; what is damaged, by ``host``, ``path``, ``file`` and ``what``.

    Raises:
        NoWeightsError: No node keeps weights.
        BadInputError: No node has this language model.
        UnreachableError: A host does not answer.
    """
    damaged, read = [], 0
    for keeper in required(client):
        paths = [entry["path"] for entry in _matching(client, keeper, name)] if name else []
        if name and not paths:
            continue
        ended = last(told(ask(client, keeper, ["verify", *paths]), report))
        read += len(ended["read"])
        damaged += [{"host": keeper.host, **one} for one in ended["damaged"]]
    if name and not read:
        raise _not_there(client, name)
    return damaged


def removable(client: Client, name: str | None) -> list[dict[str, Any]]:
    """Entries of the registers that would go: those of a language model, or all that the stack does not use.

    Raises:
        NoWeightsError: No node keeps weights.
        BadInputError: No node has this language model, the stack uses it, or another one is being tried.
        UnreachableError: A host does not answer.
    """
    if running := trial.load(client.directory):
        raise BadInputError(
            f"While {running.model} is tried, {running.instead} looks unused, and has to come back",
            where=str(client.directory / trial.FILE),
            remedy=f"Wait, or end it: freehold models back {client.stack.client}",
        )
    used = {model.path: model for model in client.whole_layout.models if model.path}
    unlocked = {path.rpartition("/")[0]: model for path, model in used.items() if path.endswith("/unlocked")}
    found, kept = [], []
    for keeper in required(client):
        for entry in _matching(client, keeper, name):
            taken = used.get(entry["path"]) or unlocked.get(entry["path"].rpartition("/")[0])
            if taken:
                kept.append(taken)
            else:
                found.append({"host": keeper.host, **entry})
    if name and kept and not found:
        raise BadInputError(
            f"{kept[0].engine} serves {kept[0].title}; its weights stay",
            where=str(kept[0].path),
            remedy=f"Take {kept[0].id} out of models in {client.loaded.path}, run freehold up {client.stack.client}, and"
            " remove it then.",
        )
    if name and not found:
        raise _not_there(client, name)
    return found


def remove(client: Client, entries: Sequence[Mapping[str, Any]]) -> None:
    """Remove weights that :func:`removable` named.

    Raises:
        WeightsError: They could not be removed.
        UnreachableError: A host does not answer.
    """
    for keeper in keepers(client.whole_layout):
        paths = [str(entry["path"]) for entry in entries if entry["host"] == keeper.host]
        if paths:
            last(ask(client, keeper, ["remove", *paths]))


def _matching(client: Client, keeper: ServicePlacement, name: str | None) -> list[dict[str, Any]]:
    """Entries of a node's register, of one language model by its id or repository, or all."""
    entries = catalog.load(client.directory)
    register: list[dict[str, Any]] = state(client, keeper)["weights"]
    if name is None:
        return register
    forms = entries[name].quantizations.items() if name in entries else ()
    repositories = {form.repository for _, form in forms if form.repository} or {name}
    own = {path_of(entries[name], form, each) for form, each in forms}
    return [entry for entry in register if entry["repository"] in repositories or entry["path"] in own]


def _not_there(client: Client, name: str) -> BadInputError:
    return BadInputError(
        f"No node has weights of {name}", remedy=f"What is there: freehold models list {client.stack.client}"
    )
