"""Language models of the stack: the engine that serves each, the GPUs that hold it, the weights that it reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold.layout.compute import LayoutError, compute
from freehold.layout.types import Layout
from freehold.schema.stack import Stack

SHAPE = {
    "layers": 36,
    "hidden": 4096,
    "heads": 32,
    "kv_heads": 8,
    "head_size": 128,
    "vocabulary": 151936,
    "context": 40960,
}


def entry(gib: float, **changes: Any) -> dict[str, Any]:
    """An entry of a client's own catalogue: a language model of so many GiB, for vLLM and SGLang."""
    return {
        "title": "Acme 8B",
        "family": "Acme",
        "provider": "Acme",
        "jurisdiction": "DE",
        "licence": "Apache-2.0",
        "parameters": {"total": gib * 2**30 / 2, "active": gib * 2**30 / 2},
        "architecture": SHAPE,
        "sources": {"architecture": "this test"},
        "quantizations": {
            "bf16": {
                "bits": 16,
                "weights_bytes": int(gib * 2**30),
                "repository": "acme/acme-8b",
                "revision": "a" * 40,
                "engines": ["vllm", "sglang"],
                "source": "this test",
            }
        },
        **changes,
    }


IN_OLLAMA = {
    "q4": {
        "bits": 4.5,
        "weights_bytes": 5 * 2**30,
        "ollama": "acme:8b",
        "digest": "b" * 64,
        "engines": ["ollama"],
        "source": "this test",
    }
}
GPUS = {"pve": {"gpus": [{"pci": "01:00.0", "card": "rtx-4090"}, {"pci": "41:00.0", "card": "rtx-4090"}]}}

Lay = Callable[..., Layout]


@pytest.fixture
def lay(tmp_path: Path) -> Lay:
    """Lays out a stack whose client has language models of its own."""
    own = {
        "acme-8b": entry(8.0),
        "acme-70b": entry(131.0, title="Acme 70B"),
        "acme-q4": entry(
            5, title="Acme small", parameters={"total": 9.5e9, "active": 9.5e9}, quantizations=IN_OLLAMA
        ),
        "acme-q4-too": entry(
            5, title="Acme small too", parameters={"total": 9.5e9, "active": 9.5e9}, quantizations=IN_OLLAMA
        ),
        "acme-riddle": entry(8.0, title="Acme riddle", architecture={"layers": 36}),
    }
    (tmp_path / "models.yml").write_text(yaml.safe_dump(own))

    def lay(only: str | None = None, **changes: Any) -> Layout:
        stack = {
            "client": "acme",
            "domain": "acme.internal",
            "proxmox": {"endpoint": "https://pve:8006"},
            "network": {"subnet": "10.20.0.0/24"},
            "nodes": GPUS,
            "services": {"vllm": None, "litellm": None},
            "hosts": {"vllm": {"gpus": [0]}},
            "use": {"users": 4},
            **changes,
        }
        return compute(Stack.model_validate(stack), tmp_path, only)

    return lay


@pytest.fixture
def problem(lay: Lay) -> Callable[..., str]:
    """The only problem of a stack, as text."""

    def problem(**changes: Any) -> str:
        with pytest.raises(LayoutError) as caught:
            lay(**changes)
        (found,) = caught.value.problems
        return str(found)

    return problem


def test_a_language_model_reaches_its_engine_and_the_router(lay: Lay) -> None:
    layout = lay(models={"acme-8b": {"name": "assistant"}})
    (model,) = layout.models

    assert (model.engine, model.quantization, model.users, model.context) == ("vllm", "bf16", 4, 16384)
    assert model.sizing is not None
    assert model.sizing["fits"]
    engine = layout.service("vllm").variables
    assert engine["vllm_path"] == model.path == f"/models/acme--acme-8b/{'a' * 40}"
    assert engine["vllm_revision"] == "a" * 40
    assert engine["vllm_max_model_len"] == 16384
    (router,) = layout.service("litellm").variables["litellm_engines"]
    assert router["models"] == [{"name": "assistant", "served": "acme-8b", "kind": "chat"}]


def test_the_clients_own_settings_of_an_engine_win(lay: Lay) -> None:
    layout = lay(models={"acme-8b": None}, services={"vllm": {"max_model_len": 4096}})
    assert layout.service("vllm").variables["vllm_max_model_len"] == 4096


