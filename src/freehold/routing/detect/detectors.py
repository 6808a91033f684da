"""All detectors together, over the texts of a whole conversation."""

from __future__ import annotations

import re
import unicodedata
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
_LEET_WORD = re.compile(r"(?=[a-z0-9@$!|]*[a-z])(?=[a-z@$!|]*[0-9@$!|])[a-z0-9@$!|]{4,}")
_ROT13 = str.maketrans(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "nopqrstuvwxyzabcdefghijklmNOPQRSTUVWXYZABCDEFGHIJKLM",
)
_CLUSTER = re.compile(r"[A-Za-z]{0,4}[0-9][0-9A-Za-z \t.,\-/_|:;*+()\[\]]{0,80}")


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
            for text in _readings(texts):
                for hit, _ in self._hits(text):
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
        if _LEET_WORD.search(text):
            leet = _LEET_WORD.sub(lambda match: match.group().translate(_LEET), text)
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


def _checked(texts: Sequence[str]) -> None:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise NotJudgedError("the detectors judge a list of texts, and nothing else")
    if (size := sum(map(len, texts))) > LIMIT:
        raise NotJudgedError(f"the texts have {size} characters, more than the {LIMIT} that are judged")


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


def _readings(texts: Sequence[str]) -> Iterator[str]:
    """The texts one after the other, and put together so that what is split over several is whole."""
    yield "\n\n".join(texts)
    texts = [text for text in texts if text.strip()]
    if len(texts) < 2:
        return
    seams = []
    for step in (1, 2):
        for at in range(len(texts) - step):
            one, two = texts[at][-SEAM:].rstrip(), texts[at + step][:SEAM].lstrip()
            seams += [f"{one}{two}", f"{one} {two}"]
    seams += _chains(texts)
    yield "\n\n".join(seams)
    if sum(map(len, texts)) <= SHORT:
        for some in (texts, texts[::2], texts[1::2]):
            if len(some) > 2:
                yield "".join(text.strip() for text in some)
                yield " ".join(text.strip() for text in some)


def _chains(texts: Sequence[str]) -> list[str]:
    """The numbers of neighbouring texts in a row, without the words between them."""
    found = [(text, [match.group().strip() for match in _CLUSTER.finditer(text)]) for text in texts]
    chains = []
    for step in (1, 2):
        for first in range(step):
            row = [(text, clusters) for text, clusters in found[first::step] if clusters]
            at = 0
            while at < len(row) - 1:
                text, clusters = row[at]
                chain = [text[:90].rpartition(clusters[0])[0] if len(text) < 400 else "", clusters[-1]]
                while at < len(row) - 1:
                    at += 1
                    chain.append(row[at][1][0])
                    if len(row[at][1]) > 1 or len(chain) > 12:
                        break
                chains.append(" ".join(chain))
    return chains
