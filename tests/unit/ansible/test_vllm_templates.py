"""What the files of vLLM hold."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from freehold import render, resources

DIRECTORY = "/var/lib/vllm/models/m"


def options(**others: Any) -> dict[str, Any]:
    role = resources.roles() / "vllm"
    given: dict[str, Any] = yaml.safe_load((role / "defaults/main.yml").read_text(encoding="utf-8"))
    given |= {f"vllm_{name}": value for name, value in others.items()}
    pipeline = given["vllm_pipeline_parallel"] if given["vllm_ray"] == "none" else 1
    gpus = given["vllm_tensor_parallel"] * pipeline
    return given | {
        "vllm__directory": given["vllm_path"] or DIRECTORY,
        "vllm__gpus": gpus,
        "vllm__probes": given["vllm_device"] == "cuda" and given["vllm_nccl_p2p"] == "auto" and gpus > 1,
    }


def text(**others: Any) -> str:
    return render.render("vllm/config.yaml.j2", options(**others))


def config(**others: Any) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text(**others))
    return found


def unit(name: str = "vllm", **others: Any) -> str:
    return render.render(f"vllm/{name}.service.j2", options(**others))


def test_other_weights_under_the_same_name_change_the_configuration() -> None:
    """The service restarts by its configuration, also where a run was cut off between the download and the restart."""
    one = [{"name": "model.safetensors", "url": "http://mirror/m", "sha256": "1" * 64}]
    other = [{**one[0], "sha256": "2" * 64}]

    assert text(model_files=one) != text(model_files=other)
    assert config(model_files=one) == config()


def test_another_revision_in_the_same_directory_changes_the_configuration() -> None:
    assert text(path="/models/m", revision="1" * 40) != text(path="/models/m", revision="2" * 40)


def test_weights_that_lie_there_already_are_read_where_they_lie() -> None:
    assert config()["model"] == DIRECTORY
    assert config(path="/models/Qwen--Qwen3-8B/b96")["model"] == "/models/Qwen--Qwen3-8B/b96"


def test_what_was_computed_of_the_memory_is_what_vllm_is_told() -> None:
    found = config(
        max_model_len=32768,
        max_num_seqs=15,
        tensor_parallel=2,
        gpu_memory_utilization=0.87,
        kv_cache_dtype="fp8",
    )

    assert found["max-model-len"] == 32768
    assert found["max-num-seqs"] == 15
    assert found["tensor-parallel-size"] == 2
    assert found["gpu-memory-utilization"] == 0.87
    assert found["kv-cache-dtype"] == "fp8"
    assert "max-num-seqs" not in config()


def test_weights_are_safetensors_and_bring_no_code() -> None:
    assert config()["load-format"] == "safetensors"
    assert "trust-remote-code" not in text()


@pytest.mark.parametrize(
    "option",
    [
        "trust-remote-code",
        "load-format",
        "tool-parser-plugin",  # a file of Python
        "logits-processors",  # classes of Python
        "enable-prompt-embeds",  # tensors that callers send, read by PyTorch
        "host",
        "enable-lora",
    ],
)
def test_options_that_open_what_is_shut_are_reserved(option: str) -> None:
    text = (resources.roles() / "vllm/vars/main.yml").read_text(encoding="utf-8")

    assert option in yaml.safe_load(text)["vllm__reserved"]


def test_pictures_are_not_fetched_from_addresses_that_callers_name() -> None:
    assert config()["allowed-media-domains"] == ["none.invalid"]


@pytest.mark.parametrize("others", [{}, {"device": "cpu"}, {"ray": "head"}])
def test_nothing_is_fetched_or_told(others: dict[str, Any]) -> None:
    names = ["vllm"] + (["vllm-ray"] if others.get("ray") else [])
    for name in names:
        settings = set(
            " ".join(re.findall(r"^Environment=(.*)$", unit(name, **others), re.MULTILINE)).split()
        )
        assert {"HF_HUB_OFFLINE=1", "VLLM_NO_USAGE_STATS=1", "DO_NOT_TRACK=1"} <= settings


def test_one_gpu_needs_no_probe() -> None:
    assert "probe.py" not in unit()
    assert "NCCL_P2P_DISABLE" not in unit()


def test_several_gpus_are_probed_before_the_start_and_the_unit_reads_what_was_found() -> None:
    found = unit(tensor_parallel=2).splitlines()

    assert "EnvironmentFile=-/var/lib/vllm/p2p.env" in found
    assert "ExecStartPre=/opt/vllm/bin/python /etc/nccl-probe/probe.py /var/lib/vllm 2" in found
    (start,) = [line for line in found if line.startswith("ExecStart=")]
    assert start.endswith(" $ENGINE_P2P_OPTIONS")


def test_direct_exchange_can_be_switched_off_and_on_without_a_probe() -> None:
    off, on = unit(tensor_parallel=2, nccl_p2p="disabled"), unit(tensor_parallel=2, nccl_p2p="enabled")

    assert "probe.py" not in off + on
    assert "Environment=NCCL_P2P_DISABLE=1" in off
    assert "NCCL_P2P_DISABLE" not in on
    assert config(tensor_parallel=2, nccl_p2p="disabled")["disable-custom-all-reduce"] is True
    assert "disable-custom-all-reduce" not in config(tensor_parallel=2, nccl_p2p="enabled")


RAY = {"ray_head": "10.20.0.60", "ray_token": "t" * 48, "pipeline_parallel": 2, "tensor_parallel": 2}


def test_the_head_of_a_cluster_serves_over_ray() -> None:
    given = {**RAY, "ray": "head", "address": "10.20.0.60"}
    found, ray = unit(**given), unit("vllm-ray", **given)

    assert config(**given)["distributed-executor-backend"] == "ray"
    assert config(**given)["pipeline-parallel-size"] == 2
    assert "Requires=vllm-ray.service" in found
    assert "RAY_ADDRESS=10.20.0.60:6379" in found
    assert "IFNAME=lo" not in found
    assert "ray start --head --port=6379 --include-dashboard=false" in ray
    assert "--num-gpus=2" in ray
    # Two GPUs of this host compute together; the probe tries these, in Ray's unit as well.
    assert "probe.py /var/lib/vllm 2" in ray


def test_a_worker_of_a_cluster_joins_the_head() -> None:
    ray = unit("vllm-ray", **{**RAY, "ray": "worker", "address": "10.20.0.61"})

    assert "ray start --address=10.20.0.60:6379 --node-ip-address=10.20.0.61 --num-gpus=2" in ray
    assert "--head" not in ray


def test_hosts_of_a_cluster_show_each_other_a_token_that_only_root_reads() -> None:
    given = {**RAY, "ray": "head"}

    assert "RAY_AUTH_MODE=token" in unit(**given)
    assert "RAY_AUTH_MODE=token" in unit("vllm-ray", **given)
    assert "t" * 48 not in unit(**given) + unit("vllm-ray", **given) + text(**given)
    assert f"RAY_AUTH_TOKEN={'t' * 48}\n" in render.render("vllm/ray.env.j2", options(**given))


def test_without_a_cluster_workers_stay_on_the_loopback() -> None:
    assert "GLOO_SOCKET_IFNAME=lo NCCL_SOCKET_IFNAME=lo" in unit(tensor_parallel=2)
    assert "RAY_ADDRESS" not in unit(tensor_parallel=2)
    assert "distributed-executor-backend" not in config(tensor_parallel=2)
