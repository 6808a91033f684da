"""What engines are told of the language models that the stack names, and of each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold.layout.compute import compute
from freehold.layout.types import Layout
from freehold.schema.stack import Stack

Lay = Callable[..., Layout]

GIB = 2**30


def entry(kind: str, engines: list[str], **changes: Any) -> dict[str, Any]:
    """A language model of eight billion parameters in a client's own catalogue."""
    form = {"bits": 16, "weights_bytes": 15 * GIB, "engines": engines, "source": "this test"}
    of_ollama = {"ollama": f"acme-{kind}:8b", "bits": 4.5, "weights_bytes": int(4.3 * GIB)}
    of_the_hub = {"repository": f"acme/{kind}", "revision": "a" * 40}
    return {
        "title": f"Acme {kind}",
        "family": "Acme",
        "provider": "Acme",
        "jurisdiction": "DE",
        "kind": kind,
        "licence": "Apache-2.0",
        "parameters": {"total": 8.05e9, "active": 8.05e9},
        "architecture": {
            "layers": 36,
            "hidden": 4096,
            "heads": 32,
            "kv_heads": 8,
            "head_size": 128,
            "vocabulary": 151936,
            "context": 40960,
        },
        "tool_parser": "hermes",
        "reasoning_parser": "qwen3",
        "quantizations": {"only": form | (of_ollama if engines == ["ollama"] else of_the_hub)},
        "sources": {"architecture": "this test"},
        **changes,
    }


@pytest.fixture
def lay(tmp_path: Path) -> Lay:
    own = {
        "chat": entry("chat", ["vllm", "sglang"]),
        "embed": entry("embedding", ["vllm", "sglang"]),
        "small": entry("chat", ["ollama"]),
    }
    (tmp_path / "models.yml").write_text(yaml.safe_dump(own), encoding="utf-8")

    def lay(services: list[str] | dict[str, Any], **changes: Any) -> Layout:
        given = services if isinstance(services, dict) else dict.fromkeys(services)
        stack = {
            "client": "acme",
            "domain": "acme.internal",
            "proxmox": {"endpoint": "https://pve:8006"},
            "network": {"subnet": "10.20.0.0/24", "first": "10.20.0.10"},
            "nodes": {"pve": {"gpus": [{"pci": f"0{n}:00.0", "card": "rtx-4090"} for n in range(1, 5)]}},
            "services": {"litellm": None} | given,
            "use": {"users": 4},
            **changes,
        }
        return compute(Stack.model_validate(stack), tmp_path)

    return lay


def of(layout: Layout, service: str) -> dict[str, Any]:
    """The variables of an engine, without the prefix of its role."""
    placed = layout.service(service)
    return {key.removeprefix(f"{placed.role}_"): value for key, value in placed.variables.items()}


def test_vllm_is_told_what_was_sized(lay: Lay) -> None:
    layout = lay(["vllm"], hosts={"vllm": {"gpus": [0, 1]}}, models={"chat": {"context": 8192}})
    given = of(layout, "vllm")

    assert given["model"] == "acme/chat"
    assert given["path"] == f"/models/acme--chat/{'a' * 40}"
    assert given["revision"] == "a" * 40
    assert given["served_name"] == "chat"
    assert given["max_model_len"] == 8192
    assert given["tensor_parallel"] == 2
    assert 0 < given["gpu_memory_utilization"] < 1
    assert given["max_num_seqs"] >= 4
    assert given["kv_cache_dtype"] == "auto"
    assert (given["tool_call_parser"], given["reasoning_parser"]) == ("hermes", "qwen3")
    assert given["runner"] == "auto"


def test_sglang_is_told_the_same_in_its_own_words(lay: Lay) -> None:
    wanted = {"chat": {"kv_cache": "fp8", "context": 8192}}
    given = of(lay(["sglang"], hosts={"sglang": {"gpus": [0]}}, models=wanted), "sglang")

    assert given["path"] == f"/models/acme--chat/{'a' * 40}"
    assert given["context_length"] == 8192
    assert given["kv_cache_dtype"] == "fp8_e4m3"
    assert (given["tool_call_parser"], given["reasoning_parser"]) == ("auto", "auto")
    assert given["embedding"] is False
    assert 0 < given["mem_fraction_static"] < 1


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_what_makes_numbers_of_texts_answers_no_questions(lay: Lay, engine: str) -> None:
    layout = lay([engine], hosts={engine: {"gpus": [0]}}, models={"embed": {"context": 4096}})
    given = of(layout, engine)

    assert given["runner" if engine == "vllm" else "embedding"] in ("pooling", True)
    (router,) = of(layout, "litellm")["engines"]
    assert router["models"] == [{"name": "embed", "served": "embed", "kind": "embedding"}]


