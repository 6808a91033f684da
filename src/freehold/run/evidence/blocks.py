"""What the pages of an evidence pack are made of: the web page and the PDF show the same blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; what stands between backticks is a command or a key."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Values by what they are called; an empty value is shown as not stated."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Grid:
    """A table."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    widths: tuple[int, ...]
    """Widths of the columns in parts of the whole."""
    title: str = ""
    empty: str = "None."
    """What is said where there are no rows."""


Block = Heading | Text | Facts | Grid


@dataclass(frozen=True)
class Gap:
    """Something that is missing, and what would supply it."""

    what: str
    serves: tuple[str, ...]
    """Articles that ask for it."""
    supply: str
    """The command, the key of the stack file, or who has to do it."""

    def as_dict(self) -> dict[str, Any]:
        """The gap as plain data."""
        return {"missing": self.what, "articles": list(self.serves), "supply": self.supply}


@dataclass(frozen=True)
class Section:
    """One section of the pack."""

    id: str
    title: str
    articles: tuple[str, ...]
    """Articles that it serves, by their short names in :mod:`freehold.run.evidence.articles`."""
    blocks: tuple[Block, ...]
    data: Mapping[str, Any]
    """The same for machines."""
    gaps: tuple[Gap, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Files that belong to it, by their names in the folder."""
