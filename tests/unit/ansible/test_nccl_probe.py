"""The probe of GPUs says whether they exchange data directly, in bounded time, and asks once. PyTorch is a stand-in here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from freehold import render

# A stand-in of the few names of PyTorch that the probe uses; FAKE_* say how its GPUs behave.
_TORCH = '''
"""Stand-in of PyTorch for this test."""
import os, pathlib, time
from types import SimpleNamespace
with open(os.environ["FAKE_LOG"], "a") as log:
    log.write("torch was loaded\\n")
if os.environ.get("FAKE_BROKEN"):
    raise ImportError("libcuda.so.1: cannot open shared object file")
class Numbers:
    def __init__(self, value): self.value = value
    def __eq__(self, other): return SimpleNamespace(all=lambda: self.value == other)
def full(shape, value, device): return Numbers(value)
def _peer(one, other): return not os.environ.get("FAKE_NO_PEERS")
cuda = SimpleNamespace(device_count=lambda: int(os.environ["FAKE_GPUS"]), can_device_access_peer=_peer,
                       set_device=lambda rank: None, synchronize=lambda: None)
'''
_DISTRIBUTED = """
import os, time
def init_process_group(backend, init_method, rank, world_size, timeout):
    global world
    world = world_size
    assert backend == "nccl" and init_method.startswith("tcp://127.0.0.1:")
    assert "NCCL_P2P_DISABLE" not in os.environ
def all_reduce(numbers):
    if os.environ.get("FAKE_HANG"):
        time.sleep(600)
    numbers.value = 0.0 if os.environ.get("FAKE_WRONG") else world * (world + 1) / 2
def destroy_process_group():
    pass
"""


class Probe:
    """The probe in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.proc = folder / "proc"
        self.proc.mkdir()
        (self.proc / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.105.08\n")
        package = folder / "fake" / "torch"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(_TORCH)
        (package / "distributed.py").write_text(_DISTRIBUTED)
        self.script = folder / "probe.py"
        self.script.write_text(render.render("nccl_probe/probe.py.j2", {}))

    def run(self, seconds: float = 30, **behaviour: str) -> dict[str, Any]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.folder / "fake"),
            "FAKE_LOG": str(self.log),
            "FAKE_GPUS": "2",
            "FREEHOLD_PROC_NVIDIA": str(self.proc),
            "FREEHOLD_DEV": str(self.folder),
            "NCCL_P2P_DISABLE": "1",
            **behaviour,
        }
        command = [sys.executable, str(self.script), str(self.folder), "2", str(seconds)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads((self.folder / "p2p.json").read_text())
        return found

    @property
    def environment(self) -> str:
        return (self.folder / "p2p.env").read_text()

    @property
    def loads(self) -> int:
        return len(self.log.read_text().splitlines())


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    return Probe(tmp_path)


def test_gpus_that_exchange_data_may_do_so(probe: Probe) -> None:
    found = probe.run()

    assert (found["p2p"], found["final"], found["gpus"]) == (True, True, 2)
    assert probe.environment == "ENGINE_P2P_OPTIONS=\n"


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"FAKE_NO_PEERS": "1"}, "cannot reach"),
        ({"FAKE_WRONG": "1"}, "wrong numbers"),
        ({"FAKE_HANG": "1"}, "did not end in 3 s"),
    ],
)
def test_gpus_that_do_not_go_through_main_memory(
    probe: Probe, behaviour: dict[str, str], reason: str
) -> None:
    began = time.monotonic()
    found = probe.run(seconds=3, **behaviour)

    assert time.monotonic() - began < 20
    assert (found["p2p"], found["final"]) == (False, True)
    assert reason in found["reason"]
    assert "NCCL_P2P_DISABLE=1\n" in probe.environment
    assert "ENGINE_P2P_OPTIONS=--disable-custom-all-reduce\n" in probe.environment


def test_it_asks_once_for_a_driver_and_its_gpus(probe: Probe) -> None:
    probe.run()
    asked = probe.loads
    probe.run(FAKE_HANG="1")
    assert probe.loads == asked

    (probe.proc / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  590.44.01\n")
    assert probe.run(FAKE_NO_PEERS="1")["p2p"] is False
    assert probe.loads > asked


def test_a_probe_that_failed_is_tried_again(probe: Probe) -> None:
    found = probe.run(FAKE_BROKEN="1")

    assert (found["p2p"], found["final"]) == (False, False)
    assert "libcuda.so.1" in found["reason"]
    assert "NCCL_P2P_DISABLE=1" in probe.environment
    assert probe.run()["p2p"] is True


def test_a_gpu_that_is_not_there_is_no_answer(probe: Probe) -> None:
    found = probe.run(FAKE_GPUS="1")

    assert (found["p2p"], found["final"]) == (False, False)
    assert "1 GPUs of 2" in found["reason"]
