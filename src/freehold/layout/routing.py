"""The policy of routing, as the router gets it: what the stack file says, held against what the stack serves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from freehold.catalog import services
from freehold.catalog.services import ServiceMeta
from freehold.layout import variables
from freehold.routing import providers
from freehold.routing.policy import Policy
from freehold.schema.problems import KeyPath, Problem, nearest
from freehold.schema.stack import Routing, Stack

ROUTER = "litellm"
"""The service that keeps the policy."""
MEMORY = "valkey"
"""The service that remembers conversations and what people use."""

PREFIXES = {
    "anthropic": "anthropic",
    "openai": "openai",
    "mistral": "mistral",
    "perplexity": "perplexity",
    "azure": "azure",
    "openai-compatible": "openai",
}
"""Before the name of a language model, LiteLLM wants that of its provider (https://docs.litellm.ai/docs/providers)."""

NOTICED = ("openwebui",)
"""Applications whose answers people read as they come."""

LANGUAGE = "spacy-"
"""Before the two letters of a language: the artifact that is its language model for Presidio."""

PRESIDIO_MEMORY, LANGUAGE_MEMORY = 256, 320
"""MiB that Presidio needs by itself and for each language: docs/sensitive.md says how they were measured."""
PRESIDIO_DISK = 2
"""GiB that it needs with all its languages."""

_MONTH = 31 * 86400


class CloudWay(BaseModel):
    """A cloud language model as LiteLLM is told of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    provider: str
    model: str
    """With LiteLLM's name of the provider before it."""
    endpoint: str
    """Base address."""
    api_version: str | None
    region: str | None
    input_price: float | None
    """US dollars for a million tokens."""
    output_price: float | None


class RoutingPolicy(BaseModel):
    """Which requests may leave, and by which ways. Without secrets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    local: str
    """Who answers where nobody else is named; empty where the stack serves no chat."""
    models: tuple[str, ...]
    """Names of the local language models."""
    cloud: dict[str, dict[str, Any]]
    tasks: dict[str, dict[str, Any]]
    countries: tuple[str, ...]
    ignore: tuple[str, ...]
    names: bool
    presidio: dict[str, tuple[str, ...]] | None
    """``languages`` and ``finds`` (categories that count); None where it is off."""
    never_leaves: tuple[str, ...]
    notice: bool
    notice_applications: tuple[str, ...] = NOTICED
    keep_seconds: int
    """How long a conversation is remembered: no shorter than its record is kept."""
    ways: tuple[CloudWay, ...]
    providers: tuple[str, ...]
    """Those whose key the client gives."""
    users: dict[str, dict[str, Any]]
    """People by mail address, with their groups and limits."""

    def file(self) -> dict[str, Any]:
        """The content of ``routing.json``."""
        return self.model_dump(mode="json", exclude={"ways", "providers", "users", "names", "local"})

    def rules(self) -> Policy:
        """The policy as the code that decides has it."""
        return Policy.from_dict(self.file())


def key_name(provider: str) -> str:
    """Name of the secret that is the key of a provider, such as ``litellm.cloud_anthropic``."""
    return f"{ROUTER}.cloud_{provider.replace('-', '_')}"


def wanted(stack: Stack) -> Iterable[str]:
    """Services that come along: the memory of conversations and of limits."""
    limited = any(group.requests_per_minute or group.tokens_per_day for group in stack.groups)
    return [MEMORY] if stack.routing.cloud or limited else []


def languages() -> tuple[str, ...]:
    """Languages for which Presidio has a language model, by their two letters."""
    artifacts = services.load()[ROUTER].artifacts
    return tuple(sorted(name.removeprefix(LANGUAGE) for name in artifacts if name.startswith(LANGUAGE)))


def sized(stack: Stack, meta: ServiceMeta) -> ServiceMeta:
    """A service with what its host needs besides, where Presidio runs there."""
    presidio = stack.routing.sensitive.presidio
    if meta.name != ROUTER or not presidio or not stack.routing.cloud:
        return meta
    resources = meta.resources.model_copy(
        update={
            "memory": meta.resources.memory + PRESIDIO_MEMORY + LANGUAGE_MEMORY * len(presidio.languages),
            "disk": meta.resources.disk + PRESIDIO_DISK,
        }
    )
    return meta.model_copy(update={"resources": resources})


def policy(
    stack: Stack, engines: Sequence[Mapping[str, Any]], problems: list[Problem], present: Iterable[str]
) -> RoutingPolicy | None:
    """The policy of a stack; None where nothing may leave, no kinds of work are named and nobody has a limit.

    Args:
        stack: What the client wants.
        engines: As the router gets them: with ``models``, each with ``name`` and ``kind``.
        problems: Takes what is wrong.
        present: Names of the services of the stack.
    """
    routing = stack.routing
    if not routing.cloud and not routing.tasks and not list(wanted(stack)):
        problems += _leads_nowhere(routing)
        return None
    kinds = {
        model["name"]: model.get("kind", "chat") for engine in engines for model in engine.get("models", ())
    }
    chats = [name for name, kind in kinds.items() if kind == "chat"]
    first = [use.name or id_ if use else id_ for id_, use in stack.models.items()]
    local = routing.local or next((name for name in [*first, *chats] if name in chats), "")
    problems += _problems(stack, chats, kinds, local, set(present))
    return RoutingPolicy(
        local=local,
        models=tuple(kinds),
        cloud={
            name: {"groups": sorted(model.groups), "local": model.local or local}
            for name, model in routing.cloud.items()
        },
        tasks={
            name: {"local": task.local or local, "cloud": task.cloud} for name, task in routing.tasks.items()
        },
        countries=routing.sensitive.countries,
        ignore=routing.sensitive.ignore,
        names=routing.sensitive.names,
        presidio=_presidio(routing),
        never_leaves=routing.never_leaves,
        notice=routing.notice,
        keep_seconds=stack.audit.retention_months * _MONTH,
        ways=tuple(_ways(routing)),
        providers=tuple(sorted({model.provider for model in routing.cloud.values()})),
        users={user.mail.lower(): _person(stack, user.groups) for user in stack.users},
    )


def names_for_role(
    found: RoutingPolicy | None, artifact: Callable[[str], Mapping[str, Any]]
) -> dict[str, Any]:
    """What expressions of ``meta/service.yml`` see as ``policy``; empty where there is none.

    Args:
        found: The policy.
        artifact: What a role is told of an artifact.
    """
    if found is None:
        return {}
    return {
        "file": found.file(),
        "users": found.users,
        "names": found.names and bool(found.cloud),
        "presidio": {
            language: {field: artifact(f"{LANGUAGE}{language}")[field] for field in ("url", "sha256")}
            for language in (found.presidio or {}).get("languages", ())
            if language in languages()
        },
        "answered": {name: entry["local"] for name, entry in sorted({**found.cloud, **found.tasks}.items())},
        "ways": [
            way.model_dump(mode="json") | {"key": variables.lookup(key_name(way.provider))}
            for way in found.ways
        ],
    }


def _presidio(routing: Routing) -> dict[str, tuple[str, ...]] | None:
    presidio = routing.sensitive.presidio
    if not presidio or not routing.cloud:
        return None
    finds = tuple(kind for kind in presidio.finds if kind not in routing.sensitive.ignore)
    return {"languages": tuple(dict.fromkeys(presidio.languages)), "finds": finds}


def _ways(routing: Routing) -> Iterable[CloudWay]:
    for name, model in routing.cloud.items():
        provider = routing.providers.get(model.provider)
        kind = (provider and provider.kind) or model.provider
        yield CloudWay(
            name=name,
            provider=model.provider,
            model=f"{PREFIXES[kind]}/{model.model}",
            endpoint=providers.endpoint(kind, provider.endpoint if provider else None),
            api_version=provider.api_version if provider else None,
            region=provider.region if provider else None,
            input_price=model.input_price,
            output_price=model.output_price,
        )


def _person(stack: Stack, groups: Sequence[str]) -> dict[str, Any]:
    own = [group for group in stack.groups if group.name in groups]

    def most(limits: Iterable[int | None]) -> int | None:
        return max((limit for limit in limits if limit), default=None)

    return {
        "groups": sorted(groups),
        "requests_per_minute": most(group.requests_per_minute for group in own),
        "tokens_per_day": most(group.tokens_per_day for group in own),
    }


def _leads_nowhere(routing: Routing) -> Iterable[Problem]:
    if routing.providers:
        yield Problem(
            ("routing", "providers"),
            "no cloud language model uses them",
            allowed="name language models under routing.cloud, or leave the providers out",
        )


def _problems(
    stack: Stack, chats: Sequence[str], kinds: Mapping[str, str], local: str, present: set[str]
) -> Iterable[Problem]:
    routing = stack.routing
    if ROUTER not in present:
        if routing.cloud or routing.tasks:
            yield Problem(("routing",), "needs the router, which decides", allowed="litellm under services")
            return
        for position, limited in enumerate(stack.groups):
            for limit in ("requests_per_minute", "tokens_per_day"):
                if getattr(limited, limit):
                    where = ("groups", position, limit)
                    yield Problem(where, "needs the router, which counts", allowed="litellm under services")
        return
    groups = {group.name for group in stack.groups}
    if (routing.cloud or routing.tasks) and not local:
        yield Problem(
            ("routing",),
            "needs a local language model that chats, for what may not leave",
            allowed="a language model under models, with an engine under services",
        )
    places: list[tuple[KeyPath, str | None]] = [(("routing", "local"), routing.local)]
    places += [(("routing", "cloud", name, "local"), model.local) for name, model in routing.cloud.items()]
    places += [(("routing", "tasks", name, "local"), task.local) for name, task in routing.tasks.items()]
    for key, name in places:
        if name is not None and name not in chats:
            reason = (
                "is no language model that chats" if name in kinds else "is no language model of this stack"
            )
            yield Problem(
                key, reason, found=name, nearest=nearest(name, chats), allowed=", ".join(chats) or "none yet"
            )
    for name in [*routing.cloud, *routing.tasks]:
        if name in kinds:
            yield Problem(("routing",), "a local language model bears this name already", found=name)
    for name, model in routing.cloud.items():
        for position, group in enumerate(model.groups):
            if group not in groups:
                yield Problem(
                    ("routing", "cloud", name, "groups", position),
                    "unknown group",
                    found=group,
                    nearest=nearest(group, groups),
                    allowed=", ".join(sorted(groups)) or "declare it under groups first",
                )
    yield from _of_providers(routing)
    yield from _of_detectors(routing)


def _of_providers(routing: Routing) -> Iterable[Problem]:
    used = {model.provider for model in routing.cloud.values()}
    for name, provider in routing.providers.items():
        if name not in used:
            yield Problem(
                ("routing", "providers", name),
                "no cloud language model uses it",
                allowed="a language model of it under routing.cloud, or leave it out",
            )
        kind = (provider and provider.kind) or name
        if kind == "azure" and not (provider and provider.api_version):
            yield Problem(
                ("routing", "providers", name, "api_version"),
                "is missing: Azure answers by a version of its API",
                allowed="such as 2025-04-01-preview",
            )


def _of_detectors(routing: Routing) -> Iterable[Problem]:
    if presidio := routing.sensitive.presidio:
        known = languages()
        for position, language in enumerate(presidio.languages):
            if language not in known:
                yield Problem(
                    ("routing", "sensitive", "presidio", "languages", position),
                    "there is no language model for this language whose checksum is known and that companies may use",
                    found=language,
                    allowed=", ".join(known),
                )
        if not set(presidio.finds) - set(routing.sensitive.ignore):
            yield Problem(
                ("routing", "sensitive", "presidio"),
                "finds nothing that counts: all of it is ignored",
                allowed="leave presidio out, or take what it finds out of routing.sensitive.ignore",
            )
    if not routing.sensitive.countries and not routing.sensitive.ignore:
        return
    from freehold.routing import detect  # its patterns take a while

    known_countries, categories = set(detect.COUNTRIES), set(detect.CATEGORIES)
    for position, country in enumerate(routing.sensitive.countries):
        if country not in known_countries:
            yield Problem(
                ("routing", "sensitive", "countries", position),
                "there are no detectors for this country",
                found=country,
                allowed=", ".join(sorted(known_countries)),
            )
    for position, category in enumerate(routing.sensitive.ignore):
        if category not in categories:
            yield Problem(
                ("routing", "sensitive", "ignore", position),
                "unknown category",
                found=category,
                nearest=nearest(category, categories),
                allowed=", ".join(sorted(categories)),
            )
