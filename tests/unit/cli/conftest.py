"""The command line as a person meets it: arguments in, exit code and text out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from freehold.cli import console
from freehold.cli.main import main


@dataclass
class Said:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


Cli = Callable[..., Said]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """Runs ``freehold`` with arguments, as the installed command does."""
    monkeypatch.setattr(console.err, "_width", 400)
    monkeypatch.setattr(console.out, "_width", 400)
    mask = os.umask(0o077)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["freehold", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    yield run
    os.umask(mask)
