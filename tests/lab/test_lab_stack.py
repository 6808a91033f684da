"""The main job: the lab's whole stack, from its stack file to a chat in a browser."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from benchmarks.routing import QUESTION

from freehold.catalog import services

from . import asking
from .freehold_command import REPOSITORY, Freehold

pytestmark = pytest.mark.lab

CLIENT = "whole"
KNOWN = services.load()
HOSTS = KNOWN.keys() - {"sglang"}
"""A third engine beside the other two would tell nothing new."""
STAND_INS = {"ClickHouse", "Grafana", "Langfuse", "Ollama", "Qdrant"}
"""What cannot be had where only package indexes are reached."""


@pytest.fixture(scope="module")
def stack(freehold: Freehold) -> Path:
    return freehold.write(CLIENT, "10.86.0.5", 2000)


def test_from_nothing_to_a_proven_stack(freehold: Freehold, stack: Path) -> None:
    asking.prepare(freehold, stack)
    summary = freehold.up(CLIENT)
    assert {host["host"] for host in summary["hosts"]} == HOSTS
    routes = [route for meta in KNOWN.values() for route in meta.routes]
    assert summary["addresses"] == {
        route.title: f"https://{route.host}.{CLIENT}.internal" for route in routes
    }
    assert any("openwebui.admin_password" in login for login in summary["logins"])
    assert {text.rpartition(" ")[0] for text in summary["stand_ins"]} == STAND_INS
    assert summary["passed"] > 250


def test_again_nothing_had_to_change(freehold: Freehold) -> None:
    assert freehold.up(CLIENT, "--no-proof")["changes"] == {}


def test_a_person_chats_in_a_browser(freehold: Freehold, stack: Path, tmp_path: Path) -> None:
    picture = tmp_path / "chat.png"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/browser"],
        env=freehold.env() | {"FREEHOLD_STACK": str(stack), "FREEHOLD_SCREENSHOT": str(picture)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert picture.stat().st_size > 10_000


def test_what_is_not_sensitive_goes_by_the_one_way_out_and_a_bank_account_stays(
    freehold: Freehold, stack: Path
) -> None:
    asker, cloud = asking.asker(freehold, stack), asking.cloud()
    before = cloud.count()
    account = [{"role": "user", "content": "Pay to DE89 3704 0044 0532 0130 00"}]
    calls = [[asker.call(str(uuid.uuid4()), messages, asker.model)] for messages in (QUESTION, account)]
    answers = [turns[0] for turns in asker.send(calls)]

    assert [(status, told["route"]) for status, _, told in answers] == [(200, "cloud"), (200, "local")]
    assert cloud.count() == before + 1
    tunnels = freehold.ssh(CLIENT, "egress", "cat /var/log/squid/access.log").stdout
    assert f" {asker.address} CONNECT {asking.CLOUD.removeprefix('https://')} " in tunnels


def test_an_auditor_gets_a_signed_folder_with_what_the_hosts_say(freehold: Freehold, stack: Path) -> None:
    written = freehold.json("evidence", CLIENT)
    unread = [gap["missing"] for gap in written["missing"] if "could not be read" in gap["missing"]]
    assert not unread
    sections = json.loads((Path(written["folder"]) / "evidence.json").read_text())["sections"]
    assert {host["state"] for host in sections["systems"]["data"]["hosts"]} == {"running"}
    assert sections["incidents"]["data"]["drift"] == []
    assert sections["proofs"]["data"]["failed"] == 0
    record = sections["retention"]["data"]["whole"]
    assert record["calls"] > 0
    assert record["complete"], record
    freehold("evidence", "verify", written["folder"], "--key", str(stack.parent / "signing-key.pem"))


def test_plain_ansible_agrees_that_nothing_is_to_do(freehold: Freehold, stack: Path) -> None:
    done = subprocess.run(
        ["ansible-playbook", "-i", str(stack), "site.yml", "--check"],
        env=freehold.env() | {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    recap = [line for line in done.stdout.splitlines() if "changed=" in line]
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert len(recap) == len(HOSTS)
    assert all("changed=0" in line for line in recap), recap


def test_down_leaves_nothing(freehold: Freehold) -> None:
    freehold("down", CLIENT, "--confirm", CLIENT)
    assert {state["state"] for state in freehold.json("status", CLIENT)} == {"missing"}
