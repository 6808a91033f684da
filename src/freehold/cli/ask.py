"""Questions to the person at the keyboard."""

from __future__ import annotations

from collections.abc import Sequence

import typer
from rich.console import Console

from freehold.errors import BadInputError


class Answers:
    """Asks; when silent, takes the default and refuses to guess what has none."""

    def __init__(self, console: Console, *, silent: bool) -> None:
        self._console = console
        self._silent = silent

    def say(self, text: str) -> None:
        """Tell something."""
        self._console.print(text, highlight=False, markup=False)

    def text(self, question: str, default: str | None = None, *, option: str) -> str:
        """An answer in words; ``option`` is the command line option that gives it.

        Raises:
            BadInputError: Nothing may be asked, and there is no default.
        """
        if not self._silent:
            return str(typer.prompt(question, default=default))
        if default is None:
            raise BadInputError(f"{question}: this must be given", remedy=f"Add {option} to the command.")
        return default

    def secret(self, question: str) -> str:
        """An answer that is not shown."""
        return str(typer.prompt(question, hide_input=True))

    def trust(self, question: str) -> bool:
        """Whether a key or certificate that is shown is the right one; silent means yes, as ``--yes`` says."""
        return self._silent or typer.confirm(question, default=False)

    def choose(self, question: str, among: Sequence[str], default: str, *, option: str) -> str:
        """One of several; not asked where there is but one."""
        if len(among) <= 1 or self._silent:
            return default
        answer = self.text(f"{question} ({', '.join(among)})", default, option=option)
        if answer not in among:
            raise BadInputError(
                f"{answer} is none of {', '.join(among)}", remedy=f"Answer with one of them, or use {option}."
            )
        return answer
