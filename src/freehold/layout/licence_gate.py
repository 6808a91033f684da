"""What licences say of the client's declared use (``use`` in the stack file): of language models, services and drivers.

Pure: it reads the catalogue and asks nothing. Evidence, and not legal advice (docs/licences.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from freehold.catalog import gpus, licences
from freehold.catalog.licences import Clause, Licence
from freehold.catalog.models import LanguageModel
from freehold.catalog.versions import Artifact
from freehold.layout.types import Layout
from freehold.schema.problems import KeyPath, Problem
from freehold.schema.stack import ModelUse, Stack, Use

_MEMBERS = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
EU = frozenset(_MEMBERS.split())
"""Member states of the European Union, by ISO 3166-1 alpha-2."""

_OTHERWISE = "or hold an agreement with its maker, which docs/licences.md says how to declare"


@dataclass(frozen=True)
class Licensed:
    """Something of the stack that has a licence."""

    path: KeyPath
    """Where the stack file asks for it."""
    title: str
    licence: str | None
    """Name in ``catalog/licences.yml``; unknown when left out."""
    instead: str
    """What to do without it."""
    accepted: bool | None = None
    """Whether the client says to have read a licence that the catalogue does not know; nothing can be said for services."""


@dataclass(frozen=True)
class Verdict:
    """What a licence says of the use."""

    path: KeyPath
    title: str
    """Of what."""
    text: str
    """What is the matter, with the clause and its words."""
    remedy: str
    refused: bool
    """Whether the use is forbidden; otherwise a person has to judge."""


def check(
    stack: Stack, models: Mapping[str, LanguageModel], artifacts: Mapping[str, Iterable[Artifact]]
) -> Iterator[Problem]:
    """What the declared use forbids, as problems of the stack file.

    Args:
        stack: What the client wants.
        models: Language models by id.
        artifacts: What is installed for each service, by its name.
    """
    for verdict in verdicts(stack, models, artifacts):
        if verdict.refused:
            yield Problem(verdict.path, f"{verdict.text} {verdict.remedy}")


def verdicts(
    stack: Stack,
    models: Mapping[str, LanguageModel],
    artifacts: Mapping[str, Iterable[Artifact]],
    layout: Layout | None = None,
) -> Iterator[Verdict]:
    """All that licences say against the declared use, what is forbidden and what a person has to judge.

    Args:
        stack: What the client wants.
        models: Language models by id.
        artifacts: What is installed for each service, by its name.
        layout: What is laid out: of language models and GPUs, those alone that its hosts use; all of the stack when left out.
    """
    people = stack.use.users or len(stack.users)
    for thing in _licensed(stack, models, artifacts, layout):
        yield from judge(thing, stack.use, people)


def judge(thing: Licensed, use: Use, people: int) -> Iterator[Verdict]:
    """What the licence of one thing says.

    Args:
        thing: The thing.
        use: What the client declares.
        people: How many use it.
    """
    licence = licences.load().get(thing.licence or "")
    if licence is None:
        yield from _unknown(thing)
        return
    yield from _forbidden(thing, licence, use, people)
    if licence.commercial is None and use.commercial:
        yield _open(thing, licence, "it is not known whether it allows commercial use.")
    for condition in licence.conditions:
        if use.customers or not condition.customers:
            yield _open(thing, licence, _quoted(condition))
    if licence.attribution and use.customers:
        yield _open(thing, licence, f'those to whom it is offered must be shown "{licence.attribution}".')


def _licensed(
    stack: Stack,
    models: Mapping[str, LanguageModel],
    artifacts: Mapping[str, Iterable[Artifact]],
    layout: Layout | None,
) -> Iterator[Licensed]:
    served = stack.models.keys() if layout is None else {model.id for model in layout.models}
    for name, wanted in stack.models.items():
        if (model := models.get(name)) and name in served:
            accepted = (wanted or ModelUse()).licence_accepted
            yield Licensed(
                ("models", name), model.title, model.licence, "Serve another language model", accepted
            )
    for service, installed in artifacts.items():
        for licence in dict.fromkeys(artifact.licence for artifact in installed):
            yield Licensed(("services", service), service, licence, "Leave the service out")
    cards = gpus.load()
    given = layout and {(host.node, gpu.card) for host in layout.hosts for gpu in host.gpus}
    seen: set[str] = set()
    for node, settings in stack.nodes.items():
        for number, gpu in enumerate(settings.gpus):
            card = cards.get(gpu.card or "")
            if card is None or card.vendor != "nvidia" or card.id in seen:
                continue
            if given is not None and (node, gpu.card) not in given:
                continue
            seen.add(card.id)
            licence = "NVIDIA-Driver-GeForce" if "GeForce" in card.title else "NVIDIA-Driver"
            title = f"the driver of {card.title}"
            yield Licensed(("nodes", node, "gpus", number), title, licence, "Take another card")


def _unknown(thing: Licensed) -> Iterator[Verdict]:
    name = f'"{thing.licence}" is not in the catalogue' if thing.licence else "is not known"
    text = f"the licence of {thing.title} {name}, so nothing can be said of what it allows."
    if thing.accepted is None:
        yield Verdict(thing.path, thing.title, text, "Read it.", refused=False)
    elif not thing.accepted:
        key = ".".join(map(str, thing.path))
        yield Verdict(
            thing.path, thing.title, text, f"Read it; then say {key}.licence_accepted: true.", refused=True
        )


def _forbidden(thing: Licensed, licence: Licence, use: Use, people: int) -> Iterator[Verdict]:
    def refused(what: str, clause: Clause, unless: str) -> Verdict:
        text = f"{thing.title} may not be used {what}: {licence.title}, {_quoted(clause)}"
        remedy = f"{thing.instead}, {f'{unless}, ' if unless else ''}{_OTHERWISE}."
        return Verdict(thing.path, thing.title, text, remedy, refused=True)

    if use.commercial and (clause := licence.not_commercial):
        yield refused("by a business", clause, "say use.commercial: false where it serves none")
    if use.customers and (clause := licence.customers):
        yield refused(
            "for customers", clause, "say use.customers: false where it serves the client's own people alone"
        )
    if (limit := licence.users) and people > limit.more_than:
        yield refused(f"by {people} people", limit, "")
    if region := licence.regions:
        here, there = _countries([use.region]), _countries(region.regions)
        if here <= there:
            yield refused(f"in {use.region}", region, "")
        elif here & there:
            yield _open(thing, licence, f"{_quoted(region)} Name the country in use.region.")


def _open(thing: Licensed, licence: Licence, text: str) -> Verdict:
    return Verdict(thing.path, thing.title, f"{licence.title}: {text}", f"Read {licence.url}.", refused=False)


def _quoted(clause: Clause) -> str:
    return f'{clause.clause}: "{clause.says}"'


def _countries(regions: Iterable[str]) -> frozenset[str]:
    return frozenset().union(*(EU if region == "EU" else {region} for region in regions))
