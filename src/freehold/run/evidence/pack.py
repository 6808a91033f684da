"""An evidence pack: its sections in their order, what is missing, and which articles they serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from freehold import __version__
from freehold.run.evidence import (
    access,
    changes,
    governance,
    leaving,
    processing,
    proofs,
    register,
    retention,
    systems,
)
from freehold.run.evidence.articles import ARTICLES, PRINCIPLES, SECURITY, Article
from freehold.run.evidence.blocks import Gap, Section
from freehold.run.evidence.known import Known, Live

FORMAT = 1
"""Of ``evidence.json``."""
CAVEAT = (
    "This is evidence, and not legal advice: it shows how the stack is set up, what was tested and what the client states. "
    "Whether that is enough for a law is for the client and its counsel to judge. It holds no passwords, no keys and no "
    "contents of conversations; it does hold names and mail addresses, so keep it as you keep those."
)


@dataclass(frozen=True)
class Served:
    """An article and the sections that serve it."""

    article: Article
    sections: tuple[tuple[int, str], ...]
    """Number and title."""
    gaps: int
    """How many things are missing for it."""

    @property
    def where(self) -> str:
        """The sections in words."""
        if not self.sections:
            return "nothing here"
        one = len(self.sections) == 1
        numbers = ", ".join(str(number) for number, _ in self.sections)
        said = f"section {numbers}" if one else f"sections {numbers}"
        return f"{said}; {self.gaps} missing" if self.gaps else said


@dataclass(frozen=True)
class Pack:
    """All of a pack but its signature."""

    client: str
    made: datetime
    sections: tuple[Section, ...]
    live: Live
    """What the node said, and what could not be read of it."""
    fingerprint: str = ""
    """Of the key that signs it."""
    version: str = __version__
    caveat: str = CAVEAT

    @property
    def sources(self) -> str:
        """Where it is from, in words."""
        return (
            "files of the client and what the node said"
            if self.live.answered
            else "files of the client alone"
        )

    @cached_property
    def gaps(self) -> tuple[Gap, ...]:
        """All that is missing."""
        unread = tuple(
            Gap(
                f"{what[:1].upper()}{what[1:]} could not be read: {why}.",
                (SECURITY, PRINCIPLES),
                f"`freehold evidence {self.client}` where the node answers",
            )
            for what, why in self.live.unread
        )
        return tuple(gap for section in self.sections for gap in section.gaps) + unread

    @property
    def served(self) -> tuple[Served, ...]:
        """Each article with what serves it."""
        return tuple(
            Served(
                article,
                tuple(
                    (number, section.title)
                    for number, section in enumerate(self.sections, 1)
                    if article.short in section.articles
                ),
                sum(article.short in gap.serves for gap in self.gaps),
            )
            for article in ARTICLES
        )

    @property
    def files(self) -> dict[str, bytes]:
        """The files of all sections, by name."""
        return {name: content for section in self.sections for name, content in section.files.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all files, in order."""
        return ("evidence.json", "evidence.pdf", "index.html", *sorted(self.files))

    def as_dict(self) -> dict[str, Any]:
        """The pack as plain data: ``evidence.json``."""
        return {
            "format": FORMAT,
            "client": self.client,
            "made": self.made.isoformat(timespec="seconds"),
            "freehold": self.version,
            "caveat": self.caveat,
            "signing_key": self.fingerprint or None,
            "missing": [gap.as_dict() for gap in self.gaps],
            "articles": [
                {
                    "article": row.article.short,
                    "title": row.article.title,
                    "asks": row.article.asks,
                    "applies": row.article.applies,
                    "sections": [title for _, title in row.sections],
                    "missing": row.gaps,
                }
                for row in self.served
            ],
            "sections": {
                section.id: {
                    "title": section.title,
                    "articles": list(section.articles),
                    "data": section.data,
                    "files": sorted(section.files),
                }
                for section in self.sections
            },
        }


def compose(known: Known, fingerprint: str = "") -> Pack:
    """The pack of what is known."""
    compared: Mapping[str, Section] = {
        section.id: section
        for section in (
            systems.section(known),
            leaving.section(known),
            register.section(known),
            access.section(known),
            retention.section(known),
        )
    }
    sections = (
        governance.section(known),
        compared["systems"],
        systems.reach(known),
        compared["leaving"],
        leaving.routing(known),
        compared["models"],
        proofs.gpus(known),
        compared["access"],
        compared["retention"],
        proofs.section(known),
        proofs.incidents(known),
        changes.section(known, compared),
        processing.section(known),
    )
    return Pack(known.name, known.now, sections, known.live, fingerprint)
