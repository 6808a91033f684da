"""Errors at the command line: one panel, one exit code, a traceback only when asked for."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from tests.conftest import Cli

from freehold import __version__
from freehold.errors import BadInputError, FreeholdError
from freehold.proxmox.changes import Action, Change, Effect, FieldDiff, Phase, Plan
from freehold.proxmox.in_force import FirewallState
from freehold.run.context import Client
from freehold.run.status import HostState

ANSWER = "[red]not markup[/] [/etc/pve] 100 %"


class TerminalStandin(io.StringIO):
    """A keyboard with somebody at it."""

    def isatty(self) -> bool:
        return True


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def open_(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(Client, "open", open_)


def test_a_failure_is_one_panel_with_all_that_is_known(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(
        monkeypatch,
        FreeholdError("It broke", doing="trying", where="here", answer=ANSWER, remedy="Mend it"),
    )
    said = cli("up", "acme")
    assert said.code == 1
    assert said.out == ""
    assert said.err.count("╭") == 1
    for text in (
        "Failed",
        "It broke",
        "Where: here",
        "While: trying",
        f"Answer: {ANSWER}",
        "Remedy: Mend it",
    ):
        assert text in said.err


def test_bad_input_says_that_nothing_was_touched(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, BadInputError("Wrong", remedy="Correct it"))
    said = cli("plan", "acme")
    assert said.code == 2
    assert "Nothing was touched" in said.err


def test_machines_get_one_line_of_json(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, BadInputError("Wrong", where="here", remedy="Correct it"))
    said = cli("up", "acme", "--json")
    assert said.code == 2
    assert said.err == ""
    assert json.loads(said.out) == {
        "error": "BadInputError",
        "message": "Wrong",
        "where": "here",
        "remedy": "Correct it",
    }


def test_a_traceback_of_an_error_only_with_debug(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, FreeholdError("It broke"))
    assert "Traceback" not in cli("up", "acme").err
    said = cli("up", "acme", "--debug")
    assert said.code == 1
    assert "Traceback" in said.err
    assert "It broke" in said.err


def test_anything_else_is_a_fault_of_ours_and_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyError("what"))
    said = cli("up", "acme")
    assert said.code == 1
    assert said.err.count("╭") == 1
    assert "fault in Freehold: KeyError: 'what'" in said.err
    assert "--debug" in said.err
    assert "Traceback" not in said.err
    with pytest.raises(KeyError):
        cli("up", "acme", "--debug")


def test_ctrl_c_says_how_to_go_on(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    said = cli("up", "acme")
    assert said.code == 130
    assert "run the same command again" in said.err


def test_a_question_that_nobody_answers_names_the_way_out(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    said = cli("init", "acme")
    assert said.code == 2
    assert "nobody to answer" in said.err


def test_ctrl_c_at_a_question_is_a_stop_like_any_other(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, typer.Abort())
    monkeypatch.setattr("sys.stdin", TerminalStandin())
    said = cli("down", "acme")
    assert said.code == 130
    assert "run the same command again" in said.err


def test_what_the_system_refuses_is_no_fault_of_ours(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, PermissionError(errno.EACCES, "Permission denied", "/acme/secrets.yml"))
    said = cli("status", "acme")
    assert said.code == 1
    assert "/acme/secrets.yml: Permission denied" in said.err
    assert "chown" in said.err
    assert "fault in Freehold" not in said.err
    assert json.loads(cli("status", "acme", "--json").out)["where"] == "/acme/secrets.yml"


@pytest.mark.parametrize("command", [("show", "stack"), ("show", "layout"), ("check",), ("plan",), ("down",)])
def test_machines_get_json_from_every_command_that_fails(cli: Cli, command: tuple[str, ...]) -> None:
    said = cli(*command, "nobody", "--json")
    assert said.code == 2
    assert said.err == ""
    assert json.loads(said.out)["error"] == "StackError"


def test_an_impossible_plan_is_one_document(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    diff = FieldDiff(field="rootfs", old="8G", new="4G", effect=Effect.IMPOSSIBLE, remedy="Make it anew")
    change = Change(
        action=Action.UPDATE, phase=Phase.CONFIGURE, node="pve", vmid=1010, host="acme-caddy", diffs=(diff,)
    )
    made = Plan(client="acme", changes=(change,))
    monkeypatch.setattr(Client, "open", lambda *_: SimpleNamespace(api=SimpleNamespace(calls=3)))
    filtered = FirewallState(state="in force")
    monkeypatch.setattr("freehold.run.firewall.state", lambda *_: filtered)
    monkeypatch.setattr("freehold.run.plan.plan", lambda *_, **__: (made, None))
    said = cli("plan", "acme", "--json")
    assert said.code == 2
    assert said.err == ""
    document = json.loads(said.out)
    assert document["changes"][0]["diffs"][0]["remedy"] == "Make it anew"
    assert document["firewall"] == {"state": "in force", "reasons": []}


def test_machines_remove_nothing_without_the_clients_name(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    change = Change(action=Action.DESTROY, phase=Phase.CONFIGURE, node="pve", vmid=1010, host="acme-caddy")
    client = SimpleNamespace(stack=SimpleNamespace(client="acme"))
    monkeypatch.setattr(Client, "open", lambda *_: client)
    monkeypatch.setattr("freehold.run.down.what_goes", lambda _: Plan(client="acme", changes=(change,)))
    said = cli("down", "acme", "--json")
    assert said.code == 2
    assert "--confirm acme" in json.loads(said.out)["remedy"]


def test_a_fault_of_ours_is_json_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyError("what"))
    assert "fault in Freehold" in json.loads(cli("up", "acme", "--json").out)["message"]


def test_unknown_options_are_bad_input(cli: Cli) -> None:
    assert cli("up", "acme", "--fast").code == 2
    assert cli("up", "acme", "--until", "monday").code == 2


def test_the_version(cli: Cli) -> None:
    assert cli("--version").out == f"freehold {__version__}\n"


def test_every_command_has_help_and_starts_without_ansible_and_pyinfra(cli: Cli) -> None:
    said = cli("--help")
    for verb in (
        "init",
        "prepare",
        "check",
        "plan",
        "up",
        "verify",
        "status",
        "down",
        "show",
        "secrets",
        "lab",
    ):
        assert verb in said.out
        assert cli(verb, "--help").code == 0
    code = (
        "import sys, freehold.cli.main\n"
        "assert not {'ansible', 'pyinfra', 'gevent', 'aiohttp', 'freehold.lab.service'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_output_that_nobody_reads_ends_the_command_quietly() -> None:
    program = Path(sys.executable).with_name("freehold")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [program, "show", "schema"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_help_is_broken_by_the_terminal_and_not_by_the_source(cli: Cli) -> None:
    for command in (("models", "fetch"), ("driver", "upgrade"), ("up",)):
        lines = [line.strip() for line in cli(*command, "--help").out.splitlines()]
        start = next(number for number, line in enumerate(lines) if line.startswith("Usage:")) + 2
        text = lines[start : next(number for number, line in enumerate(lines) if line.startswith("╭"))]
        for line, following in pairwise(text):
            if line and following:
                assert len(line) + 1 + len(following.split()[0]) > 74, (command, line)


def test_status_claims_nothing_of_engines(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    host = SimpleNamespace(gpus=("a GPU",))
    opened = SimpleNamespace(layout=SimpleNamespace(hosts=[host]))
    running = HostState("vllm", 1060, "10.20.0.60", "vllm", "running")
    monkeypatch.setattr(Client, "open", lambda *_: opened)
    monkeypatch.setattr("freehold.run.status.status", lambda _: [running])
    monkeypatch.setattr("freehold.run.served.reminders", lambda _: [])
    note = "Whether engines compute on their GPUs: freehold verify acme"
    assert note in cli("status", "acme").out
    host.gpus = ()
    assert note not in cli("status", "acme").out
