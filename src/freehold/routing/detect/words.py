"""Words of a text in the one form in which terms and names are compared."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from .fold import folded, original

_WORD = re.compile("[a-z]+")
_DIGRAPH = re.compile("([aou])e")
_DOUBLE = re.compile(r"([a-z])\1+")


class Word(NamedTuple):
    """A word and its place."""

    start: int
    end: int
    form: str


@lru_cache(maxsize=65536)
def form(word: str) -> str:
    """A folded, lower-case word as it is compared: ae, oe and ue as a, o and u, double letters as one; short words as they are."""
    if len(word) < 4:
        return word
    return _DOUBLE.sub(r"\1", _DIGRAPH.sub(r"\1", word))


def words(text: str) -> list[Word]:
    """Words of a folded, lower-case text."""
    return [Word(match.start(), match.end(), form(match.group())) for match in _WORD.finditer(text)]


def forms(text: str) -> list[str]:
    """Words of any text, as they are compared."""
    return [word.form for word in words(folded(original(text)).text.lower())]
