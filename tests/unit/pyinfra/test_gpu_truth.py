"""The timer of the GPU truth test: what it is given, where it is put, and that it goes away again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from freehold.gpu_truth import Expected
from freehold.layout.compute import compute
from freehold.layout.gpu_truth import expectation, watched
from freehold.layout.types import Layout
from freehold.pyinfra.gpu_truth import Watch, no_watch
from freehold.pyinfra.system import File
from freehold.schema.stack import Stack

Commands = Callable[..., list[str]]


def layout(**changes: Any) -> Layout:
    """The layout of a client with two engines on two GPUs, monitored."""
    stack = {
        "client": "acme",
        "domain": "acme.internal",
        "proxmox": {"endpoint": "https://pve:8006"},
        "network": {"subnet": "10.20.0.0/24"},
        "nodes": {
            "pve": {
                "address": "10.20.0.2",
                "ssh_user": "root",
                "gpus": [
                    {"pci": "0000:01:00.0", "card": "rtx-4090"},
                    {"pci": "0000:02:00.0", "card": "rtx-4090"},
                ],
            }
        },
        "hosts": {"vllm": {"gpus": [0]}, "ollama": {"gpus": [{"gpu": 1, "share": 0.5}]}},
        "services": {"vllm": None, "ollama": None, "litellm": None, "prometheus": None},
        **changes,
    }
    return compute(Stack.model_validate(stack), Path("/inventory/acme"))


def expected(found: Layout, name: str) -> Expected:
    return expectation(found, found.service(name))


def test_an_engine_is_expected_on_the_cards_of_its_host() -> None:
    found = expected(layout(), "vllm")

    assert (found.gpus, found.vmid) == (("0000:01:00.0",), layout().host("vllm").vmid)
    assert (found.unit, found.key_name, found.every, found.shared) == (
        "vllm.service",
        "VLLM_API_KEY",
        True,
        False,
    )
    assert found.minimum == 1024


def test_ollama_may_use_as_many_of_its_cards_as_it_needs() -> None:
    found = expected(layout(), "ollama")

    assert (found.gpus, found.every, found.shared) == (("0000:02:00.0",), False, True)


def test_weights_that_were_sized_must_be_there() -> None:
    found = layout(models={"qwen3-8b": {"engine": "vllm", "users": 2, "context": 4096}})
    (model,) = found.models
    assert model.sizing
    weights = model.sizing["per_gpu"]["weights"]

    assert expected(found, "vllm").minimum == round(0.9 * weights) > 2000
    assert expected(found, "vllm").models == (model.served,)


def test_an_engine_that_the_stack_lets_compute_on_the_cpu_is_not_watched() -> None:
    on_cpu = layout(services={"vllm": {"device": "cpu"}, "ollama": None, "prometheus": None})

    assert expected(on_cpu, "vllm").gpus == ()
    assert [service.name for service in watched(on_cpu)] == ["ollama"]
    assert Watch.of_host(on_cpu, "vllm").engine


def test_the_host_watches_its_own_engine_and_the_node_all_of_them() -> None:
    found = layout()
    host, node = Watch.of_host(found, "vllm"), Watch.of_node(found, "pve")

    assert host.wanted
    assert node.wanted
    assert host.timer == "freehold-gpu-truth.timer"
    assert node.timer == "freehold-gpu-truth-acme.timer"
    for watch, services, eyes in ((host, ["vllm"], "engine"), (node, ["ollama", "vllm"], "node")):
        files = {entry.path: entry for entry in watch.entries() if isinstance(entry, File)}
        told = json.loads(files[watch.configuration].content)
        assert (told["client"], told["seen_by"]) == ("acme", eyes)
        assert sorted(each["service"] for each in told["engines"]) == services
        again = [Expected.of(each).as_dict() for each in told["engines"]]
        assert json.loads(json.dumps(again)) == told["engines"]
        assert files[watch.configuration].mode == "600"
        assert set(files) >= set(watch.paths) - {watch.figures}
        unit = files[f"/etc/systemd/system/{watch.name}.service"].content
        assert f"gpu_truth.py watch {watch.configuration} {watch.figures}" in unit
        assert ("PrivateNetwork=yes" in unit) == (eyes == "node")


@pytest.mark.parametrize("name", ["litellm", "prometheus"])
def test_other_hosts_watch_nothing(name: str) -> None:
    assert not Watch.of_host(layout(), name).wanted
    assert not Watch.of_host(layout(), name).engine
    assert Watch.of_host(layout(), name).entries() == []


def test_without_monitoring_nobody_would_be_told() -> None:
    found = layout(services={"vllm": None, "ollama": None})

    assert not Watch.of_host(found, "vllm").wanted
    assert not Watch.of_node(found, "pve").wanted


def test_the_timer_goes_away_with_its_engine(commands: Commands) -> None:
    watch = Watch.of_host(layout(), "vllm")
    asking = {"unit": watch.timer, "paths": watch.paths}

    assert commands(no_watch, {"paths": []}, **asking) == []
    there = [f"{watch.configuration}\tfile\t600\troot\troot\tabc"]
    (command,) = commands(no_watch, {"paths": there}, **asking)
    assert f"systemctl disable --now {watch.timer}" in command
    assert watch.figures in command
