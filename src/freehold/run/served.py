"""Since when each language model is served, and which have been for long: ``inventory/<client>/served.yml``.

There are better language models every few months, and old ones lose their maintainers. Freehold does not look for them; it
reminds, after the months that the stack sets (``review_months``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from freehold.errors import BadInputError
from freehold.layout import aliases
from freehold.layout.aliases import Target
from freehold.layout.types import Layout
from freehold.run.context import Client
from freehold.schema import own
from freehold.vault import write_private

FILE = "served.yml"
_HEAD = (
    "# Written by Freehold: since when each name leads to its language model. A reminder counts from here.\n"
)


class Serving(Target):
    """What a name leads to, and since when."""

    since: date


@dataclass(frozen=True)
class Old:
    """A language model that has been served for long."""

    name: str
    model: str
    since: date
    months: int

    @property
    def text(self) -> str:
        """One sentence."""
        named = self.model if self.name == self.model else f"{self.name} is {self.model}, which"
        return f"{named} is served since {self.since:%d %B %Y}, for {self.months} months or more: there may be a better one"


def leads(layout: Layout, directory: Path) -> dict[str, Target]:
    """Where each name leads: aliases, then the stack's language models; of engines without any, what their settings say."""
    found: dict[str, Target] = {}
    router = next((service for service in layout.services if service.role == "litellm"), None)
    ids = {(model.engine, model.served): model.id for model in layout.models}
    for engine in router.variables["litellm_engines"] if router else ():
        for model in engine.get("models", ()):
            name = model.get("served") or model["name"]  # a client's own list of engines may leave it out
            served = ids.get((engine["name"], name), name)
            found.setdefault(model["name"], Target(model=served, engine=engine["name"]))
    for each in layout.models:
        found.setdefault(each.name, Target(model=each.id, engine=each.engine))
    return found | {
        name: Target(model=alias.model, engine=alias.engine)
        for name, alias in aliases.load(directory).items()
    }


def load(directory: Path) -> dict[str, Serving]:
    """What was noted; nothing where no run has.

    Raises:
        BadInputError: The file is wrong.
    """
    path = directory / FILE
    if not path.is_file():
        return {}
    return own.read(
        path,
        TypeAdapter(dict[str, Serving]),
        BadInputError,
        "The file that says since when language models are served cannot be read",
        "Remove it: the next run writes it anew, and reminders count from then on.",
        empty={},
    )


def note(client: Client, today: date | None = None) -> None:
    """Note what is served from now on. A name that leads to the same language model keeps its day."""
    known = load(client.directory)
    now = leads(client.whole_layout, client.directory)
    noted = {
        name: known[name]
        if name in known and known[name].model == target.model
        else Serving(model=target.model, engine=target.engine, since=today or date.today())
        for name, target in now.items()
    }
    if noted != known:
        plain = {name: serving.model_dump(mode="json") for name, serving in sorted(noted.items())}
        path = client.directory / FILE
        write_private(path, (_HEAD + yaml.safe_dump(plain, sort_keys=False)).encode())
        path.chmod(0o644)


def overdue(serving: Mapping[str, Serving], months: int, today: date) -> list[Old]:
    """Names that have led to the same language model for so many months."""
    return [
        Old(name, each.model, each.since, months)
        for name, each in sorted(serving.items())
        if (today.year - each.since.year) * 12 + today.month - each.since.month - (today.day < each.since.day)
        >= months
    ]


def reminders(client: Client, today: date | None = None) -> list[Old]:
    """Language models that should be looked at again, after the months that the stack sets."""
    now = leads(client.whole_layout, client.directory)
    serving = {name: each for name, each in load(client.directory).items() if name in now}
    return overdue(serving, client.stack.review_months, today or date.today())
