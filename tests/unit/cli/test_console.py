"""What every command prints through."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.cli import console
from freehold.cli.render import PlainRenderer
from freehold.errors import FreeholdError
from freehold.events import Event, Stage, Status


def test_a_fingerprint_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console.out.print("EE:AB:1C:A2", highlight=False)
    console.err.print("EE:AB:1C:A2", highlight=False)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("EE:AB:1C:A2\n", "EE:AB:1C:A2\n")


def test_a_host_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    answer = "first line\n\x1b]0;title\x07\x1b[2Jsecond\x9b1mline\r"
    console.err.print(console.panel(FreeholdError("refused", answer=answer, remedy="\x1b[31m")))
    event = Event(stage=Stage.BASE, status=Status.FAILED, step="Packages", host="caddy", message=answer)
    PlainRenderer(console.err, verbose=False)(event)

    shown = capsys.readouterr().err
    assert not set(shown) & {"\x1b", "\x07", "\x9b", "\r"}
    assert shown.count("first line") == shown.count("second") == 2


@pytest.mark.parametrize("command", [("show", "layout"), ("show", "stack")])
def test_tables_are_readable_in_80_columns_and_whole_in_a_pipe(command: tuple[str, ...]) -> None:
    program = Path(sys.executable).with_name("freehold")
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    example = Path(__file__).parents[3] / "inventory/example-law-firm/stack.yml"
    for columns in ({"COLUMNS": "80"}, {}):
        text = subprocess.run(
            [program, *command, example],
            env=environment | columns,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "…" not in text
        assert (
            any(line.split()[0].endswith("postgres") for line in text.splitlines()) or command[1] == "stack"
        )
        assert not columns or max(map(len, text.splitlines())) <= 80
    assert "192.168.10.0/24" in text or "192.168.10.160/24" in text
