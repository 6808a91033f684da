"""What people choose from in the chat, by the real roles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.unit.layout.conftest import stack
from tests.unit.layout.test_n8n import MODELS

from freehold.layout.compute import compute
from freehold.routing import markers

ROUTING = {
    "providers": {"anthropic": {"region": "US"}, "mistral": None},
    "cloud": {
        "claude": {"provider": "anthropic", "model": "x", "groups": ["lawyers"]},
        "large": {"provider": "mistral", "model": "y"},
    },
    "tasks": {"coding": {"description": "Programs", "cloud": "claude"}, "summary": {"local": "chat"}},
}


def variables(**changes: Any) -> dict[str, Any]:
    services = {
        "caddy": None,
        "litellm": None,
        "openwebui": None,
        "ollama": {"device": "cpu", "models": MODELS},
    }
    given = {"services": services, "groups": [{"name": "lawyers"}]} | changes
    return compute(stack(**given), Path("/inventory/acme")).service("openwebui").variables


def test_without_a_cloud_everybody_sees_the_language_models_that_chat() -> None:
    found = variables()

    assert found["openwebui_chat_models"] == ["chat"]
    assert found["openwebui_models"] == []


def test_people_see_what_their_groups_may_use() -> None:
    found = variables(routing=ROUTING)

    assert found["openwebui_chat_models"] == ["chat", "claude", "large", "coding", "summary"]
    assert {model["name"]: (model["groups"], model["tools"]) for model in found["openwebui_models"]} == {
        "chat": (None, True),
        "claude": (["lawyers"], False),
        "large": ([], False),
        "coding": (None, False),
        "summary": (None, True),
    }
    assert [model["description"] for model in found["openwebui_models"]] == [
        "",
        "Cloud: anthropic, US",
        "Cloud: mistral",
        "Programs",
        "",
    ]


def test_work_behind_the_scenes_and_documents_stay_with_language_models_of_the_house() -> None:
    more = [*MODELS, {"name": "small", "url": "http://x/small.gguf", "sha256": "3" * 64}]
    services = {
        "caddy": None,
        "litellm": None,
        "openwebui": None,
        "ollama": {"device": "cpu", "models": more},
    }
    first = variables(routing=ROUTING, services=services)
    named = variables(routing=ROUTING | {"local": "small"}, services=services)

    assert first["openwebui_task_model"] == "chat"
    assert named["openwebui_task_model"] == "small"
    assert first["openwebui_embedding_model"] == named["openwebui_embedding_model"] == "embed"


def test_the_chat_marks_what_it_adds_to_a_question() -> None:
    assert variables()["openwebui_context_mark"] == markers.CONTEXT_MARK
