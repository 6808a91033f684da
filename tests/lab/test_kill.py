"""SIGKILL in each stage of ``up``, and Ctrl-C in one: the next run goes on, and at the end there is no duplicate and no orphan."""

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


def _end_in(freehold: Freehold, stage: str, by: signal.Signals, delay: float = 0) -> int:
    """Start ``up``, and send it a signal ``delay`` seconds after the stage has begun. Its exit code."""
    run = freehold.start("up", CLIENT, "--json")
    assert run.stdout is not None
    reached = any(json.loads(line).get("stage") == stage for line in run.stdout)
    assert reached, f"the run ended before the stage {stage}"
    time.sleep(delay)
    os.kill(run.pid, by)
    return run.wait(timeout=60)


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
        if stage == "base":
            assert _end_in(freehold, stage, signal.SIGINT) == 130  # Ctrl-C
        assert _end_in(freehold, stage, signal.SIGKILL, delay) == -signal.SIGKILL
    summary = freehold.up(CLIENT)
    assert summary["passed"]
    assert freehold.up(CLIENT)["changes"] == {}
    states = freehold.json("status", CLIENT)
    assert [(state["host"], state["state"]) for state in states] == [("caddy", "running")]
    freehold("down", CLIENT, "--confirm", CLIENT)
    assert freehold.json("status", CLIENT)[0]["state"] == "missing"
