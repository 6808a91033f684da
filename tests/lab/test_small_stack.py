"""The chain from stack file to proof on two real containers: up, nothing to do, drift, change, down."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from .freehold_command import REPOSITORY, Freehold, confidential, processes

pytestmark = pytest.mark.lab

CLIENT = "small"


@pytest.fixture(scope="module", autouse=True)
def stack(freehold: Freehold) -> Path:
    return freehold.write(
        CLIENT,
        "10.86.0.5",
        2000,
        services={"caddy": None, "postgres": None},
        hosts={"postgres": {"gpus": [0]}},
    )


def _pct(*words: str) -> str:
    node = [
        "ssh",
        "-i",
        "/var/lib/freehold-lab/node_key",
        "-o",
        "UserKnownHostsFile=/var/lib/freehold-lab/known_hosts",
    ]
    done = subprocess.run(
        [*node, "root@10.86.0.2", " ".join(words)], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_without_a_token_it_says_what_to_run(freehold: Freehold) -> None:
    done = freehold("up", CLIENT, code=2)
    assert f"freehold prepare {CLIENT}" in done.stderr


def test_first_run_makes_and_proves_everything(freehold: Freehold) -> None:
    freehold("prepare", CLIENT)
    summary = freehold.up(CLIENT)
    assert {host["host"] for host in summary["hosts"]} == {"caddy", "postgres"}
    assert summary["passed"] > 20
    assert Path(summary["report"]).is_file()
    assert {"containers", "root-steps", "start", "base", "services"} <= set(summary["changes"])


def test_second_run_changes_nothing(freehold: Freehold) -> None:
    assert freehold.up(CLIENT)["changes"] == {}
    assert freehold("plan", CLIENT, "--detailed-exitcode").returncode == 0


def test_prepare_again_changes_nothing(freehold: Freehold) -> None:
    assert "Already prepared" in freehold("prepare", CLIENT).stdout


def test_gpu_is_in_the_one_container_and_in_no_other(freehold: Freehold) -> None:
    owner = freehold.ssh(CLIENT, "postgres", "stat -c '%U:%G %a %t:%T' /dev/nvidia0").stdout.split()
    assert owner == ["root:gpu", "660", "1:3"]
    assert freehold.ssh(CLIENT, "caddy", "ls /dev/nvidia0").returncode != 0
    assert freehold.ssh(CLIENT, "postgres", "ls /dev/nvidia1").returncode != 0


def test_no_secret_in_anything_that_a_run_writes(freehold: Freehold) -> None:
    names = freehold("secrets", "show", CLIENT).stdout.split()
    values = {name: confidential(freehold("secrets", "show", CLIENT, name).stdout) for name in names}
    assert "proxmox.token" in values
    assert "freehold.ssh_key" in values
    written = freehold.written(CLIENT)
    assert len(written) > 5
    for path in written:
        content = path.read_bytes()
        for name, value in values.items():
            assert value, name
            for line in value:
                assert line.encode() not in content, f"{name} is in {path}"


def test_no_secret_in_arguments_or_environments_while_a_run_works(freehold: Freehold) -> None:
    secrets = [
        line.encode()
        for name in freehold("secrets", "show", CLIENT).stdout.split()
        for line in confidential(freehold("secrets", "show", CLIENT, name).stdout)
    ]
    run = freehold.start("up", CLIENT, "--full", "--json")
    looks, seen = 0, 0
    while run.poll() is None:
        for name, content in processes():
            seen += 1
            assert not any(secret in content for secret in secrets), f"a secret is in {name}"
        looks += 1
    assert run.returncode == 0
    assert looks > 3
    assert seen > looks


def test_drift_is_brought_back(freehold: Freehold) -> None:
    freehold.ssh(CLIENT, "caddy", "echo '# by hand' >> /etc/caddy/Caddyfile; systemctl stop caddy")
    summary = freehold.up(CLIENT)
    assert "services" in summary["changes"]
    assert freehold.ssh(CLIENT, "caddy", "grep -c 'by hand' /etc/caddy/Caddyfile").stdout.strip() == "0"
    assert freehold.ssh(CLIENT, "caddy", "systemctl is-active caddy").stdout.strip() == "active"


def test_stopped_container_is_started(freehold: Freehold) -> None:
    _pct("pct", "stop", "2010")
    assert freehold.json("status", CLIENT)[-1]["state"] == "stopped"
    assert freehold.up(CLIENT)["changes"] == {"start": 1}


def test_changes_of_the_stack_are_planned_and_made(freehold: Freehold) -> None:
    stack = freehold.inventory / CLIENT / "stack.yml"
    text = stack.read_text()
    stack.write_text(text.replace("hosts:\n", "hosts:\n  caddy:\n    memory: 640\n    disk: 5\n"))
    assert freehold("plan", CLIENT, "--detailed-exitcode", code=3)
    fields = {
        diff["field"] for change in freehold.json("plan", CLIENT)["changes"] for diff in change["diffs"]
    }
    assert {"memory", "rootfs size"} <= fields
    assert freehold.up(CLIENT)["changes"] == {"containers": 1}
    assert "640" in _pct("pct", "config", "2010")
    stack.write_text(stack.read_text().replace("disk: 5", "disk: 4"))
    shrink = freehold("up", CLIENT, code=2)
    assert "4" in shrink.stderr
    stack.write_text(stack.read_text().replace("disk: 4", "disk: 5"))
    assert freehold.up(CLIENT)["changes"] == {}


def test_plain_ansible_and_plain_pyinfra_agree_that_nothing_is_to_do(freehold: Freehold) -> None:
    stack = str(freehold.inventory / CLIENT / "stack.yml")
    env = freehold.env() | {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")}
    graph = subprocess.run(
        [_tool("ansible-inventory"), "-i", stack, "--graph"],
        env=env,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert "postgres" in graph.stdout, graph.stderr
    play = subprocess.run(
        [_tool("ansible-playbook"), "-i", stack, "site.yml", "--check"],
        env=env,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert play.returncode == 0, play.stdout[-3000:] + play.stderr[-3000:]
    recap = [line for line in play.stdout.splitlines() if "changed=" in line]
    assert len(recap) == 2
    assert all("changed=0" in line for line in recap), recap
    dry = subprocess.run(
        [_tool("pyinfra"), "--dry", "--limit", "guests", "deploys/inventory.py", "deploys/base.py"],
        env=env | {"FREEHOLD_CLIENT": stack},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert dry.returncode == 0, dry.stdout[-3000:] + dry.stderr[-3000:]


def _tool(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not on PATH"
    return found


def test_second_up_of_the_same_client_is_refused_while_one_runs(freehold: Freehold) -> None:
    first = freehold.start("up", CLIENT, "--full", "--json")
    assert first.stdout is not None
    first.stdout.readline()
    second = freehold("up", CLIENT, code=1)
    assert "Another run works" in second.stderr
    assert first.wait(timeout=300) == 0


def test_foreign_container_is_refused_and_left_alone(freehold: Freehold) -> None:
    freehold.write("other", "10.86.0.5", 2000, services={"caddy": None}, hosts={})
    shutil.rmtree(freehold.home / "elsewhere", ignore_errors=True)
    (freehold.inventory / "other").rename(freehold.home / "elsewhere")
    stack = str(freehold.home / "elsewhere/stack.yml")
    freehold("prepare", stack)
    before = _pct("pct", "config", "2010")
    refused = freehold("up", stack, code=2)
    assert "2010" in refused.stderr
    assert _pct("pct", "config", "2010") == before


def test_down_asks_for_the_name_and_removes_all(freehold: Freehold) -> None:
    wrong = freehold("down", CLIENT, "--confirm", "somebody", code=2)
    assert "nothing was touched" in wrong.stderr
    freehold("down", CLIENT, "--confirm", CLIENT)
    assert {entry["state"] for entry in freehold.json("status", CLIENT)} == {"missing"}
    assert CLIENT not in _pct("pct", "list")
    assert "nothing to do" in freehold("down", CLIENT, "--confirm", CLIENT).stdout
