"""Every role has a scenario of the one pattern, and a scenario runs again when what it is about has changed."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from freehold.catalog import services
from freehold.schema.load import load_stack

ROOT = Path(__file__).parents[2]
ROLES = sorted(services.load())


@pytest.fixture
def runner() -> ModuleType:
    """``molecule/run.py``, which is a script."""
    spec = importlib.util.spec_from_file_location("molecule_run", ROOT / "molecule/run.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["molecule_run"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("role", ROLES)
def test_its_scenario_is_that_of_the_gateway_with_another_name(role: str) -> None:
    pattern = (ROOT / "roles/caddy/molecule/default/molecule.yml").read_text()
    own = (ROOT / "roles" / role / "molecule/default/molecule.yml").read_text()
    assert yaml.safe_load(own) == yaml.safe_load(pattern.replace("caddy", role))


@pytest.mark.parametrize("role", ROLES)
def test_its_stack_takes_turns_and_has_the_role(role: str) -> None:
    stack = load_stack(ROOT / "molecule" / role / "stack.yml").stack
    assert stack.client == f"molecule-{role}"
    assert role in stack.services
    assert not stack.exclusive


def test_scenarios_of_other_lanes_have_other_addresses_and_vmids(runner: ModuleType) -> None:
    lanes: dict[str, set[int]] = {}
    for scenario in runner.scenarios():
        stack = load_stack(scenario.stack).stack
        lanes.setdefault(scenario.lane, set()).add(stack.vmids.first)
    assert all(len(vmids) == 1 for vmids in lanes.values()), lanes
    assert len({vmid for vmids in lanes.values() for vmid in vmids}) == len(lanes)
    # Slots are multiples of five: lanes that differ by less never meet.
    assert len({int(first.rsplit(".", 1)[1]) % 5 for first in lanes}) == len(lanes)
    assert all(meta.slot % 5 == 0 for meta in services.load().values())


def _chosen(runner: ModuleType, **asked: Any) -> set[str]:
    arguments = runner.argparse.Namespace(**({"roles": [], "os": None, "changed": False} | asked))
    return {scenario.title for scenario in runner.chosen(arguments)}


def test_a_role_is_run_on_its_own_release_or_on_the_one_that_is_asked_for(runner: ModuleType) -> None:
    assert _chosen(runner, roles=["caddy"]) == {"caddy"}
    assert _chosen(runner, roles=["caddy"], os="debian-13") == {"caddy/debian-13"}
    assert {*ROLES, "caddy/debian-13"} <= _chosen(runner)
    with pytest.raises(SystemExit, match="nobody"):
        _chosen(runner, roles=["nobody"])
    with pytest.raises(SystemExit, match="No scenario fits"):
        _chosen(runner, roles=["postgres"], os="debian-12")


def test_what_passed_is_left_out_until_it_changes(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results.json"
    monkeypatch.setattr(runner, "RESULTS", results)
    passed = {scenario.title: {"digest": scenario.digest()} for scenario in runner.scenarios()}
    results.write_text(json.dumps(passed))
    always = {"caddy"}
    assert _chosen(runner, changed=True) == always
    results.write_text(json.dumps(passed | {"valkey": {"digest": "of another role"}}))
    assert _chosen(runner, changed=True) == always | {"valkey"}
