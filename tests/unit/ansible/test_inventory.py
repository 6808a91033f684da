"""The inventory plugin, with plain Ansible."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def inventory(stack: Path, environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        ["ansible-inventory", "-i", str(stack), "--list"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_groups_are_services_and_nodes(inventory: dict[str, Any]) -> None:
    assert inventory["service_caddy"]["hosts"] == ["caddy"]
    assert inventory["service_postgres"]["hosts"] == ["postgres"]
    assert sorted(inventory["node_pve"]["hosts"]) == ["caddy", "postgres"]
    assert sorted(inventory["services"]["hosts"]) == ["caddy", "postgres"]


def test_hosts_carry_address_and_role_variables(inventory: dict[str, Any]) -> None:
    host = inventory["_meta"]["hostvars"]["caddy"]

    assert host["ansible_host"] == "10.20.0.110"
    assert host["ansible_user"] == "root"
    assert host["freehold_services"] == ["caddy"]
    assert host["caddy_domain"] == "ai.acme.example"


def test_an_inventory_needs_no_secret(inventory: dict[str, Any]) -> None:
    password = inventory["_meta"]["hostvars"]["postgres"]["postgres_databases"][0]["password"]

    assert password == "{{ lookup('freehold.stack.secret', 'caddy.password') }}"


def test_the_clients_ssh_configuration_is_used_once_it_exists(
    stack: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    config = tmp_path / "state/freehold/acme/ssh_config"
    config.parent.mkdir(parents=True)
    config.write_text("Host caddy\n", encoding="utf-8")
    done = subprocess.run(
        ["ansible-inventory", "-i", str(stack), "--host", "caddy"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    host = json.loads(done.stdout)

    assert host["ansible_host"] == "caddy"
    assert host["ansible_ssh_args"] == f"-F {config}"


def test_a_wrong_stack_file_is_refused_with_file_and_line(stack: Path, environment: dict[str, str]) -> None:
    stack.write_text(stack.read_text(encoding="utf-8").replace("title:", "tite:"), encoding="utf-8")
    done = subprocess.run(
        ["ansible-inventory", "-i", str(stack), "--list"],
        env=environment | {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    assert "services.caddy.tite: unknown setting" in done.stderr
    assert "stack.yml:10" in done.stderr
