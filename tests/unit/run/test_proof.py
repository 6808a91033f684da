"""The proof against hosts that are not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from freehold.events import Event, Status
from freehold.run.context import Client

SSH_STANDIN = """#!/bin/sh
echo call >> "$SSH_CALLS"
echo "ssh: connect to host: Connection timed out" >&2
exit 255
"""


def test_a_host_that_does_not_answer_is_asked_once(client: Client, home: Path) -> None:
    programs, calls = home / "programs", home / "calls"
    programs.mkdir()
    (programs / "ssh").write_text(SSH_STANDIN)
    (programs / "ssh").chmod(0o755)
    document = {
        "layout": client.layout.model_dump(mode="json"),
        "ssh_config": str(home / "ssh_config"),
        "report": str(home / "proof.xml"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "freehold.run.proof"],
        input=json.dumps(document),
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "SSH_CALLS": str(calls)},
        capture_output=True,
        text=True,
        check=False,
    )
    events = [Event.model_validate_json(line) for line in done.stdout.splitlines()]
    failed = [event for event in events if event.status is Status.FAILED]
    assert done.returncode == 1
    assert {event.host for event in failed} == {"caddy", "postgres"}
    assert all("does not answer over SSH: ssh: connect to host" in event.message for event in failed)
    assert len(calls.read_text().splitlines()) == 2
