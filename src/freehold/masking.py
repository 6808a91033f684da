"""What child processes print goes into logs and onto terminals: secrets are masked there, whoever prints them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Any

MASK = "********"
SHORTEST = 8
"""Characters from which on a text is taken for a secret: shorter ones would mask words."""


class Masked:
    """A text stream that never shows a secret; of a secret of several lines, it shows no line."""

    def __init__(self, stream: IO[str], values: Iterable[str]) -> None:
        self._stream = stream
        lines = {line.strip() for value in values for line in value.splitlines()}
        self._values = sorted((line for line in lines if len(line) >= SHORTEST), key=len, reverse=True)

    def write(self, text: str) -> int:
        """Write the text with its secrets masked."""
        self._stream.write(self.mask(text))
        return len(text)

    def mask(self, text: str) -> str:
        """The text with its secrets masked."""
        for value in self._values:
            text = text.replace(value, MASK)
        return text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
