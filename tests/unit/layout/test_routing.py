"""The policy of routing as the router gets it, and what a stack file may not say of it; by the real roles."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.layout.conftest import stack
from tests.unit.layout.test_n8n import MODELS

from freehold.catalog import licences, versions
from freehold.layout.compute import LayoutError, compute
from freehold.layout.routing import LANGUAGE_MEMORY, PRESIDIO_MEMORY, RoutingPolicy, languages
from freehold.layout.types import Layout

SERVICES = {"caddy": None, "litellm": None, "openwebui": None, "ollama": {"device": "cpu", "models": MODELS}}
GROUPS = [
    {"name": "lawyers", "requests_per_minute": 20},
    {"name": "office", "requests_per_minute": 5, "tokens_per_day": 1000},
]
ADA = {"name": "Ada", "mail": "Ada@Acme.example", "groups": ["lawyers", "office"]}
ROUTING: dict[str, Any] = {
    "providers": {
        "anthropic": None,
        "house": {"kind": "openai-compatible", "endpoint": "https://ai.acme.example/v1"},
    },
    "cloud": {
        "claude": {"provider": "anthropic", "model": "x", "groups": ["lawyers"], "input_price": 3.0},
        "own": {"provider": "house", "model": "y"},
    },
    "tasks": {"coding": {"cloud": "claude"}},
}


def laid(**changes: Any) -> Layout:
    given = {"services": SERVICES, "groups": GROUPS, "users": [ADA], "routing": ROUTING} | changes
    return compute(stack(**given), Path("/inventory/acme"))


def policy(**changes: Any) -> RoutingPolicy:
    found = laid(**changes).routing
    assert found
    return found


def routing(**changes: Any) -> dict[str, Any]:
    return {**ROUTING, **changes}


def _examples() -> list[dict[str, Any]]:
    page = (Path(__file__).parents[3] / "docs/routing.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    return [block for block in blocks if "routing" in block]


@pytest.mark.parametrize(
    "example", _examples(), ids=lambda example: ",".join(example["routing"]["providers"])
)
def test_what_the_page_shows_is_a_policy(example: dict[str, Any]) -> None:
    assert set(policy(**example).cloud) == set(example["routing"]["cloud"])


def test_the_page_shows_two_clients() -> None:
    assert len(_examples()) == 2


def test_without_routing_and_limits_there_is_no_policy_and_no_memory() -> None:
    found = laid(routing={}, groups=[{"name": "lawyers"}, {"name": "office"}])

    assert found.routing is None
    assert "valkey" not in {service.name for service in found.services}
    assert found.service("litellm").variables["litellm_routing"] == {}
    assert found.service("litellm").variables["litellm_cloud"] == []


@pytest.mark.parametrize("given", [{}, {"routing": {}}])
def test_cloud_language_models_and_limits_bring_the_memory(given: dict[str, Any]) -> None:
    found = laid(**given)

    assert "valkey" in {service.name for service in found.services}
    assert found.service("litellm").variables["litellm_memory"]["address"].endswith(":6379")


def test_each_cloud_language_model_has_a_way_and_a_local_one_in_its_place() -> None:
    found = policy()

    assert found.cloud == {
        "claude": {"groups": ["lawyers"], "local": "chat"},
        "own": {"groups": [], "local": "chat"},
    }
    assert [(way.model, way.endpoint) for way in found.ways] == [
        ("anthropic/x", "https://api.anthropic.com"),
        ("openai/y", "https://ai.acme.example/v1"),
    ]
    assert found.rules().local_of("coding") == "chat"
    assert found.rules().cloud_of("coding") == "claude"


def test_a_person_has_the_most_generous_limits_of_the_groups_and_is_known_in_small_letters() -> None:
    assert policy().users == {
        "ada@acme.example": {
            "groups": ["lawyers", "office"],
            "requests_per_minute": 20,
            "tokens_per_day": 1000,
        }
    }


def test_keys_of_providers_are_secrets_that_the_client_gives() -> None:
    found = laid().service("litellm")

    assert {"litellm.cloud_anthropic", "litellm.cloud_house"} <= set(found.secrets)
    assert "litellm.names" in found.secrets
    assert "litellm.names" not in laid(routing={}).service("litellm").secrets


def test_conversations_are_remembered_no_shorter_than_their_record_is_kept() -> None:
    kept = laid(audit={"retention_months": 6})

    assert kept.routing
    assert kept.routing.keep_seconds >= 6 * 365 / 12 * 86400


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cloud": {}, "tasks": {}}, "no cloud language model uses them"),
        ({"providers": {**ROUTING["providers"], "openai": None}}, "no cloud language model uses it"),
        ({"local": "embed"}, "is no language model that chats"),
        ({"local": "chatt"}, "is no language model of this stack"),
        ({"tasks": {"coding": {"local": "nobody"}}}, "is no language model of this stack"),
        ({"tasks": {"chat": {}}}, "a local language model bears this name already"),
        (
            {"cloud": {**ROUTING["cloud"], "claude": {**ROUTING["cloud"]["claude"], "groups": ["lawyer"]}}},
            "unknown group",
        ),
        ({"sensitive": {"countries": ["XX"]}}, "there are no detectors for this country"),
        ({"sensitive": {"ignore": ["iban"]}}, "unknown category"),
        ({"sensitive": {"presidio": {"languages": ["de", "it"]}}}, "no language model for this language"),
        ({"sensitive": {"presidio": {"languages": ["xx"]}}}, "de, en, es, fr, nl, pl, pt"),
        (
            {"sensitive": {"presidio": {"languages": ["de"], "finds": ["person"]}, "ignore": ["person"]}},
            "finds nothing that counts",
        ),
        (
            {
                "providers": {"azure": {"endpoint": "https://acme.openai.azure.com"}},
                "cloud": {"gpt": {"provider": "azure", "model": "x"}},
                "tasks": {},
            },
            "Azure answers by a version of its API",
        ),
    ],
)
def test_what_cannot_be(given: dict[str, Any], said: str) -> None:
    with pytest.raises(LayoutError, match=said):
        laid(routing=routing(**given), groups=[{"name": "lawyers"}, {"name": "office"}])


def test_without_a_router_or_a_local_language_model_nothing_is_routed() -> None:
    with pytest.raises(LayoutError, match="needs the router"):
        laid(services={"caddy": None})
    with pytest.raises(LayoutError, match="needs a local language model that chats"):
        laid(services={"caddy": None, "litellm": None})


@pytest.mark.parametrize("limit", ["requests_per_minute", "tokens_per_day"])
def test_a_limit_without_the_router_is_said_where_it_stands(limit: str) -> None:
    with pytest.raises(LayoutError, match=rf"groups\[1\]\.{limit}: needs the router, which counts"):
        laid(services={"caddy": None}, routing={}, groups=[{"name": "lawyers"}, {"name": "office", limit: 9}])


def presidio(**given: Any) -> Layout:
    return laid(routing=routing(sensitive={"presidio": {"languages": ["de", "en"]}, **given}))


def test_presidio_comes_with_the_language_models_of_its_languages() -> None:
    found = presidio().service("litellm").variables

    assert found["litellm_routing"]["presidio"] == {
        "languages": ["de", "en"],
        "finds": ["person", "organisation"],
    }
    assert set(found["litellm_presidio"]) == {"de", "en"}
    assert found["litellm_presidio"]["de"]["url"].endswith("/de_core_news_md-3.8.0-py3-none-any.whl")
    assert laid().service("litellm").variables["litellm_presidio"] == {}
    assert laid().service("litellm").variables["litellm_routing"]["presidio"] is None


def test_what_is_ignored_presidio_does_not_find() -> None:
    rules = presidio(ignore=["organisation"]).routing

    assert rules
    assert rules.rules().presidio == {"person"}


def test_presidio_makes_the_host_of_the_router_larger() -> None:
    with_it, without = presidio().host("litellm"), laid().host("litellm")

    assert with_it.memory - without.memory == PRESIDIO_MEMORY + 2 * LANGUAGE_MEMORY
    assert with_it.disk > without.disk
    assert presidio().host("openwebui").memory == laid().host("openwebui").memory


def test_without_a_cloud_language_model_there_is_nothing_for_presidio_to_do() -> None:
    sensitive = {"presidio": {"languages": ["de"]}}
    found = laid(routing={"tasks": {"coding": {}}, "sensitive": sensitive})

    assert found.service("litellm").variables["litellm_presidio"] == {}
    assert found.host("litellm").memory == laid().host("litellm").memory


def test_each_language_on_offer_has_a_file_with_a_checksum() -> None:
    lock = versions.load()

    assert languages() == ("de", "en", "es", "fr", "nl", "pl", "pt")
    for language in languages():
        entry = lock[f"spacy-{language}"]
        assert entry.pinned
        assert f"/{language}_core_" in str(entry.url)
        assert licences.load()[entry.licence].commercial
