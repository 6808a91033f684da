"""Names of language models that lead elsewhere than the stack says."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from freehold.layout import aliases
from freehold.layout.aliases import Alias, AliasesError, Target, lay_over
from freehold.layout.compute import LayoutError, compute
from freehold.schema.problems import Problem
from freehold.schema.stack import Stack

ENGINES: list[dict[str, Any]] = [
    {
        "name": "vllm",
        "url": "http://a/v1",
        "models": [{"name": "assistant", "served": "qwen3-8b", "kind": "chat"}],
    },
    {
        "name": "vllm-2",
        "url": "http://b/v1",
        "models": [{"name": "qwen3-14b", "served": "qwen3-14b", "kind": "chat"}],
    },
    {"name": "ollama", "url": "http://c/v1", "models": [{"name": "bge-m3", "kind": "embedding"}]},
]
SINCE = date(2026, 11, 21)


def alias(model: str, engine: str) -> Alias:
    return Alias(model=model, engine=engine, since=SINCE)


def names(engines: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Where each name leads: by engine, the language model there."""
    return {
        engine["name"]: {model["name"]: model.get("served") or model["name"] for model in engine["models"]}
        for engine in engines
    }


def test_without_aliases_nothing_changes() -> None:
    assert lay_over(ENGINES, {}, []) == ENGINES


def test_a_name_leads_to_another_language_model_and_no_more_to_the_first() -> None:
    problems: list[Problem] = []

    found = lay_over(ENGINES, {"assistant": alias("qwen3-14b", "vllm-2")}, problems)

    assert problems == []
    assert names(found) == {
        "vllm": {},
        "vllm-2": {"assistant": "qwen3-14b", "qwen3-14b": "qwen3-14b"},
        "ollama": {"bge-m3": "bge-m3"},
    }


def test_the_set_of_names_stays_so_that_no_other_service_changes() -> None:
    before = {model["name"] for engine in ENGINES for model in engine["models"]}
    found = lay_over(ENGINES, {"assistant": alias("qwen3-14b", "vllm-2")}, [])

    assert {model["name"] for engine in found for model in engine["models"]} == before


def test_back_to_where_it_led_is_as_it_was() -> None:
    assert lay_over(ENGINES, {"assistant": alias("qwen3-8b", "vllm")}, []) == ENGINES


def test_a_language_model_without_a_name_of_its_own_at_the_engine() -> None:
    found = lay_over(ENGINES, {"meaning": alias("bge-m3", "ollama")}, [])

    assert names(found)["ollama"] == {"meaning": "bge-m3", "bge-m3": "bge-m3"}
    assert found[2]["models"][0]["kind"] == "embedding"


@pytest.mark.parametrize("target", [("qwen3-14b", "vllm"), ("qwen3-14b", "sglang"), ("qwen3-4b", "vllm-2")])
def test_an_alias_that_leads_to_nothing_is_a_problem_and_moves_no_name(target: tuple[str, str]) -> None:
    problems: list[Problem] = []

    found = lay_over(ENGINES, {"assistant": alias(*target)}, problems)

    assert found == ENGINES
    assert "does not serve" in str(problems[0])


def test_the_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    wanted = {
        "assistant": Alias(
            model="qwen3-14b",
            engine="vllm-2",
            since=SINCE,
            previous=Target(model="qwen3-8b", engine="vllm"),
        )
    }
    assert aliases.load(tmp_path) == {}

    (tmp_path / aliases.FILE).write_text(aliases.dump(wanted))

    assert aliases.load(tmp_path) == wanted


@pytest.mark.parametrize(
    "text", ["assistant: qwen", "assistant: {model: x}", "[", "a: {model: x, engine: v, old: 1}"]
)
def test_a_file_that_is_wrong_says_where(tmp_path: Path, text: str) -> None:
    (tmp_path / aliases.FILE).write_text(text)

    with pytest.raises(AliasesError, match="cannot be read") as caught:
        aliases.load(tmp_path)
    assert caught.value.where == str(tmp_path / aliases.FILE)


def test_the_router_alone_learns_of_an_alias(tmp_path: Path) -> None:
    told = {
        "client": "acme",
        "domain": "acme.internal",
        "proxmox": {"endpoint": "https://pve:8006"},
        "network": {"subnet": "10.20.0.0/24"},
        "services": {
            "litellm": None,
            "openwebui": None,
            "vllm": {"device": "cpu", "served_name": "assistant"},
            "vllm-2": {"device": "cpu", "served_name": "candidate"},
        },
    }

    def variables() -> dict[str, dict[str, Any]]:
        found = compute(Stack.model_validate(told), tmp_path)
        return {service.name: service.variables for service in found.services}

    before = variables()
    target = Alias(model="candidate", engine="vllm-2", since=SINCE)
    (tmp_path / aliases.FILE).write_text(aliases.dump({"assistant": target}))
    after = variables()

    assert {name for name in after if after[name] != before[name]} == {"litellm"}
    assert names(before["litellm"]["litellm_engines"])["vllm"] == {"assistant": "assistant"}
    assert names(after["litellm"]["litellm_engines"]) == {
        "vllm": {},
        "vllm-2": {"assistant": "candidate", "candidate": "candidate"},
    }
    (tmp_path / aliases.FILE).write_text(aliases.dump({"assistant": alias("gone", "vllm-2")}))
    with pytest.raises(LayoutError, match="leads to gone"):
        variables()
