"""Folding: many ways to write a character become one, with the way back to the place in the original."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass

LOOKALIKES = {
    **dict(zip("абвгеёзийкмнорстухіїјѕԁԛԝһӏ", "aбвгeeзииkmhopctyxiijsdqwhl", strict=True)),
    **dict(zip("АВЕЁЗКМНОРСТУХІЇЈЅ", "ABEE3KMHOPCTYXIIJS", strict=True)),
    **dict(zip("αβεικνορτυχ", "abeikvoptux", strict=True)),
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX", strict=True)),
    "ß": "ss", "ẞ": "SS", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ł": "l", "Ł": "L",
    "đ": "d", "Đ": "D", "ð": "d", "þ": "th", "ı": "i", "ɡ": "g", "ɑ": "a", "ℓ": "l", "ǀ": "l",
    "‘": "'", "’": "'", "‚": "'", "‛": "'", "′": "'", "`": "'", "´": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"',
    "·": ".", "•": ".", "‧": ".", "∙": ".", "⋅": ".", "。": ".", "․": ".", "−": "-", "⁄": "/", "∕": "/", "：": ":", "∶": ":",
    "│": "|", "¦": "|", "→": "-", "–": "-", "—": "-", "\u2028": "\n", "\u2029": "\n", "\x85": "\n", "\x0b": "\n", "\x0c": "\n",
    "〇": "0", "零": "0", "一": "1", "二": "2", "三": "3", "四": "4", "五": "5", "六": "6", "七": "7", "八": "8", "九": "9",
}  # fmt: skip
"""Characters that look like others (Unicode TS 39, "confusables", those of Cyrillic and Greek), letters that have no
decomposition, and punctuation."""

_PLAIN = re.compile(r"[\t\n\r -_a-~]*")


def _fold(char: str) -> str:
    code = ord(char)
    if 0xE0020 <= code <= 0xE007E:  # tags: invisible copies of ASCII
        return chr(code - 0xE0000)
    if code < 0x20:
        return char if char in "\t\n\r" else LOOKALIKES.get(char, "")
    if (known := LOOKALIKES.get(char)) is not None:
        return known
    if (digit := unicodedata.decimal(char, None)) is not None:
        return str(digit)
    folded = ""
    for part in unicodedata.normalize("NFKD", char):
        category = unicodedata.category(part)
        if category in {"Mn", "Me", "Cf", "Cc"} and part not in "\t\n\r":
            continue
        if category == "Pd":
            part = "-"
        elif category == "Zs":
            part = " "
        digit = unicodedata.decimal(part, None)
        folded += str(digit) if digit is not None else LOOKALIKES.get(part, part)
    return folded


class _Table(dict[int, str]):
    """For ``str.translate``: every character is folded once. It keeps at most 20,000."""

    def __missing__(self, code: int) -> str:
        folded = _fold(chr(code))
        if len(self) < 20_000:
            self[code] = folded
        return folded


_TABLE = _Table()


@dataclass(frozen=True)
class View:
    """A text made from another, and the way back."""

    text: str
    locate: Callable[[int, int], tuple[int, int]]
    """From a stretch of this text to the stretch of the original that it comes from."""


def original(text: str) -> View:
    """A text as itself."""
    return View(text, lambda start, end: (start, end))


def folded(view: View) -> View:
    """Compatibility forms, marks, invisible characters, look-alikes and other scripts' digits folded to ASCII
    where they have one (Unicode NFKD); case stays."""
    if _PLAIN.fullmatch(view.text):
        return view
    text = view.text
    places: list[int] = []

    def locate(start: int, end: int) -> tuple[int, int]:
        if not places:
            for place, char in enumerate(text):
                places.extend([place] * len(_TABLE[ord(char)]))
            places.append(len(text))
        return view.locate(places[start], places[max(start, end - 1)] + 1 if end > start else places[end])

    return View(text.translate(_TABLE), locate)


def lower(view: View) -> View:
    """Lower case; a folded text keeps its length."""
    text = view.text.lower()
    return View(text if len(text) == len(view.text) else view.text, view.locate)


def substitute(view: View, changes: Iterable[tuple[int, int, str]]) -> View | None:
    """The text with stretches replaced; nothing where there are none. Changes that overlap an earlier one are left out."""
    pieces: list[str] = []
    marks: list[tuple[int, int, int, bool]] = []  # place here, start and end there, verbatim
    here = there = 0
    for start, end, text in sorted(changes):
        if start < there:
            continue
        for piece, first, last, verbatim in (
            (view.text[there:start], there, start, True),
            (text, start, end, False),
        ):
            marks.append((here, first, last, verbatim))
            pieces.append(piece)
            here += len(piece)
        there = end
    if not marks:
        return None
    marks.append((here, there, len(view.text), True))
    pieces.append(view.text[there:])
    starts = [mark[0] for mark in marks]

    def back(place: int, is_end: bool) -> int:
        at, first, last, verbatim = marks[max(0, bisect_right(starts, place) - 1)]
        if verbatim:
            return first + place - at
        return last if is_end else first

    def locate(start: int, end: int) -> tuple[int, int]:
        last = back(max(start, end - 1), True)
        mark = marks[max(0, bisect_right(starts, max(start, end - 1)) - 1)]
        return view.locate(back(start, False), last + 1 if mark[3] and end > start else last)

    return View("".join(pieces), locate)
