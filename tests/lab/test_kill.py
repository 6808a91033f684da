"""SIGKILL in each stage of ``up``: the next run goes on, and at the end there is no duplicate and no orphan."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from .freehold_command import Freehold

pytestmark = pytest.mark.lab

CLIENT = "killed"
STAGES = ("node", "plan", "containers", "root-steps", "start", "base", "services", "proof")


def _kill_in(freehold: Freehold, stage: str, delay: float) -> None:
    """Start ``up`` and kill it with all its children as soon as the stage has begun, ``delay`` seconds into it."""
    run = freehold.start("up", CLIENT, "--json")
    assert run.stdout is not None
    reached = False
    for line in run.stdout:
        event = json.loads(line)
        if event.get("stage") == stage:
            reached = True
            break
    assert reached, f"the run ended before the stage {stage}"
    time.sleep(delay)
    os.kill(run.pid, signal.SIGKILL)
    run.wait(timeout=30)


@pytest.mark.parametrize(
    "delay",
    [
        pytest.param(0.0, id="at its beginning"),
        pytest.param(0.7, id="in its middle", marks=pytest.mark.slow),
    ],
)
def test_killed_in_each_stage_it_goes_on(freehold: Freehold, delay: float) -> None:
    freehold.write(CLIENT, "10.86.0.5", 2100, services={"caddy": None}, hosts={"caddy": {"gpus": [0]}})
    freehold("prepare", CLIENT)
    for stage in STAGES:
        _kill_in(freehold, stage, delay)
    summary = freehold.up(CLIENT)
    assert summary["passed"]
    assert freehold.up(CLIENT)["changes"] == {}
    states = freehold.json("status", CLIENT)
    assert [(state["host"], state["state"]) for state in states] == [("caddy", "running")]
    freehold("down", CLIENT, "--confirm", CLIENT)
    assert freehold.json("status", CLIENT)[0]["state"] == "missing"


def test_ctrl_c_says_how_to_go_on(freehold: Freehold) -> None:
    freehold.write(CLIENT, "10.86.0.5", 2100, services={"caddy": None}, hosts={})
    freehold("prepare", CLIENT)
    run = freehold.start("up", CLIENT, "--json")
    assert run.stdout is not None
    for line in run.stdout:
        if json.loads(line).get("stage") == "base":
            break
    os.kill(run.pid, signal.SIGINT)
    assert run.wait(timeout=60) == 130
    assert freehold.up(CLIENT)["passed"]
