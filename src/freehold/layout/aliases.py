"""Names of language models that lead elsewhere than the stack says: what ``freehold models promote`` and ``back`` set.

``inventory/<client>/aliases.yml``::

    assistant: {model: qwen3-14b, engine: vllm-2, since: 2026-11-21, previous: {model: qwen3-8b, engine: vllm}}

People and applications ask the router for ``assistant``; the router asks the engine for the language model. An alias moves
that name alone: every other name stays where it is, so that no other service changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, TypeAdapter

from freehold.errors import BadInputError
from freehold.layout.types import ServedModel
from freehold.schema import own
from freehold.schema.problems import Problem
from freehold.schema.stack import Name, Part

FILE = "aliases.yml"


class AliasesError(BadInputError):
    """``aliases.yml`` is wrong."""


class Target(Part):
    """A language model at an engine."""

    model: Annotated[str, Field(min_length=1)]
    """Its id in the stack, or its name at the engine."""
    engine: Name
    """The service that serves it."""


class Alias(Target):
    """Where a name leads."""

    since: date
    """Since when."""
    previous: Target | None = None
    """Where it led before."""


def load(directory: Path) -> dict[str, Alias]:
    """The aliases of a client by name; none where there is no file.

    Raises:
        AliasesError: The file is wrong.
    """
    path = directory / FILE
    if not path.is_file():
        return {}
    return own.read(
        path,
        TypeAdapter(dict[str, Alias]),
        AliasesError,
        "The file that says where names of language models lead cannot be read",
        "Correct it, or remove it: then names lead where the stack file says.",
        empty={},
    )


def dump(aliases: Mapping[str, Alias]) -> str:
    """The text of the file."""
    head = "# Where names of language models lead, as `freehold models promote` and `back` set it.\n"
    plain = {
        name: alias.model_dump(mode="json", exclude_none=True) for name, alias in sorted(aliases.items())
    }
    return head + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def entry(
    engines: Iterable[Mapping[str, Any]], target: Target, models: Sequence[ServedModel] = ()
) -> Mapping[str, Any] | None:
    """The entry of a language model in an engine's list; none where the engine does not serve it."""
    ids = {model.served for model in models if (model.engine, model.id) == (target.engine, target.model)}
    for engine in engines:
        if engine["name"] == target.engine:
            for model in engine["models"]:
                served = model.get("served") or model["name"]
                if served in ids or target.model in (served, model["name"]):
                    found: Mapping[str, Any] = model
                    return found
    return None


def lay_over(
    engines: Sequence[Mapping[str, Any]],
    aliases: Mapping[str, Alias],
    problems: list[Problem],
    models: Sequence[ServedModel] = (),
) -> list[dict[str, Any]]:
    """The engines with their language models, each alias at the engine where it leads and nowhere else.

    Args:
        engines: As the router gets them: ``name`` and ``models``, each with ``name``, ``served`` and ``kind``.
        aliases: Where names lead.
        problems: Takes aliases that lead to what is not served.
        models: The language models of the stack, by which ids are known.
    """
    targets: dict[str, dict[str, Any]] = {}
    for name, alias in aliases.items():
        found = entry(engines, alias, models)
        if found is None:
            problems.append(
                Problem(
                    (FILE, name),
                    f"leads to {alias.model} on {alias.engine}, which the stack does not serve",
                    found=name,
                    allowed="`freehold models back`, or remove the name from the file",
                )
            )
            continue
        targets[name] = {**found, "name": name, "served": found.get("served") or found["name"]}
    return [
        {
            **engine,
            "models": [
                *(target for name, target in targets.items() if aliases[name].engine == engine["name"]),
                *(dict(model) for model in engine["models"] if model["name"] not in targets),
            ],
        }
        for engine in engines
    ]
