"""All detectors together, over the texts of a whole conversation."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from . import encodings, spelled
from .categories import CATEGORIES, Finding, Hit
from .contact import find_contacts, find_files
from .countries import COUNTRIES, NUMBERS
from .credentials import find_credentials
from .fold import View, folded, lower, original
from .money import CARDS, find_accounts, find_ibans
from .names import Names
from .numbers import Numbers
from .terms import Terms
from .words import words

LIMIT = 400_000
"""Most characters that all texts of a conversation may have together. More of them are not judged."""
SHORT = 6_000
"""Most characters of a conversation whose texts are also read put together in every way, backwards and by ROT13."""
SEAM = 160
"""Characters on either side of the place where two texts meet."""

_LEET = str.maketrans("013457@$!|", "oieastasil")
_LEET_WORD = re.compile(r"[a-z0-9@$!|]{4,}")
_ROT13 = str.maketrans(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "nopqrstuvwxyzabcdefghijklmNOPQRSTUVWXYZABCDEFGHIJKLM",
)
_CLUSTER = re.compile(r"[A-Za-z]{0,4}[0-9][0-9A-Za-z \t.,\-/_|:;*+()\[\]]{0,80}")
_LETTERS_AT_END = re.compile(r"(?<![A-Za-z])([A-Za-z]{1,6}[0-9]?)\s*$")


class NotJudgedError(ValueError):
    """The detectors cannot judge this: it must be treated as sensitive. Says nothing of the text but its size."""


class Detectors:
    """The detectors of a client. Making one takes milliseconds; keep it, and use it from any thread.

    Args:
        countries: Countries whose numbers are looked for (``COUNTRIES``); all when empty.
        ignore: Categories that do not count (``CATEGORIES``).
        names: Names that must not leave.

    Raises:
        ValueError: An unknown country or category, or a name without letters.
    """

    def __init__(
        self, countries: Sequence[str] = (), ignore: Sequence[str] = (), names: Sequence[str] = ()
    ) -> None:
        for value, known in ((countries, COUNTRIES), (ignore, tuple(CATEGORIES))):
            if isinstance(value, str):
                raise ValueError(f"a list is needed, not the text {value!r}")
            if unknown := sorted(set(value) - set(known)):
                raise ValueError(f"the detectors know no {', '.join(unknown)}; they know {', '.join(known)}")
        self._counted = [category for category in CATEGORIES if category not in ignore]
        kinds = [number for country in countries or COUNTRIES for number in NUMBERS[country]]
        self._numbers = Numbers([kind for kind in (*kinds, *CARDS) if kind.category in self._counted])
        self._terms = Terms(self._counted)
        self._names = Names(names if "name" in self._counted else ())

    def scan(self, texts: Sequence[str]) -> tuple[Finding, ...]:
        """What is sensitive in all texts of a conversation, in their order: each category and detector once, the surest first.

        Raises:
            NotJudgedError: The texts cannot be judged: too long, encoded too deeply, or no texts.
        """
        _checked(texts)
        best: dict[tuple[str, str], float] = {}
        try:
            for text, places in _readings(texts):
                for hit, view in self._hits(text):
                    if places and not _over(places, *view.locate(hit.start, hit.end)):
                        continue
                    key = (hit.category, hit.detector)
                    best[key] = max(best.get(key, 0.0), hit.score)
        except (OverflowError, RecursionError) as error:
            raise NotJudgedError(str(error)) from None
        findings = [Finding(category, detector, score) for (category, detector), score in best.items()]
        return tuple(sorted(findings, key=lambda each: (-each.score, each.category, each.detector)))

    def spans(self, text: str) -> tuple[tuple[int, int, str], ...]:
        """Where it is in one text: start, end and category, in order; overlapping stretches are put together.

        Raises:
            NotJudgedError: As of ``scan``.
        """
        _checked((text,))
        found: list[tuple[int, int, str]] = []
        try:
            for hit, view in self._hits(text):
                found.append((*view.locate(hit.start, hit.end), hit.category))
        except (OverflowError, RecursionError) as error:
            raise NotJudgedError(str(error)) from None
        merged: list[tuple[int, int, str]] = []
        for start, end, category in sorted(found, key=lambda span: (span[0], -span[1])):
            if merged and start < merged[-1][1]:
                before = merged[-1]
                merged[-1] = (before[0], max(before[1], end), before[2])
            else:
                merged.append((start, end, category))
        return tuple(merged)

    def _hits(self, text: str) -> Iterator[tuple[Hit, View]]:
        """Everything in a text and under its encodings, with the view in which it was found."""
        whole = original(text)
        for start, end, detector in (
            *_foreign(text),
            *((*span, "encoded-block") for span in encodings.unreadable(text)),
        ):
            if "unreadable" in self._counted:
                yield Hit(start, end, "unreadable", detector, 0.5), whole
        first = folded(whole)
        for view in (first, *(folded(under) for under in encodings.layers(first))):
            for hit, where in self._in_view(view):
                if hit.category in self._counted:
                    yield hit, where
        if len(text) <= SHORT:
            yield from self._turned(first)

    def _in_view(self, cased: View) -> Iterator[tuple[Hit, View]]:
        view = lower(cased)
        text = view.text
        for hit in find_credentials(cased.text):
            yield hit, cased
        for found in (find_accounts, find_contacts, find_files):
            for hit in found(text):
                yield hit, view
        numerals = spelled.numerals(view)
        for each in (view, numerals) if numerals else (view,):
            for hit in (*find_ibans(each.text), *self._numbers.find(each.text)):
                yield hit, each
        if numerals:
            for hit in find_contacts(numerals.text):
                if hit.category in {"phone", "birth-date"}:
                    yield hit, numerals
        readings = [(view, cased.text)]
        if joined := spelled.joined(view):
            readings.append((joined, joined.text))
        leet = _LEET_WORD.sub(_unleet, text)
        if leet != text:
            readings.append((View(leet, view.locate), leet))
        for each, capitals in readings:
            found_words = words(each.text)
            for hit in self._terms.find(found_words):
                yield hit, each
            if self._names:
                for hit in self._names.find(
                    found_words, capitals if len(capitals) == len(each.text) else each.text
                ):
                    yield hit, each

    def _turned(self, cased: View) -> Iterator[tuple[Hit, View]]:
        """Account numbers, cards and names backwards and by ROT13."""
        size = len(cased.text)
        backwards = View(cased.text[::-1].lower(), lambda start, end: cased.locate(size - end, size - start))
        rotated = View(cased.text.translate(_ROT13).lower(), cased.locate)
        for view in (backwards, rotated):
            if "bank-account" in self._counted:
                for hit in find_ibans(view.text):
                    if hit.detector == "iban":
                        yield hit, view
            if self._names:
                for hit in self._names.find(words(view.text), view.text):
                    if hit.score > 0.9:
                        yield hit, view


def _unleet(match: re.Match[str]) -> str:
    """A word of letters with digits and signs among them, with letters in their place; numbers stay."""
    word = match.group()
    letters = sum(map(str.isalpha, word))
    return word.translate(_LEET) if len(word) // 2 <= letters < len(word) else word


def _checked(texts: Sequence[str]) -> None:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise NotJudgedError("the detectors judge a list of texts, and nothing else")
    if (size := sum(map(len, texts))) > LIMIT:
        raise NotJudgedError(f"the texts have {size} characters, more than the {LIMIT} that are judged")


def _over(places: Sequence[int], start: int, end: int) -> bool:
    """Whether a stretch lies over one of the sorted places."""
    at = bisect_right(places, start)
    return at < len(places) and places[at] < end


def _foreign(text: str) -> Iterator[tuple[int, int, str]]:
    """Text in a script whose languages the terms do not know: twenty letters of it, and a tenth of all letters."""
    if text.isascii():
        return
    other = [
        place
        for place, char in enumerate(text)
        if char > "\u036f"
        and char.isalpha()
        and not unicodedata.name(char, "").startswith(("LATIN", "FULLWIDTH", "MATHEMATICAL"))
    ]
    if len(other) >= 20 and len(other) * 10 >= sum(map(str.isalpha, text)):
        yield other[0], other[-1] + 1, "other-script"


def _readings(texts: Sequence[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The texts one after the other, and put together so that what is split over several is whole.

    With each reading come the places where texts meet in it: what does not lie over one of them was read already.
    Of the first reading everything counts, so it has none.
    """
    yield "\n\n".join(texts), ()
    texts = [text for text in texts if text.strip()]
    if len(texts) < 2:
        return
    rows = [texts, texts[::2], texts[1::2]] if len(texts) > 2 else [texts]
    pairs = [(row[at], row[at + 1]) for row in rows for at in range(len(row) - 1)]
    seams = [[one[-SEAM:].rstrip(), two[:SEAM].lstrip()] for one, two in pairs]
    chains = [chain for row in rows for chain in _chains(row)]
    for between in ("", " "):
        yield _put_together([*seams, *chains], between)
        if sum(map(len, texts)) <= SHORT:
            for row in rows:
                if len(row) > 2:
                    yield _put_together([[text.strip() for text in row]], between)


