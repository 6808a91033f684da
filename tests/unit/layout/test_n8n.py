"""What n8n is told of the other services, as they come and go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.unit.layout.conftest import stack

from freehold.layout.compute import compute


def variables(*others: str, **changes: Any) -> dict[str, Any]:
    """Variables of n8n in a stack with other services, by the real roles."""
    services: dict[str, Any] = {"caddy": None, "postgres": None, "n8n": None, **dict.fromkeys(others)}
    services |= {"ollama": {"device": "cpu", "models": MODELS}} if "ollama" in others else {}
    return compute(stack(services=services, **changes), Path("/inventory/acme")).service("n8n").variables


MODELS = [
    {"name": "chat", "url": "http://x/chat.gguf", "sha256": "1" * 64},
    {"name": "embed", "kind": "embedding", "url": "http://x/embed.gguf", "sha256": "2" * 64},
]


def test_alone_it_knows_no_services_inside() -> None:
    found = variables()

    assert found["n8n_router"] == found["n8n_qdrant"] == found["n8n_langfuse"] == found["n8n_queue"] == {}
    assert found["n8n_reachable"] == []
    assert found["n8n_registry"] == ""


def test_it_gets_the_router_with_its_models_and_its_own_key() -> None:
    router = variables("litellm", "ollama")["n8n_router"]

    assert (router["chat_model"], router["embedding_model"]) == ("chat", "embed")
    assert router["url"] == "http://10.20.0.150:4000/v1"
    assert "litellm.key_n8n" in router["key"]
    assert variables("litellm")["n8n_router"]["chat_model"] == ""


def test_workflows_may_call_what_they_get_credentials_for() -> None:
    found = variables("litellm", "ollama", "qdrant")

    assert found["n8n_reachable"] == ["10.20.0.150", "10.20.0.175"]
    assert found["n8n_qdrant"]["url"] == "https://10.20.0.175:6333"


def test_valkey_gives_it_a_queue() -> None:
    assert variables("valkey")["n8n_queue"]["address"] == "10.20.0.125"


def test_packages_come_from_the_mirror() -> None:
    found = variables(sources={"mirror": "https://mirror.acme.internal/"})

    assert found["n8n_registry"] == "https://mirror.acme.internal/npm/"


def test_its_workflows_ask_language_models_of_the_house_alone() -> None:
    cloud = {
        "providers": {"anthropic": None},
        "cloud": {"a-cloud-model": {"provider": "anthropic", "model": "x", "groups": ["staff"]}},
        "tasks": {"a-task": {"cloud": "a-cloud-model"}},
    }
    changes: dict[str, Any] = {"groups": [{"name": "staff"}], "routing": cloud}
    router = variables("litellm", "ollama", **changes)["n8n_router"]

    assert (router["chat_model"], router["embedding_model"]) == ("chat", "embed")
    # Who asks, n8n cannot vouch for: it has no key to sign that with.
    assert "openwebui.user_key" not in str(variables("litellm", "ollama", "openwebui", **changes))
