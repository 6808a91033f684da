"""Numbers in words, and words letter by letter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from .fold import View, substitute

_ONES = {
    "de": "null eins zwei drei vier funf sechs sieben acht neun zehn elf zwolf dreizehn vierzehn funfzehn sechzehn siebzehn achtzehn neunzehn",
    "en": "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
    "fr": "zero un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit dix-neuf",
    "nl": "nul een twee drie vier vijf zes zeven acht negen tien elf twaalf dertien veertien vijftien zestien zeventien achttien negentien",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciseis diecisiete dieciocho diecinueve",
    "it": "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici sedici diciassette diciotto diciannove",
    "pl": "zero jeden dwa trzy cztery piec szesc siedem osiem dziewiec dziesiec",
}
_TENS = {
    "de": "zwanzig dreissig vierzig funfzig sechzig siebzig achtzig neunzig",
    "en": "twenty thirty forty fifty sixty seventy eighty ninety",
}
_FRENCH = {
    "vingt": 20,
    "trente": 30,
    "quarante": 40,
    "cinquante": 50,
    "soixante": 60,
    "quatre-vingt": 80,
    "septante": 70,
    "huitante": 80,
    "nonante": 90,
}
_LETTERS = [
    "alfa",
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliett",
    "juliet",
    "kilo",
    "lima",
    "mike",
    "november",
    "oscar",
    "papa",
    "quebec",
    "romeo",
    "sierra",
    "tango",
    "uniform",
    "victor",
    "whiskey",
    "x-ray",
    "yankee",
    "zulu",
    "anton",
    "berta",
    "casar",
    "dora",
    "emil",
    "friedrich",
    "gustav",
    "heinrich",
    "ida",
    "julius",
    "konrad",
    "ludwig",
    "martha",
    "nordpol",
    "otto",
    "paula",
    "quelle",
    "richard",
    "siegfried",
    "theodor",
    "ulrich",
    "viktor",
    "wilhelm",
    "xanthippe",
    "ypsilon",
    "zeppelin",
]

_SPACED = re.compile(r"(?<![^\W_])[a-z](?:[ .\-_*/|,+~]{1,3}(?:ss|[a-z])){3,}(?![^\W_])")
_HYPHENATED = re.compile(r"(?<=[a-z])-[ \t]*\r?\n[ \t]*(?=[a-z])")
_INSIDE = re.compile(r"(?<=[a-z])[*_.~^|](?=[a-z])")


@cache
def _numerals() -> dict[str, str]:
    words = {word: str(value) for ones in _ONES.values() for value, word in enumerate(ones.split())}
    words |= {
        "zwo": "2",
        "oh": "0",
        "nought": "0",
        "ein": "1",
        "une": "1",
        "one": "1",
        "fuenf": "5",
        "zwoelf": "12",
        "dreiszig": "30",
    }
    ones = {language: text.split() for language, text in _ONES.items()}
    for place, ten in enumerate(_TENS["de"].split()):
        words[ten] = str(20 + place * 10)
        for one in range(1, 10):
            words[("ein" if one == 1 else ones["de"][one]) + "und" + ten] = str(20 + place * 10 + one)
    for place, ten in enumerate(_TENS["en"].split()):
        words[ten] = str(20 + place * 10)
        for one in range(1, 10):
            words[f"{ten}-{ones['en'][one]}"] = str(20 + place * 10 + one)
    for ten, value in _FRENCH.items():
        words[ten] = str(value)
        for one in range(1, 20 if value in {60, 80} else 10):
            words[f"{ten}-{ones['fr'][one]}"] = str(value + one)
            words[f"{ten}-et-{ones['fr'][one]}"] = str(value + one)
    words["quatre-vingts"] = "80"
    words |= {word: word[0] for word in _LETTERS}
    return words


@cache
def _pattern() -> re.Pattern[str]:
    longest_first = sorted(_numerals(), key=lambda word: (-len(word), word))
    alternatives = "|".join(re.escape(word).replace(r"\-", r"[\s\-]") for word in longest_first)
    return re.compile(rf"(?<![a-z])(?:(double|doppel|triple|dreifach)[\s\-]?)?({alternatives})(?![a-z])")


_HINT = re.compile(r"\b(?:null|zero|nul|cero|eins|zwei|zwo|drei|two|three|five|eight|deux|trois|huit|twee|drie|dos|tres|due|tre|dwa|trzy|sieben|acht|vier|cinq|cuatro|cinco|quattro|cinque|cztery|dora|delta)\b")  # fmt: skip


def numerals(view: View) -> View | None:
    """A folded, lower-case text with digits for numbers in words, where there are at least three of them."""
    if sum(1 for _, _ in zip(range(3), _HINT.finditer(view.text), strict=False)) < 2:
        return None
    changes = []
    for match in _pattern().finditer(view.text):
        word = re.sub(r"\s", "-", match[2])
        times = {"double": 2, "doppel": 2, "triple": 3, "dreifach": 3}.get(match[1] or "", 1)
        changes.append((match.start(), match.end(), _numerals()[word] * times))
    return substitute(view, changes) if len(changes) >= 3 else None


def _joined(text: str) -> Iterator[tuple[int, int, str]]:
    for match in _SPACED.finditer(text):
        yield match.start(), match.end(), re.sub("[^a-z]", "", match.group())
    for match in _HYPHENATED.finditer(text):
        yield match.start(), match.end(), ""
    for match in _INSIDE.finditer(text):
        yield match.start(), match.end(), ""


def joined(view: View) -> View | None:
    """A folded, lower-case text with words put together that stand letter by letter, over two lines, or with signs
    between their letters; nothing where there are none."""
    return substitute(view, _joined(view.text))