def test_weights_come_along_and_engines_cannot_write_them(lay: Lay) -> None:
    layout = lay(models={"acme-8b": None})
    source = "/var/lib/freehold-weights/acme"

    assert [(m.path, m.source, m.read_only) for m in layout.host("weights").mounts] == [
        ("/models", source, False)
    ]
    assert [(m.path, m.source, m.read_only) for m in layout.host("vllm").mounts] == [
        ("/models", source, True)
    ]
    assert layout.host("litellm").mounts == ()
    assert "weights" not in {host.name for host in lay().hosts}


def test_an_engine_alone_brings_the_weights_that_it_reads(lay: Lay) -> None:
    assert {host.name for host in lay("vllm", models={"acme-8b": None}).hosts} == {
        "vllm",
        "weights",
        "egress",
    }
    assert {host.name for host in lay("litellm", models={"acme-8b": None}).hosts} == {"litellm", "egress"}


def test_what_does_not_fit_is_refused(problem: Callable[..., str]) -> None:
    text = problem(models={"acme-70b": None})
    assert text.startswith(
        "models.acme-70b: Acme 70B (bf16) does not fit NVIDIA GeForce RTX 4090 with 4 conversations of 16384 tokens"
    )


def test_what_is_unknown_is_refused_unless_the_client_takes_it(lay: Lay, problem: Callable[..., str]) -> None:
    assert "cannot be sized: unknown of it" in problem(models={"acme-riddle": None})
    (model,) = lay(models={"acme-riddle": {"unsized": True}}).models
    assert model.id == "acme-riddle"


def test_without_the_memory_of_the_gpu_nothing_is_sized(problem: Callable[..., str]) -> None:
    text = problem(models={"acme-8b": None}, nodes={"pve": {"gpus": [{"pci": "01:00.0"}]}})
    assert "the stack does not say how much memory the GPUs of vllm have" in text


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        ({"acme-8bb": None}, 'unknown language model; did you mean "acme-8b"?'),
        ({"acme-8b": {"engine": "sglang"}}, "is not among the services"),
        ({"acme-q4": None}, "no engine of the services can serve Acme small"),
        ({"acme-q4": {"quantization": "q4"}}, "can serve Acme small as q4 (allowed: one of ollama"),
        (
            {"acme-8b": {"kv_cache": "q8_0"}},
            'kv_cache: vLLM has no such precision, found "q8_0" (allowed: auto, fp8)',
        ),
        ({"acme-8b": {"quantization": "awq"}}, "the catalogue has no such form of it for vLLM"),
        ({"acme-8b": {"context": 50000}}, "is more than Acme 8B can, found 50000 (allowed: at most 40960)"),
        ({"acme-8b": {"users": 1}, "acme-70b": {"unsized": True}}, "does not fit"),
    ],
)
def test_what_cannot_be_is_explained(lay: Lay, models: dict[str, Any], reason: str) -> None:
    with pytest.raises(LayoutError) as caught:
        lay(models=models)
    assert any(reason in str(problem) for problem in caught.value.problems)


def test_an_engine_of_one_model_takes_no_second(problem: Callable[..., str]) -> None:
    models = {"acme-8b": {"users": 1}, "acme-riddle": {"unsized": True}}
    assert 'vLLM serves one language model, and "vllm" serves acme-8b already' in problem(models=models)


