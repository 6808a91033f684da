"""What ``freehold driver`` shows a person, and a machine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from freehold.cli.main import app
from freehold.nvidia import NodeDriver
from freehold.run import driver, driver_upgrade
from freehold.run.context import Client

STATE = NodeDriver(
    "6.17.2-1-pve",
    "7.0.2-6-pve",
    installed="580.178.04",
    loaded="580.126.18",
    modules={"6.17.2-1-pve": "580.178.04"},
)


@pytest.fixture(autouse=True)
def one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    found = driver.NodeStatus(
        "pve", True, "580.178.04", STATE, {"vllm": "580.126.18", "ollama": None}, {"beta": ["beta-vllm"]}
    )
    monkeypatch.setattr(Client, "open", lambda target, only=None: None)
    monkeypatch.setattr(driver, "status", lambda client: [found])


def run(*words: str) -> Any:
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, ["driver", *words])


def test_status_for_a_person() -> None:
    done = run("status", "acme")

    assert done.exit_code == 0, done.output
    lines = {line.strip() for line in done.output.splitlines()}
    shown = " ".join(done.output.split())
    assert "7.0.2-6-pve (no module of the driver)" in shown
    assert "container ollama none" in shown
    assert "also beta beta-vllm" in shown
    assert "lockstep no" in shown
    assert "reboot needed: 580.178.04 is installed, and the kernel still has 580.126.18 loaded" in shown
    assert len(lines) > 10


def test_status_for_a_machine() -> None:
    (node,) = json.loads(run("status", "acme", "--json").output)

    assert node["in_lockstep"] is False
    assert node["next_boot_ready"] is False
    assert node["kernels"]["6.17.2-1-pve"] == {"headers": False, "module": "580.178.04", "dkms": None}
    assert node["kernels"]["7.0.2-6-pve"]["module"] is None
    assert node["containers"] == {"vllm": "580.126.18", "ollama": None}


def test_a_client_without_nvidia_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "status", lambda client: [])

    assert "uses no NVIDIA GPU" in run("status", "acme").output


@pytest.mark.parametrize(("command", "back"), [("upgrade", False), ("rollback", True)])
def test_the_name_of_the_command_says_to_which_driver_it_goes(
    command: str, back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def plan(client: Client, *, rollback: bool) -> list[Any]:
        asked.append(rollback)
        return []

    monkeypatch.setattr(driver_upgrade, "plan", plan)

    assert run(command, "acme", "--dry-run").exit_code == 0
    assert asked == [back]