def _put_together(groups: Sequence[Sequence[str]], between: str) -> tuple[str, tuple[int, ...]]:
    """Pieces of each group put together, groups apart; and the places where pieces meet."""
    text: list[str] = []
    places: list[int] = []
    size = 0
    for pieces in groups:
        for at, piece in enumerate(pieces):
            if at:
                places.append(size)
                text.append(between)
                size += len(between)
            text.append(piece)
            size += len(piece)
        text.append("\n\n")
        size += 2
    return "".join(text), tuple(places)


def _chains(texts: Sequence[str]) -> Iterator[list[str]]:
    """Numbers of neighbouring texts in a row, without the words between them: the last of one, the first of the next,
    and on as long as a text has one alone."""
    row = [(text, clusters) for text in texts if (clusters := _clusters(text))]
    for at in range(len(row) - 1):
        text, clusters = row[at]
        before = text[: text.rfind(clusters[-1])][-90:]
        chain = [before + clusters[-1]]
        for _, following in row[at + 1 : at + 12]:
            chain.append(following[0])
            yield list(chain)
            if len(following) > 1:
                break


def _clusters(text: str) -> list[str]:
    """Stretches of digits in a text, and the letters at its end with which a number may begin."""
    matches = list(_CLUSTER.finditer(text))
    found = [match.group().strip() for match in matches]
    end = _LETTERS_AT_END.search(text)
    if end and (not matches or end.start() >= matches[-1].end()):
        found.append(end[1])
    return found