def test_engines_side_by_side(lay: Lay) -> None:
    layout = lay(
        services={"vllm": None, "vllm-2": None, "ollama": None, "litellm": None},
        hosts={
            "vllm": {"gpus": [{"gpu": 0, "share": 0.7}]},
            "vllm-2": {"gpus": [1]},
            "ollama": {"gpus": [{"gpu": 0, "share": 0.3}]},
        },
        models={
            "acme-8b": {"engine": ["vllm-2"], "name": "large"},
            "acme-q4": {"context": 2048, "users": 1},
            "acme-riddle": {"engine": "vllm", "unsized": True},
        },
    )
    one, two = layout.host("vllm"), layout.host("vllm-2")
    assert (two.vmid, str(two.address)) == (one.vmid + 1, str(one.address + 1))
    assert layout.service("vllm-2").role == "vllm"
    assert layout.service("vllm-2").variables["vllm_api_key"] == (
        "{{ lookup('freehold.stack.secret', 'vllm-2.api_key') }}"
    )
    assert "vllm-2.api_key" in layout.service("litellm").secrets
    assert {device.path for device in two.devices} >= {"/dev/nvidia1"}
    assert "/dev/nvidia0" not in {device.path for device in two.devices}
    assert [gpu.share for gpu in one.gpus] == [0.7]
    names = {
        engine["name"]: [m["name"] for m in engine["models"]]
        for engine in layout.service("litellm").variables["litellm_engines"]
    }
    assert names == {"vllm": ["acme-riddle"], "vllm-2": ["large"], "ollama": ["acme-q4"]}


def test_replicas_share_a_name(lay: Lay) -> None:
    layout = lay(
        services={"vllm": None, "vllm-2": None, "litellm": None},
        hosts={"vllm": {"gpus": [0]}, "vllm-2": {"gpus": [1]}},
        models={"acme-8b": {"engine": ["vllm", "vllm-2"]}},
    )
    assert [model.engine for model in layout.models] == ["vllm", "vllm-2"]
    assert {model.name for model in layout.models} == {"acme-8b"}


def test_what_ollama_holds_at_once_fits_together(lay: Lay, problem: Callable[..., str]) -> None:
    large = {"context": 16384, "users": 4}
    given: dict[str, Any] = {"services": {"ollama": None}, "hosts": {"ollama": {"gpus": [0]}}}
    assert len(lay(models={"acme-q4": large}, **given).models) == 1
    text = problem(models={"acme-q4": large, "acme-q4-too": large}, **given)
    assert text.startswith("models.acme-q4-too: does not fit beside the other language models of ollama")


def test_shares_of_a_gpu_are_at_most_one(problem: Callable[..., str]) -> None:
    hosts = {
        "vllm": {"gpus": [{"gpu": 0, "share": 0.7}]},
        "litellm": {"gpus": [{"gpu": "01:00.0", "share": 0.4}]},
    }
    assert "and the shares add up to 1.1" in problem(hosts=hosts)


@pytest.mark.parametrize(
    ("layout", "services", "given"),
    [
        ("one-big", ["vllm", "ollama"], {"vllm": 2, "ollama": 0}),
        ("one-each", ["vllm", "ollama"], {"vllm": 1, "ollama": 1}),
        ("ollama-only", ["ollama"], {"ollama": 2}),
        ("cpu", ["vllm", "ollama"], {"vllm": 0, "ollama": 0}),
    ],
)
def test_layouts_of_gpus(lay: Lay, layout: str, services: list[str], given: dict[str, int]) -> None:
    made = lay(gpu_layout=layout, services=dict.fromkeys(services), hosts={})
    assert {name: len(made.host(name).gpus) for name in services} == given
    for name, count in given.items():
        assert made.service(name).variables.get(f"{name}_device") == (None if count else "cpu")


def test_an_engine_that_cannot_compute_without_a_gpu_is_not_told_to(lay: Lay) -> None:
    made = lay(gpu_layout="cpu", services={"sglang": None}, hosts={})
    assert "sglang_device" not in made.service("sglang").variables


def test_ollama_only_is_alone(problem: Callable[..., str]) -> None:
    text = problem(gpu_layout="ollama-only", services={"ollama": None, "vllm": None}, hosts={})
    assert text.startswith('gpu_layout: gives all GPUs to Ollama, beside which there is "vllm"')


def test_cards_of_the_catalogue(problem: Callable[..., str]) -> None:
    nodes = {"pve": {"gpus": [{"pci": "01:00.0", "card": "rtx-4909"}]}}
    assert 'nodes.pve.gpus[0].card: unknown GPU, found "rtx-4909"; did you mean "rtx-4090"?' in problem(
        nodes=nodes
    )


def test_a_licence_that_forbids_the_use_is_refused(problem: Callable[..., str]) -> None:
    text = problem(services={"n8n": None}, hosts={}, use={"customers": True, "users": 4})
    assert text.startswith("services.n8n: n8n may not be used for customers: ")
