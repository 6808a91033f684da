"""Numbers with check digits, in whatever way they are written.

A number is found in three steps: its characters stand in order with at most three separators between two of
them; its check digits agree; and it is written as such numbers are, or a word says what it is. A number whose
check is weak (one in ten of all numbers passes it) needs the third, one whose check is strong does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .categories import Hit

SEPARATORS = r"[\s.,\-/_\\|:;*+~()'\"\[\]{}=#]"
"""What may stand between the characters of a number (folded text)."""
GAP = SEPARATORS + "{0,3}"

BEFORE, AFTER = 90, 45
"""Characters around a number in which a word may say what it is."""

CHECKS = 150_000
"""Most sequences of digits in one text whose check digits are computed, which takes about half a second. A text of
numbers alone has more of them from about 40,000 characters on; it is not judged."""

OTHERWISE = re.compile(
    r"(?:order|bestell\w*|auftrag\w*|ticket\w*|rechnung\w*|invoice\w*|facture|factuur\w*|fattura|factura|faktura|zamowieni\w*|bestel\w*"
    r"|commande|pedido|ordine|bestelling|artikel\w*|article|articulo|articolo|sku|produkt\w*|product|part|teile\w*|material\w*"
    r"|tracking|sendung\w*|paket\w*|shipment|parcel|colis|isbn|issn|ean|gtin|upc|asin|version\w*|build|release|commit|serial|serien\w*"
    r"|charge\w*|batch|lot|lieferschein\w*|delivery|inventar\w*|inventory|asset|timestamp|unix|epoch|seed|hash|checksum"
    r"|prufsumme|revision|rev|size|bytes|port|angebot\w*|quote|offer|projekt|project|vorgang\w*|belegn\w*|beleg|imei|mac)"
    r"\.?[\s\-_:#\"'=>.]*(?:nr|no|num|number|nummer|numero|id|code|ref|n)?(?:\s(?:lautet|ist|is|was|war|est|es|e|jest))?[\s\-_:#.\"'=>\[(]*$"
)
"""Words right before a number that say that it is of another kind."""


@dataclass(frozen=True)
class Number:
    """A kind of number.

    ``shape`` has one character for each of the number: ``9`` a digit, ``A`` a letter, ``X`` either.
    """

    detector: str
    category: str
    shape: str
    valid: Callable[[str], bool]
    """Whether the number, lower case and without separators, can be one of these."""
    labels: str
    """Words that announce it, as a regular expression over folded text."""
    written: str = ""
    """How it is usually written, as a regular expression; counts without a label, as do plain and spaced characters."""
    sure: bool = False
    """Whether the check alone is enough, however the number is written."""
    label_needed: bool = False
    """Whether a label, or the usual way of writing, is always needed."""


_CLASSES = {"9": "[0-9]", "A": "[a-z]", "X": "[0-9a-z]"}
_RUN = re.compile(rf"[0-9](?:{GAP}[0-9])*")
_SPACED = re.compile(rf"[0-9a-z](?:{SEPARATORS}{{1,3}}[0-9a-z])+")
_DIGITS = re.compile("[0-9]+")
_SEPARATOR = re.compile(SEPARATORS)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


@lru_cache(maxsize=256)
def _flexible(shape: str) -> re.Pattern[str]:
    return re.compile("(?<![0-9a-z])" + GAP.join(_CLASSES[char] for char in shape) + "(?![0-9a-z])")


def labelled(text: str, start: int, end: int, labels: str) -> bool:
    """Whether one of these words stands near a place."""
    return bool(_compiled(labels).search(text[max(0, start - BEFORE) : end + AFTER]))


def _judge(number: Number, text: str, start: int, end: int, glued: bool) -> Hit | None:
    """The hit of a number whose check digits agree, if it is written or announced as one."""
    if number.sure and not glued:
        return Hit(start, end, number.category, number.detector, 0.95)
    if labelled(text, start, end, number.labels):
        return Hit(start, end, number.category, number.detector, 0.95)
    if glued:
        return None
    as_found = text[start:end]
    if OTHERWISE.search(text[max(0, start - 48) : start]):
        return None
    if number.written and _compiled(number.written).fullmatch(as_found):
        return Hit(start, end, number.category, number.detector, 0.8)
    if number.label_needed:
        return None
    if as_found.isalnum() or _SPACED.fullmatch(as_found):
        return Hit(start, end, number.category, number.detector, 0.6)
    return None


class Numbers:
    """Finds several kinds of numbers in one pass over the digits of a text."""

    def __init__(self, kinds: Sequence[Number]) -> None:
        self._digits: dict[int, list[Number]] = {}
        self._mixed: list[tuple[re.Pattern[str], Number]] = []
        for kind in kinds:
            if set(kind.shape) == {"9"}:
                self._digits.setdefault(len(kind.shape), []).append(kind)
            else:
                self._mixed.append((_flexible(kind.shape), kind))
        self._longest = max(self._digits, default=0)

    def find(self, text: str) -> Iterator[Hit]:
        """Numbers in a folded, lower-case text.

        Raises:
            OverflowError: It holds more sequences of digits than are looked through (``CHECKS``).
        """
        left = CHECKS
        if self._digits:
            for run in _RUN.finditer(text):
                if run.end() - run.start() >= min(self._digits):
                    left = yield from self._in_run(text, run.start(), run.end(), left)
        for zone_start, zone_end in _zones(text):
            zone = text[zone_start:zone_end]
            for pattern, kind in self._mixed:
                place = 0
                while match := pattern.search(zone, place):
                    place = match.start() + 1
                    if kind.valid(_SEPARATOR.sub("", match.group())):
                        start, end = zone_start + match.start(), zone_start + match.end()
                        if hit := _judge(kind, text, start, end, glued=False):
                            yield hit
                            place = match.end()

    def _in_run(self, text: str, start: int, end: int, left: int) -> Generator[Hit, None, int]:
        tokens = [(match.start(), match.end()) for match in _DIGITS.finditer(text, start, end)]
        for first, (begin, _) in enumerate(tokens):
            compact = ""
            for token_start, token_end in tokens[first : first + self._longest]:
                compact += text[token_start:token_end]
                if len(compact) > self._longest:
                    break
                kinds = self._digits.get(len(compact), ())
                left -= len(kinds)
                if left < 0:
                    raise OverflowError("the texts hold more numbers than are judged")
                for kind in kinds:
                    if kind.valid(compact):
                        glued = (begin > 0 and text[begin - 1].isalpha()) or text[
                            token_end : token_end + 1
                        ].isalpha()
                        if hit := _judge(kind, text, begin, token_end, glued):
                            yield hit
        return left


def _zones(text: str) -> list[tuple[int, int]]:
    """Stretches of a text around its digits: what is further than 60 characters from one is left out."""
    zones: list[tuple[int, int]] = []
    places = [match.start() for match in _DIGITS.finditer(text)]
    at = 0
    while at < len(places):
        start = max(0, places[at] - 60)
        end = places[at] + 60
        at += 1
        while at < len(places) and places[at] <= end + 60:
            end = places[at] + 60
            at += 1
        zones.append((start, min(len(text), end)))
    return zones
