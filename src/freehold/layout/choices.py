"""What people choose from in a chat: language models of the house, those of the cloud, and kinds of work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from freehold.schema.stack import Routing


def choices(routing: Routing, engines: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The choices by ``name``, each with ``description``, ``groups`` (none: everybody's) and ``tools``.

    Who sees a choice is a courtesy: what may be asked of it, the router decides. ``tools`` says whether it may look into
    files, notes and other chats by itself; what may go to the cloud does not, since their contents could not go there.

    Args:
        routing: What the stack says of the cloud.
        engines: With their ``models``, each with ``name`` and ``kind``.
    """
    names = {
        model["name"]: None for engine in engines for model in engine["models"] if model["kind"] == "chat"
    }
    found: list[dict[str, Any]] = [_choice(name) for name in names]
    for name, model in routing.cloud.items():
        provider = routing.providers[model.provider]
        where = f", {provider.region}" if provider and provider.region else ""
        found.append(_choice(name, f"Cloud: {model.provider}{where}", list(model.groups), tools=False))
    for name, task in routing.tasks.items():
        found.append(_choice(name, task.description, tools=task.cloud is None))
    return found


def _choice(
    name: str, description: str = "", groups: list[str] | None = None, *, tools: bool = True
) -> dict[str, Any]:
    return {"name": name, "description": description, "groups": groups, "tools": tools}
