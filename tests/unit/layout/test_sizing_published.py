"""The sizing against what engines reported of their memory on other people's machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold.catalog.models import Architecture, LanguageModel, Parameters, Quantization
from freehold.layout import sizing_memory as memory

DATA = yaml.safe_load((Path(__file__).parent / "data" / "published_allocations.yml").read_text())
GIB = 1024**3

ACTIVATIONS = (-0.15, 0.55)
"""GiB that our figure may be below and above the measured one: it is an upper bound, and must hardly ever be too low."""
BESIDE_TORCH = 0.2
"""GiB, either way."""
GRAPHS = 0.6
"""GiB, either way; the same GPU and version give 0.51 to 1.85 by language model."""
LOADED = 0.07
"""Part of the measured weights that ours may be below (gpt-oss), and half of it above."""
TOKENS = 0.015
"""Part of the measured tokens of a KV cache of known size."""
AVAILABLE = 0.025
"""Part of the GPU that our room for the KV cache may be off."""
LLAMA_CPP = 0.005
"""Part of llama.cpp's figures: it computes them in the same way."""


def model(name: str) -> LanguageModel:
    return LanguageModel(
        id=name,
        title=name,
        family="",
        provider="",
        jurisdiction="ZZ",
        parameters=Parameters(total=2, active=1 if name in DATA["experts"] else 2),
        architecture=Architecture.model_validate(DATA["shapes"][name]),
        quantizations={"x": Quantization(repository="a/b", engines=("vllm",), source="test")},
        sources={},
    )


def entries(section: str, *keys: str) -> list[Any]:
    found = [entry for entry in DATA[section] if any(key in entry["measured"] for key in keys)]
    return [pytest.param(entry, id=entry["about"]) for entry in found]


def test_there_are_enough_and_each_says_where_it_is_from() -> None:
    every = [*DATA["vllm"], *DATA["llama_cpp"], *DATA["graphs"]]
    assert len(every) >= 20
    assert all(entry["source"].startswith("https://") for entry in every)
    assert len({entry["source"] for entry in every}) >= 12


@pytest.mark.parametrize("entry", entries("vllm", "activations"))
def test_activations(entry: dict[str, Any]) -> None:
    gpu = entry["gpu"]
    ours = memory.activations(model(entry["shape"]), gpu["gpus"], gpu["sequences"], gpu["batched"]) / 1024
    low, high = ACTIVATIONS
    assert low <= ours - entry["measured"]["activations"] <= high


@pytest.mark.parametrize("entry", entries("vllm", "beside_torch"))
def test_beside_torch(entry: dict[str, Any]) -> None:
    ours = memory.beside_torch(entry["gpu"]["gpus"], entry["gpu"]["capability"]) / 1024
    assert ours == pytest.approx(entry["measured"]["beside_torch"], abs=BESIDE_TORCH)


@pytest.mark.parametrize("entry", DATA["graphs"], ids=lambda entry: entry["about"])
def test_graphs(entry: dict[str, Any]) -> None:
    assert memory.graphs(entry["largest"] // 2) / 1024 == pytest.approx(entry["measured"], abs=GRAPHS)


@pytest.mark.parametrize("entry", entries("vllm", "loaded"))
def test_weights(entry: dict[str, Any]) -> None:
    ours = entry["measured"]["files"] * memory.LOADED / entry["gpu"]["gpus"]
    loaded = entry["measured"]["loaded"]
    assert -LOADED * loaded <= ours - loaded <= LOADED / 2 * loaded


@pytest.mark.parametrize("entry", entries("vllm", "tokens"))
def test_tokens_of_the_kv_cache(entry: dict[str, Any]) -> None:
    gpu, shape = entry["gpu"], model(entry["shape"]).architecture
    context = 8192
    one = memory.conversation_bytes(
        shape, "vllm", gpu.get("kv_cache", "auto"), context, gpus=gpu["gpus"], batched=gpu["batched"]
    )
    ours = entry["measured"]["kv"] * GIB / one * context
    assert ours == pytest.approx(entry["measured"]["tokens"], rel=TOKENS)


@pytest.mark.parametrize(
    "entry", [e for e in entries("vllm", "kv") if {"files", "kv"} <= {*e.values[0]["measured"]}]
)
def test_room_for_the_kv_cache(entry: dict[str, Any]) -> None:
    """From the size of the files alone, without the graphs: these versions did not count them."""
    gpu, measured = entry["gpu"], entry["measured"]
    ours = (
        gpu["visible"] * gpu["utilization"]
        - measured["files"] * memory.LOADED / gpu["gpus"]
        - memory.activations(model(entry["shape"]), gpu["gpus"], gpu["sequences"], gpu["batched"]) / 1024
        - memory.beside_torch(gpu["gpus"], gpu["capability"]) / 1024
    )
    assert ours == pytest.approx(measured["kv"], abs=AVAILABLE * gpu["visible"])


@pytest.mark.parametrize("entry", entries("llama_cpp", "kv"))
def test_llama_cpp_keys_and_values(entry: dict[str, Any]) -> None:
    run = entry["run"]
    ours = run["slots"] * memory.conversation_bytes(
        model(entry["shape"]).architecture,
        "ollama",
        run.get("kv_cache", "f16"),
        run["context"],
        batched=run["microbatch"],
    )
    assert ours / memory.MIB == pytest.approx(entry["measured"]["kv"], rel=LLAMA_CPP)


@pytest.mark.parametrize("entry", entries("llama_cpp", "compute"))
def test_llama_cpp_compute_buffer(entry: dict[str, Any]) -> None:
    run = entry["run"]
    ours = memory.compute_buffer(
        model(entry["shape"]).architecture, run["context"], microbatch=run["microbatch"]
    )
    assert ours == pytest.approx(entry["measured"]["compute"], rel=LLAMA_CPP)


@pytest.mark.parametrize("entry", entries("llama_cpp", "state"))
def test_state_of_layers_without_keys_and_values(entry: dict[str, Any]) -> None:
    state = model(entry["shape"]).architecture.state_bytes
    assert state is not None
    assert state / memory.MIB == pytest.approx(entry["measured"]["state"], rel=LLAMA_CPP)


@pytest.mark.parametrize("entry", entries("vllm", "block"))
def test_blocks_of_hybrid_models(entry: dict[str, Any]) -> None:
    gpu = entry["gpu"]
    shape = model(entry["shape"]).architecture
    ours = memory.block_tokens(shape, "vllm", gpu.get("kv_cache", "auto"), gpu["gpus"])
    assert ours == entry["measured"]["block"]
