"""Words that say what a text is about: health, privilege, pay, and what GDPR calls special categories.

The terms stand in ``terms/*.txt``, by language; all languages are looked for in every text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from .categories import CATEGORIES, Hit
from .words import Word, form

FOLDER = Path(__file__).parent / "terms"
LANGUAGES = ("any", "de", "en", "es", "fr", "it", "nl", "pl")
"""Names of the lists; one that is not there is an error, since what it names would leave unseen."""
NEAR = 70
"""Characters between a hint and a person that it is about."""
TOGETHER = 300
"""Characters within which three hints of a category count as one that is sure."""

LONGEST = 60
"""Letters of a word whose beginnings and ends are compared."""

_KINDS = {"sure", "hint"}


class _Term(NamedTuple):
    category: str
    kind: str
    language: str


class _Part(NamedTuple):
    """One word of a term: whole, or its beginning, or its end."""

    text: str
    opens: bool
    closes: bool

    def fits(self, word: str) -> bool:
        if self.opens:
            return word.endswith(self.text)
        return word.startswith(self.text) if self.closes else word == self.text


class _Table(NamedTuple):
    exact: dict[str, list[_Term]]
    beginnings: dict[str, list[_Term]]
    ends: dict[str, list[_Term]]
    phrases: dict[str, list[tuple[tuple[_Part, ...], _Term]]]
    """By the first four letters of the first word."""


def _part(text: str) -> _Part:
    # A word can become one shorter at the star: "krebs*" and "krebs".
    bare = "".join(form(piece) for piece in re.findall("[a-z]+", text))
    return _Part(bare, text.startswith("*"), text.endswith("*"))


@cache
def _table() -> _Table:
    table = _Table({}, {}, {}, {})
    for language in LANGUAGES:
        path = FOLDER / f"{language}.txt"
        section: _Term | None = None
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.startswith("["):
                category, _, kind = line.strip("[]").partition(" ")
                if (kind and (kind not in _KINDS or category not in CATEGORIES)) or not (
                    kind or category in {"person", "never"}
                ):
                    raise ValueError(f"{path.name}:{number}: no such section: {line}")
                section = _Term(category, kind, language)
            elif line.strip() and not line.startswith("#"):
                if section is None:
                    raise ValueError(f"{path.name}:{number}: a term before the first section")
                for text in filter(None, (term.strip() for term in line.split(","))):
                    _add(table, text, section)
    return table


def _add(table: _Table, text: str, term: _Term) -> None:
    parts = tuple(
        part for piece in re.split(r"[\s'&]+|(?<=[a-z])-(?=[a-z])", text) if (part := _part(piece)).text
    )
    if len(parts) > 1:
        table.phrases.setdefault(parts[0].text[:3], []).append((parts, term))
    elif parts[0].opens:
        table.ends.setdefault(parts[0].text, []).append(term)
    elif parts[0].closes:
        table.beginnings.setdefault(parts[0].text, []).append(term)
    else:
        table.exact.setdefault(parts[0].text, []).append(term)


class Terms:
    """Finds the terms of some categories."""

    def __init__(self, categories: Sequence[str]) -> None:
        self._categories = set(categories)
        self._known: dict[str, tuple[_Term, ...]] = {}

    def _single(self, word: str) -> tuple[_Term, ...]:
        known = self._known.get(word)
        if known is None:
            table = _table()
            found = list(table.exact.get(word, ()))
            for length in range(2, min(len(word), LONGEST) + 1):
                found += table.beginnings.get(word[:length], ())
                found += table.ends.get(word[-length:], ())
            if any(term.category == "never" for term in found):
                found = []
            known = tuple(dict.fromkeys(found))
            if len(self._known) < 50_000:
                self._known[word] = known
        return known

    def _of(self, words: Sequence[Word], at: int) -> Iterator[tuple[int, _Term]]:
        """Terms that begin with a word: place of their last word, and the term."""
        for term in self._single(words[at].form):
            yield at, term
        for parts, term in _table().phrases.get(words[at].form[:3], ()):
            last = at + len(parts) - 1
            if last < len(words) and all(
                part.fits(words[at + place].form) for place, part in enumerate(parts)
            ):
                yield last, term

    def find(self, words: Sequence[Word]) -> Iterator[Hit]:
        """Terms among the words of a text."""
        persons: list[int] = []
        hints: dict[str, list[tuple[Word, int]]] = {}
        for at, word in enumerate(words):
            for last, term in self._of(words, at):
                if term.category == "person":
                    persons.append(word.start)
                elif term.category not in self._categories:
                    continue
                elif term.kind == "sure":
                    yield Hit(word.start, words[last].end, term.category, f"terms-{term.language}", 0.9)
                else:
                    hints.setdefault(term.category, []).append((word, words[last].end))
        for category, found in hints.items():
            yield from _judged(category, found, persons)


def _judged(category: str, found: list[tuple[Word, int]], persons: list[int]) -> Iterator[Hit]:
    """Hints with a person near them, or with two more."""
    person = 0
    for at, (word, end) in enumerate(found):
        while person < len(persons) and persons[person] < word.start - NEAR:
            person += 1
        near = person < len(persons) and persons[person] <= end + NEAR
        crowd = {
            other.form for other, _ in found[max(0, at - 6) : at + 1] if word.start - other.start <= TOGETHER
        }
        if near:
            yield Hit(word.start, end, category, "terms-person", 0.7)
        elif len(crowd) > 2 and category in {"health", "special"}:
            yield Hit(word.start, end, category, "terms-several", 0.6)
