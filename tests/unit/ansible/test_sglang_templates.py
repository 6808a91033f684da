"""What the files of SGLang hold, and that its stand-in takes them as SGLang would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold import render, resources
from freehold.lab.standins import sglang
from freehold.lab.tiny_model import write_tiny_model

DIRECTORY = "/models/Qwen--Qwen3-8B/b96"


def options(**others: Any) -> dict[str, Any]:
    role = resources.roles() / "sglang"
    given: dict[str, Any] = yaml.safe_load((role / "defaults/main.yml").read_text(encoding="utf-8"))
    given |= {"sglang_model": "Qwen/Qwen3-8B", "sglang_served_name": "qwen3-8b", "sglang_path": DIRECTORY}
    given |= {f"sglang_{name}": value for name, value in others.items()}
    probes = given["sglang_nccl_p2p"] == "auto" and given["sglang_tensor_parallel"] > 1
    return given | {"sglang__directory": given["sglang_path"], "sglang__probes": probes}


def text(**others: Any) -> str:
    return render.render("sglang/config.yaml.j2", options(**others))


def config(**others: Any) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text(**others))
    return found


def unit(**others: Any) -> str:
    return render.render("sglang/sglang.service.j2", options(**others))


def test_what_was_computed_of_the_memory_is_what_sglang_is_told() -> None:
    found = config(
        context_length=32768,
        max_running_requests=15,
        tensor_parallel=2,
        mem_fraction_static=0.81,
        kv_cache_dtype="fp8_e4m3",
    )

    assert found["model-path"] == DIRECTORY
    assert found["context-length"] == 32768
    assert found["max-running-requests"] == 15
    assert found["tensor-parallel-size"] == 2
    assert found["mem-fraction-static"] == 0.81
    assert found["kv-cache-dtype"] == "fp8_e4m3"
    assert "max-running-requests" not in config()


def test_other_weights_change_the_configuration() -> None:
    one = [{"name": "model.safetensors", "url": "http://mirror/m", "sha256": "1" * 64}]
    other = [{**one[0], "sha256": "2" * 64}]

    assert text(path="", model_files=one) != text(path="", model_files=other)
    assert text(revision="1" * 40) != text(revision="2" * 40)


def test_sglang_is_given_no_key_because_it_would_write_it_into_its_log() -> None:
    given = {"api_key": "sk-of-the-engine", "metrics_key": "of-the-metrics"}

    assert "key" not in " ".join(config(**given))
    assert "sk-of-the-engine" not in text(**given) + unit(**given)


def test_weights_are_safetensors_and_bring_no_code() -> None:
    assert config()["load-format"] == "safetensors"
    assert "trust-remote-code" not in text() + unit()


def test_no_option_lets_callers_or_weights_that_are_not_pinned_bring_code() -> None:
    """``enable_custom_logit_processor`` unpickles what a caller sends (``srt/sampling/custom_logit_processor.py``)."""
    given = yaml.safe_load((resources.roles() / "sglang/vars/main.yml").read_text(encoding="utf-8"))

    assert {
        "enable-custom-logit-processor",
        "forward-hooks",
        "speculative-draft-model-path",
        "trust-remote-code",
        "uno-lora-path",
    } <= set(given["sglang__reserved"])


def test_nothing_is_fetched_or_told() -> None:
    settings = set(" ".join(re.findall(r"^Environment=(.*)$", unit(), re.MULTILINE)).split())

    assert {"HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1", "DO_NOT_TRACK=1"} <= settings
    assert "--allowed-media-domains none.invalid" in unit()


def test_several_gpus_are_probed_before_the_start() -> None:
    found = unit(tensor_parallel=2).splitlines()

    assert "ExecStartPre=/opt/sglang/bin/python /etc/nccl-probe/probe.py /var/lib/sglang 2" in found
    assert "EnvironmentFile=-/var/lib/sglang/p2p.env" in found
    assert "probe.py" not in unit()
    assert config(tensor_parallel=2, nccl_p2p="disabled")["disable-custom-all-reduce"] is True
    assert "NCCL_P2P_DISABLE=1" in unit(tensor_parallel=2, nccl_p2p="disabled")


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """The stand-in's package, out of the wheel."""
    wheel = sglang.build(tmp_path)
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "site")
    write_tiny_model(tmp_path / "model")
    return tmp_path / "site"


def _start(stand_in: Path, config_text: str, *more: str) -> subprocess.CompletedProcess[str]:
    """The stand-in with a configuration; it ends, because a test has no GPU."""
    file = stand_in.parent / "config.yaml"
    file.write_text(config_text)
    command = [sys.executable, "-m", "sglang.launch_server", "--config", str(file), *more]
    environment = {**os.environ, "PYTHONPATH": str(stand_in)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize(
    "others",
    [
        {},
        {
            "tensor_parallel": 2,
            "nccl_p2p": "disabled",
            "kv_cache_dtype": "fp8_e4m3",
            "max_running_requests": 4,
        },
        {"embedding": True, "revision": "1" * 40},
        {"extra_args": {"chunked-prefill-size": 4096}},
    ],
)
def test_the_stand_in_takes_every_option_that_the_role_writes(stand_in: Path, others: dict[str, Any]) -> None:
    done = _start(stand_in, text(path=str(stand_in.parent / "model"), **others))

    assert "server_args=" in done.stdout
    assert "CUDA GPUs are available" in done.stderr


def test_the_stand_in_refuses_what_sglang_does_not_know(stand_in: Path) -> None:
    assert "unrecognized arguments" in _start(stand_in, text(extra_args={"max-model-len": 1})).stderr
    assert "holds no language model" in _start(stand_in, text(path="/nowhere")).stderr


def test_the_stand_in_is_installed_by_its_hash(tmp_path: Path) -> None:
    wheel = sglang.build(tmp_path)
    again = tmp_path / "again"
    again.mkdir()
    entry = sglang.describe(wheel, f"http://10.86.0.1:8080/standins/sglang-0/{wheel.name}")
    lines = Path(entry["lock"]).read_text().splitlines()

    assert sglang.build(again).read_bytes() == wheel.read_bytes()
    assert re.fullmatch(
        r"sglang @ http://10\.86\.0\.1:8080/standins/sglang-0/sglang-[0-9.]+%2Bstand\.in-py3-none-any\.whl"
        r" --hash=sha256:[0-9a-f]{64}",
        lines[-1],
    )


def test_the_list_of_packages_is_that_of_the_lock() -> None:
    """The role installs what ``versions.yml`` names; a client's own may name another file."""
    (install,) = [
        task["freehold.stack.venv"]
        for task in yaml.safe_load((resources.roles() / "sglang/tasks/install.yml").read_text())
        if "freehold.stack.venv" in task
    ]
    assert "sglang_artifact.lock" in install["requirements"]
    entry = yaml.safe_load(resources.versions().read_text())["sglang"]
    assert (resources.roles() / entry["lock"]).is_file()
    assert json.dumps(entry).count("standin") == 0
