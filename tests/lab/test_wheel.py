"""Freehold as a user gets it: the wheel in a virtual environment of its own, an inventory outside any checkout."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from .freehold_command import REPOSITORY, Freehold

pytestmark = pytest.mark.lab

CLIENT = "wheel"


class Installed(Freehold):
    """The command from the wheel; it finds its inventory in the directory where it is run."""

    def env(self) -> dict[str, str]:
        ours = ("ANSIBLE_", "FREEHOLD_", "PYTHONPATH", "VIRTUAL_ENV")
        return {name: value for name, value in super().env().items() if not name.startswith(ours)}

    def tool(self, name: str, *words: str) -> str:
        """What a program that came with the wheel prints."""
        done = subprocess.run(
            [str(self.program.with_name(name)), *words],
            env=self.env(),
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{name} {words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def installed(freehold: Freehold, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    home = tmp_path_factory.mktemp("user")
    work, place = home / "work", home / "venv"
    work.mkdir()
    uv = str(Path(sys.executable).with_name("uv"))
    steps = [
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(home)],
        [uv, "venv", "--quiet", "--python", sys.executable, str(place)],
        [uv, "pip", "install", "--quiet", "--python", str(place), "--constraints", "requirements.lock"],
    ]
    for step in steps:
        wheel = [str(path) for path in home.glob("*.whl")] if "pip" in step else []
        subprocess.run([*step, *wheel], cwd=REPOSITORY, check=True, timeout=300)
    user = Installed(home, work / "inventory", program=place / "bin/freehold", directory=work)
    yield user
    user("down", CLIENT, "--confirm", CLIENT, code=None)


def test_it_is_whole_without_the_checkout(installed: Installed) -> None:
    where = "import freehold.resources as r; print(r.__file__, r.roles(), r.templates(), r.host_tests(), sep='\\n')"

    for line in installed.tool("python", "-c", where).splitlines():
        assert Path(line).is_relative_to(installed.home)
        assert Path(line).exists()
    assert "From nothing to a stack" in installed("--help").stdout


def test_the_lab_says_what_it_lacks(installed: Installed) -> None:
    assert "pip install 'freehold[lab]'" in installed("lab", "start", code=2).stderr


def test_init_writes_a_stack_file_that_can_be_planned(installed: Installed) -> None:
    installed(
        "init",
        CLIENT,
        "--yes",
        "--endpoint=https://127.0.0.1:8006",
        "--root=ssh",
        "--ssh-host=10.86.0.2",
        "--ssh-key=/var/lib/freehold-lab/node_key",
    )
    path = installed.inventory / CLIENT / "stack.yml"
    stack = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"openwebui", "vllm"} == stack["services"].keys()
    # the lab's own stack may stand where init begins
    stack["network"]["first"], stack["vmids"]["first"] = "10.86.0.30", 2200
    path.write_text(yaml.safe_dump(stack), encoding="utf-8")

    findings = installed.json("check", CLIENT, "--only", "postgres")
    # The lab's datacenter firewall is off, as that of a new Proxmox VE is.
    assert [finding["about"] for finding in findings if finding["status"] != "ok"] == ["Proxmox firewall"]
    installed("plan", CLIENT, "--only", "postgres", "--detailed-exitcode", code=3)


def test_up_proves_the_one_service_and_a_second_run_changes_nothing(installed: Installed) -> None:
    first = installed.up(CLIENT, "--only", "postgres")
    assert [host["host"] for host in first["hosts"]] == ["egress", "postgres"]
    assert first["passed"] > 20
    assert installed.up(CLIENT, "--only", "postgres", "--no-proof")["changes"] == {}


def test_the_other_verbs(installed: Installed) -> None:
    assert "checks passed" in installed("verify", CLIENT, "--only", "postgres").stdout
    states = {state["host"]: state["state"] for state in installed.json("status", CLIENT)}
    assert {states.pop("egress"), states.pop("postgres")} == {"running"}
    assert set(states.values()) == {"missing"}
    assert "openwebui.database_password" in installed("secrets", "show", CLIENT).stdout.split()
    assert "HostName 10.86.0.50" in installed("ssh-config", CLIENT).stdout
    assert "stack.yml" in installed("show", "stack", CLIENT, "--origin").stdout


def test_plain_ansible_finds_collection_inventory_roles_and_playbook(installed: Installed) -> None:
    stack = f"inventory/{CLIENT}/stack.yml"

    assert "freehold.stack" in installed.tool("ansible-galaxy", "collection", "list", "freehold.stack")
    assert "files.py" in installed.tool("ansible-doc", "-t", "module", "freehold.stack.files")
    assert "service_postgres" in installed.tool("ansible-inventory", "-i", stack, "--graph")
    assert "changed=0 " in installed.tool(
        "ansible-playbook", "-i", stack, "freehold.stack.site", "--limit", "egress,postgres"
    )


def test_down_removes_the_container(installed: Installed) -> None:
    installed("down", CLIENT, "--confirm", CLIENT)
    assert {state["state"] for state in installed.json("status", CLIENT)} == {"missing"}
