"""A client of its own for each test, and Ansible run on this machine as a child process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from freehold import resources
from freehold.events import Event
from freehold.layout.compute import load_layout
from freehold.layout.types import Layout

STACK = """\
plugin: freehold.stack.stack
client: acme
domain: ai.acme.example
proxmox:
  endpoint: https://pve.acme.example:8006
network:
  subnet: 10.20.0.0/24
services:
  caddy:
    title: "{{ 7 * 6 }} applications"
  postgres:
    databases:
      - name: chat
        owner_service: caddy
        address: 10.20.0.110
        password: "{{ lookup('freehold.stack.secret', 'caddy.password') }}"
egress: {closed: false}
"""

SECRETS = {
    "freehold": {"fingerprint_key": "00" * 32, "ssh_key": "a key of several words"},
    "caddy": {"password": "s3cret-of-the-test", "names": "[]"},
}

# Runs what freehold.ansible runs, with templates of the test.
_WITH_TEMPLATES = """
import sys
from pathlib import Path
from freehold import resources
resources.templates = lambda: Path(sys.argv[1])
from freehold.ansible.__main__ import main
sys.exit(main())
"""


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "inventory" / "acme" / "stack.yml"
    path.parent.mkdir(parents=True)
    path.write_text(STACK, encoding="utf-8")
    return path


@pytest.fixture
def layout(stack: Path) -> Layout:
    return load_layout(stack)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name in [name for name in os.environ if name.startswith(("ANSIBLE_", "FREEHOLD_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    # the Ansible beside this Python, whichever else is on the PATH
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return dict(os.environ)


class Run:
    """A finished run: its events, exit code and Ansible's own output."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.output = done.stderr
        self.raw = done.stdout
        self.events = [Event.model_validate_json(line) for line in done.stdout.splitlines()]

    def of(self, step: str) -> list[str]:
        """Statuses of a step, in order."""
        return [event.status.value for event in self.events if event.step == step]


Play = Callable[..., Run]


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


@pytest.fixture
def play(tmp_path: Path, stack: Path, layout: Layout, environment: dict[str, str]) -> Play:
    """Runs a playbook with the client's host ``caddy`` being this machine."""

    def run(
        tasks: str, *, templates: dict[str, str] | None = None, handlers: str = "", **options: Any
    ) -> Run:
        folder = tmp_path / "templates" / "caddy"
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (templates or {}).items():
            (folder / name).write_text(text, encoding="utf-8")
        playbook = tmp_path / "playbook.yml"
        playbook.write_text(
            "- hosts: caddy\n  connection: local\n  gather_facts: false\n"
            f"  vars: {{ansible_python_interpreter: '{sys.executable}', freehold_host_folder: '{tmp_path}/etc'}}\n"
            "  tasks:\n" + _indented(tasks) + ("  handlers:\n" + _indented(handlers) if handlers else ""),
            encoding="utf-8",
        )
        request = {
            "layout": layout.model_dump(mode="json"),
            "stack": str(stack),
            "secrets": SECRETS,
            "playbook": str(playbook),
            **options,
        }
        return Run(
            subprocess.run(
                [sys.executable, "-c", _WITH_TEMPLATES, str(folder.parent)],
                input=json.dumps(request),
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
        )

    return run


def run_module(folder: Path, name: str, options: Mapping[str, object], before: str = "") -> dict[str, Any]:
    """Run a module of the collection as Ansible runs it on a host; what it answers.

    Its notes are in the folder's ``etc``, and programs in its ``bin`` come first. ``before`` is a line that changes the
    module, which is called ``module`` there.
    """
    plugins = "ansible_collections.freehold.stack.plugins"
    program = (
        "from pathlib import Path\n"
        f"from {plugins}.module_utils import pending\n"
        f"pending.FOLDER = {str(folder / 'etc')!r}\n"
        f"from {plugins}.modules import {name} as module\n"
        f"{before}\n"
        "module.main()"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": options}),
        capture_output=True,
        text=True,
        env=os.environ
        | {"PYTHONPATH": str(resources.collections()), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"},
        check=False,
        timeout=60,
    )
    found: dict[str, Any] = json.loads(answer.stdout or json.dumps({"failed": True, "msg": answer.stderr}))
    return found


def environment_file(text: str) -> dict[str, str]:
    """An environment file as systemd reads it (systemd.exec(5)): in double quotes, a backslash escapes, and lines may end."""
    found = {}
    for name, value in re.findall(r'^([^#\n=]+)=("(?:[^"\\]|\\.)*"|.*)$', text, re.MULTILINE):
        plain = re.sub(r"\\([\"\\`$])", r"\1", value[1:-1]) if value.startswith('"') else value
        found[name] = plain.strip("'")
    return found