def test_ollama_takes_the_language_models_of_the_stack_and_its_own(lay: Lay) -> None:
    own = {"name": "by-hand:1b", "digest": "c" * 64}
    layout = lay(
        {"ollama": {"models": [own]}},
        hosts={"ollama": {"gpus": [0]}},
        models={"small": {"name": "assistant", "context": 4096, "users": 3, "kv_cache": "q8_0"}},
    )
    given = of(layout, "ollama")

    assert [model["served"] for model in given["served"]] == ["acme-chat:8b"]
    assert given["models"] == [own]
    assert (given["context_length"], given["num_parallel"], given["max_loaded_models"]) == (4096, 3, 2)
    assert given["kv_cache_type"] == "q8_0"
    assert given["keep_alive"] == "-1"
    (router,) = of(layout, "litellm")["engines"]
    assert [(model["name"], model["served"]) for model in router["models"]] == [
        ("assistant", "acme-chat:8b"),
        ("by-hand:1b", "by-hand:1b"),
    ]


def test_without_language_models_of_the_stack_the_settings_count(lay: Lay) -> None:
    layout = lay(
        {"vllm": {"max_model_len": 4096}, "ollama": {"num_parallel": 5}},
        hosts={"vllm": {"gpus": [0]}, "ollama": {"gpus": [1]}},
    )

    assert of(layout, "vllm")["max_model_len"] == 4096
    assert of(layout, "vllm")["path"] == ""
    assert of(layout, "vllm")["gpu_memory_utilization"] == 0.9
    assert of(layout, "ollama")["num_parallel"] == 5
    assert of(layout, "ollama")["served"] == []


def test_an_engine_takes_its_share_of_a_gpu(lay: Lay) -> None:
    layout = lay(
        ["vllm", "sglang"],
        hosts={"vllm": {"gpus": [{"gpu": 0, "share": 0.5}]}, "sglang": {"gpus": [{"gpu": 0, "share": 0.5}]}},
    )

    assert of(layout, "vllm")["gpu_memory_utilization"] == 0.45
    assert of(layout, "sglang")["mem_fraction_static"] == 0.425


def test_replicas_share_the_requests_of_a_name(lay: Lay) -> None:
    layout = lay(
        ["vllm", "vllm-2"],
        hosts={"vllm": {"gpus": [0]}, "vllm-2": {"gpus": [1]}},
        models={"chat": {"engine": ["vllm", "vllm-2"], "context": 4096}},
    )
    engines = of(layout, "litellm")["engines"]

    assert [engine["name"] for engine in engines] == ["vllm", "vllm-2"]
    assert [model["name"] for engine in engines for model in engine["models"]] == ["chat", "chat"]
    assert len({engine["url"] for engine in engines}) == 2
    assert len({engine["key"] for engine in engines}) == 2
    assert of(layout, "vllm-2")["path"] == of(layout, "vllm")["path"]


def test_the_hosts_of_a_ray_cluster_find_each_other(lay: Lay) -> None:
    layout = lay(
        {"vllm": {"ray": "head", "pipeline_parallel": 2}, "vllm-2": {"ray": "worker"}},
        hosts={"vllm": {"gpus": [0]}, "vllm-2": {"gpus": [1]}},
    )
    head, worker = of(layout, "vllm"), of(layout, "vllm-2")

    assert head["ray_head"] == worker["ray_head"] == str(layout.host("vllm").address)
    assert head["ray_token"] == worker["ray_token"]
    assert "vllm-2.ray_token" in head["ray_token"]
    # What the worker computes is asked at the head.
    engines = {engine["name"]: engine["models"] for engine in of(layout, "litellm")["engines"]}
    assert engines["vllm-2"] == []
    assert engines["vllm"] != []


def test_the_hosts_of_a_ray_cluster_alone_reach_each_other(lay: Lay) -> None:
    layout = lay(
        {"vllm": {"ray": "head", "pipeline_parallel": 2}, "vllm-2": {"ray": "worker"}, "vllm-3": None},
        hosts={f"vllm{n}": {"gpus": [g]} for g, n in enumerate(("", "-2", "-3"))},
    )

    def let_in(name: str) -> set[str]:
        ranges = [rule for rule in layout.host(name).rules if rule.last]
        assert all((rule.port, rule.last, rule.protocol) == (1024, 65535, "tcp") for rule in ranges)
        return {str(source) for rule in ranges for source in rule.sources}

    assert let_in("vllm") == {f"{layout.host('vllm-2').address}/32"}
    assert let_in("vllm-2") == {f"{layout.host('vllm').address}/32"}
    assert [let_in(host.name) for host in layout.hosts if host.name not in ("vllm", "vllm-2")] == [
        set() for _ in range(len(layout.hosts) - 2)
    ]
