"""What happens to a stack in its life: each change is made by one run, and the run after it finds nothing to do."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .freehold_command import Freehold

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CLIENT = "changes"
VMIDS = 2300
UNIT = f"freehold-gpu-{CLIENT}.service"


def _write(freehold: Freehold, first: str = "10.86.0.30", **hosts: Any) -> Path:
    services = {"caddy": None, "postgres": None}
    return freehold.write(CLIENT, first, VMIDS, services=services, hosts=hosts)


def _node(words: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    key = ["-i", "/var/lib/freehold-lab/node_key"]
    known = ["-o", "UserKnownHostsFile=/var/lib/freehold-lab/known_hosts"]
    return subprocess.run(
        ["ssh", *key, *known, "root@10.86.0.2", words],
        capture_output=True,
        text=True,
        check=check,
        timeout=120,
    )


def _changes_once(freehold: Freehold) -> dict[str, int]:
    """What the next run changes; the one after it changes nothing. Both prove the hosts."""
    first = freehold.up(CLIENT)
    assert first["passed"]
    assert freehold.up(CLIENT)["changes"] == {}
    changes: dict[str, int] = first["changes"]
    return changes


@pytest.fixture(scope="module", autouse=True)
def stack(freehold: Freehold) -> None:
    _write(freehold, postgres={"gpus": [0]})
    freehold("prepare", CLIENT)
    assert {"containers", "root-steps", "base", "services"} <= set(_changes_once(freehold))


def test_the_last_gpu_takes_its_unit_along(freehold: Freehold) -> None:
    assert _node(f"systemctl is-active {UNIT}").stdout == "active\n"
    freehold("up", CLIENT, "--only", "caddy", "--no-proof")
    assert _node(f"systemctl is-active {UNIT}").stdout == "active\n"
    _write(freehold)
    assert {"node", "root-steps", "start"} <= set(_changes_once(freehold))
    assert _node(f"systemctl cat {UNIT}", check=False).returncode != 0
    assert freehold.ssh(CLIENT, "postgres", "ls /dev/nvidia0").returncode != 0


def test_what_a_run_began_is_ended_though_the_stack_is_as_before(freehold: Freehold) -> None:
    note = """echo '{"caddy": ["Restart Caddy"]}' > /etc/freehold/pending.json"""
    freehold.ssh(CLIENT, "caddy", note)
    before = freehold.ssh(CLIENT, "caddy", "systemctl show -P MainPID caddy").stdout
    assert set(_changes_once(freehold)) == {"services"}
    assert freehold.ssh(CLIENT, "caddy", "systemctl show -P MainPID caddy").stdout != before


def test_an_installation_that_was_cut_off_is_ended(freehold: Freehold) -> None:
    make = (
        "mkdir -p /tmp/p/DEBIAN && printf 'Package: half\\nVersion: 1\\nArchitecture: all\\n"
        "Maintainer: nobody\\nDescription: half\\n' > /tmp/p/DEBIAN/control"
        " && dpkg-deb -b /tmp/p /tmp/half.deb && dpkg --unpack /tmp/half.deb"
    )
    assert freehold.ssh(CLIENT, "caddy", make).returncode == 0
    assert set(_changes_once(freehold)) == {"base"}
    status = freehold.ssh(CLIENT, "caddy", "dpkg-query -W -f '${db:Status-Status}' half").stdout
    assert status == "installed"


def test_a_cluster_that_was_cut_off_in_the_making_is_made_anew(freehold: Freehold) -> None:
    """What `initdb` leaves when it is killed: files of a cluster that no server ever ran on."""
    data, conf = "/var/lib/postgresql/17/main", "/etc/postgresql/17/main"
    half = (
        f"systemctl stop postgresql@17-main && rm -rf {conf} {data}/base {data}/postmaster.opts "
        "&& touch /var/lib/postgresql/.making-17-main"
    )
    assert freehold.ssh(CLIENT, "postgres", half).returncode == 0
    assert set(_changes_once(freehold)) == {"services"}
    assert freehold.ssh(CLIENT, "postgres", "ls -A /var/lib/postgresql").stdout.split() == ["17", "dumps"]


def test_a_cluster_that_a_server_ran_on_is_kept_by_a_new_container(freehold: Freehold) -> None:
    """A mark that was left behind must never cost data."""
    make = "cd / && runuser -u postgres -- psql -qc 'CREATE TABLE IF NOT EXISTS kept (n int)'"
    assert freehold.ssh(CLIENT, "postgres", make).returncode == 0
    lost = "systemctl stop postgresql@17-main && rm -rf /etc/postgresql/17/main && touch /var/lib/postgresql/.making-17-main"
    assert freehold.ssh(CLIENT, "postgres", lost).returncode == 0
    assert set(_changes_once(freehold)) == {"services"}
    table = "cd / && runuser -u postgres -- psql -Atqc \"SELECT to_regclass('kept')\""
    assert freehold.ssh(CLIENT, "postgres", table).stdout == "kept\n"


def test_a_gateway_that_was_destroyed_outside_is_made_anew(freehold: Freehold) -> None:
    authority = freehold.inventory / CLIENT / "ca.crt"
    pins = freehold.inventory / CLIENT / "known_hosts"
    old, keys = authority.read_text(), pins.read_text()
    _node(f"pct stop {VMIDS + 10} && pct destroy {VMIDS + 10}")
    assert {"containers", "start", "base", "services"} <= set(_changes_once(freehold))
    assert authority.read_text() == old  # browsers trust the new gateway as they did the old one
    assert pins.read_text() != keys
    there = f"/usr/local/share/ca-certificates/freehold-{CLIENT}.crt"
    assert freehold.ssh(CLIENT, "postgres", f"cat {there}").stdout == authority.read_text()


def test_addresses_move_though_one_becomes_that_of_another_host(freehold: Freehold) -> None:
    _write(freehold, first="10.86.0.40")
    assert {"containers", "services"} <= set(_changes_once(freehold))
    assert freehold.ssh(CLIENT, "caddy", "hostname").stdout == f"{CLIENT}-caddy\n"
    assert freehold.ssh(CLIENT, "postgres", "hostname").stdout == f"{CLIENT}-postgres\n"


def test_what_was_changed_by_hand_is_brought_back_and_rules_of_others_stay(freehold: Freehold) -> None:
    _node(f"pct set {VMIDS + 10} --memory 700 --tags 'client-{CLIENT};freehold;mine'")
    rules = f"/nodes/pve/lxc/{VMIDS + 10}/firewall/rules"
    before = json.loads(_node(f"pvesh get {rules} --output-format json").stdout)
    assert len(before) > 2
    _node(f"pvesh create {rules} --type in --action DROP --source 10.86.0.9 --enable 1 --comment theirs")
    _node(f"pvesh delete {rules}/1")
    assert set(_changes_once(freehold)) == {"containers"}
    assert "memory: 512" in _node(f"pct config {VMIDS + 10}").stdout
    theirs, *ours = json.loads(_node(f"pvesh get {rules} --output-format json").stdout)
    assert theirs["comment"] == "theirs"
    assert sorted(rule["comment"] for rule in ours) == sorted(rule["comment"] for rule in before)
    made = freehold.json("plan", CLIENT)
    assert made["firewall"]["state"] == "written, not in force"
    assert any("in DROP from 10.86.0.9 (theirs)" in note for note in made["notes"])
