"""What all tests share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

# A job in the background is started with SIGINT ignored, and its children inherit that; tests of Ctrl-C need it heard.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass
class Said:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def panel(self) -> str:
        """The text of the one panel, on one line."""
        assert self.err.count("╭") == 1, self.err
        assert "Traceback" not in self.err
        inner = self.err[self.err.index("╭") :]
        return " ".join(" ".join(line.strip("│╭╮╰╯─ ") for line in inner.splitlines()).split())


Cli = Callable[..., Said]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """Runs ``freehold`` with arguments, as the installed command does."""
    from freehold.cli import console
    from freehold.cli.main import main

    monkeypatch.setattr(console.err, "_width", 1000)
    monkeypatch.setattr(console.out, "_width", 1000)
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
