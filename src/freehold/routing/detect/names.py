"""Names on the client's own list, in the ways in which people write them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .categories import Hit
from .words import Word, forms

TITLES = {
    "dr",
    "prof",
    "dipl",
    "ing",
    "mag",
    "lic",
    "med",
    "jur",
    "rer",
    "nat",
    "phil",
    "hc",
    "herr",
    "herrn",
    "frau",
    "hr",
    "fr",
    "mr",
    "mrs",
    "ms",
    "miss",
    "sir",
    "madam",
    "monsieur",
    "madame",
    "mme",
    "mlle",
    "mevrouw",
    "dhr",
    "mevr",
    "mw",
    "senor",
    "senora",
    "sr",
    "sra",
    "don",
    "dona",
    "signor",
    "signora",
    "signore",
    "sig",
    "avv",
    "ra",
    "rain",
    "dott",
    "pan",
    "pani",
    "panu",
    "mec",
    "notar",
    "rechtsanwalt",
    "rechtsanwaltin",
    "richter",
    "richterin",
    "mandant",
    "mandantin",
    "patient",
    "patientin",
    "familie",
    "family",
    "famille",
    "familia",
    "famiglia",
    "rodzina",
}
"""Titles, in the form in which words are compared."""
LEGAL_FORMS = {
    "gmbh",
    "mbh",
    "ag",
    "kg",
    "ohg",
    "gbr",
    "ug",
    "se",
    "ev",
    "eg",
    "kgaa",
    "co",
    "cie",
    "inc",
    "ltd",
    "limited",
    "llc",
    "llp",
    "lp",
    "plc",
    "corp",
    "corporation",
    "company",
    "sa",
    "sas",
    "sarl",
    "eurl",
    "sasu",
    "snc",
    "bv",
    "nv",
    "vof",
    "cv",
    "sl",
    "slu",
    "srl",
    "spa",
    "sp",
    "zo",
    "z",
    "o",
    "oo",
    "ab",
    "oy",
    "as",
    "aps",
    "a",
    "s",
    "k",
    "sro",
    "kft",
    "holding",
    "group",
    "gruppe",
}
PARTICLES = {
    "von",
    "van",
    "der",
    "den",
    "de",
    "del",
    "della",
    "di",
    "da",
    "dos",
    "du",
    "la",
    "le",
    "zu",
    "zum",
    "zur",
    "af",
    "av",
    "ten",
    "ter",
    "vom",
    "und",
    "and",
    "et",
}
ORDINARY = {
    *forms(
        "gross klein lang kurz schwarz weiss weiß braun grün roth blau jung alt neu stark sommer winter herbst mai april juni juli"
        " august sonntag freitag berg bach wald feld stein baum blume könig kaiser graf fürst engel teufel mann frau kind koch"
        " bauer richter wirt"
        " white black brown green gray grey young long short king queen page bell"
        " wood hill rose may june hall price rice bush stone west north hope grace mark will bill frank petit grand blanc"
        " noir roi bon long martin fort rossi bianchi neri conti costa blanco rojo moreno reyes cruz campos luna sol")
}  # fmt: skip
"""Family names that are words as well: alone they count only after a title or with a capital letter inside a sentence."""
COMMON = {
    *forms(
        "deutsche deutscher deutsches german germany europa europe european euro international global general first royal national"
        " united american service services digital bank banque banca stadt klinik clinic hospital verlag druck media medien system"
        " systeme systems software consulting beratung bau immobilien real estate energie energy auto handel handels trading"
        " versicherung insurance stiftung foundation verein institut institute university universität schule school kanzlei law"
        " praxis apotheke pharmacy hotel restaurant berlin hamburg münchen wien zürich paris london köln frankfurt stuttgart"
        " bayerische bavarian swiss schweizer austrian österreichische french italian polish dutch projekt project operation the"
        " neue new old alte grosse green blue smart data cloud tech technology technik technologies solutions industrie industries")
}  # fmt: skip
"""First words of companies that say nothing of one company."""

_INFLECTIONS = tuple(
    sorted(
        [
            "s",
            "es",
            "n",
            "en",
            "ns",
            "ens",
            "sche",
            "schen",
            "scher",
            "sches",
            "a",
            "u",
            "y",
            "ie",
            "em",
            "ego",
            "emu",
            "owi",
            "ow",
            "owie",
            "im",
            "ich",
            "i",
            "ami",
            "om",
            "e",
            "owa",
            "owej",
            "ova",
            "ovi",
            "in",
            "er",
            "ers",
        ],
        key=len,
    )
)


class _Name(NamedTuple):
    family: tuple[str, ...]
    given: tuple[str, ...]
    parts: tuple[str, ...]
    """All words that count, in order."""
    company: bool


def _parsed(text: str) -> _Name | None:
    if "," in text:
        last, _, first = text.partition(",")
        if first.strip() and not LEGAL_FORMS & set(forms(first)):
            text = f"{first} {last}"
    found = forms(text)
    marked = {word for word in found[1:] if word in LEGAL_FORMS and len(word) > 1}
    # Short ones are words and parts of names as well: they count at the end alone.
    company = bool(marked - {"as", "se", "sa", "co", "sp", "ab", "cv"}) or (
        bool(found) and found[-1] in marked
    )
    if company:
        parts = tuple(word for word in found if word not in LEGAL_FORMS) or tuple(found)
        return _Name((), (), parts, True)
    groups = [forms(group) for group in text.split()]
    groups = [group for group in groups if group and not (len(group) == 1 and group[0] in TITLES)]
    parts = tuple(word for group in groups for word in group if word not in PARTICLES) or tuple(found)
    if not parts:
        return None
    if len(groups) < 2:
        return _Name(parts, (), parts, False)
    at = next(
        (place for place, group in enumerate(groups) if place and group[0] in PARTICLES), len(groups) - 1
    )
    family = tuple(
        word
        for group in groups[at:]
        for word in group
        if word not in PARTICLES and (len(word) > 1 or len(group) == 1)
    )
    given = tuple(word for group in groups[:at] for word in group if word not in PARTICLES)
    return _Name(family or parts[-1:], given, parts, False)


def _fits(word: str, part: str) -> bool:
    """Whether a word is this part of a name, inflected or not."""
    if word == part:
        return True
    if len(part) < 3 or len(word) > len(part) + 5:
        return False
    stems = (part, part[:-1]) if len(part) > 4 and part[-1] in "aeiouy" else (part,)
    return any(word.startswith(stem) and word[len(stem) :] in _INFLECTIONS for stem in stems)


class Names:
    """Finds the names of a list.

    Args:
        names: People as ``Anna Müller`` or ``Müller, Anna``, companies with or without their legal form, and any other
            word that must not leave, such as the name of a project.

    Raises:
        ValueError: A name has no letters of two or more.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._by_stem: dict[str, list[_Name]] = {}
        self._glued: set[str] = set()
        for text in names:
            name = _parsed(text)
            if name is None or max(map(len, name.parts)) < 2:
                raise ValueError("a name on the list has no word of two letters or more")
            for anchor in {
                part
                for part in (name.parts[:1] if name.company else name.family + name.given)
                if len(part) > 1
            }:
                self._by_stem.setdefault(anchor[:3], []).append(name)
            if len(name.parts) > 1:
                self._glued |= {"".join(name.parts), "".join(name.parts[::-1]), "".join(forms(text))}
                if name.given:
                    family = "".join(name.family)
                    self._glued |= {name.given[0] + family, family + name.given[0]}
                    if len(family) > 3:
                        self._glued |= {name.given[0][0] + family, family + name.given[0][0]}
                self._glued = {_single(glued) for glued in self._glued}
        self._glued_by_stem: dict[str, list[str]] = {}
        for glued in sorted(self._glued):
            self._glued_by_stem.setdefault(glued[:3], []).append(glued)

    def __bool__(self) -> bool:
        return bool(self._by_stem)

    def find(self, words: Sequence[Word], cased: str) -> Iterator[Hit]:
        """Names among the words of a text.

        Args:
            words: The words.
            cased: The same text, of the same length, with its capitals.
        """
        capitals = cased != cased.lower() and cased != cased.upper()
        for at, word in enumerate(words):
            if len(word.form) >= 5 and self._is_glued(word.form):
                yield Hit(word.start, word.end, "name", "names-list", 0.95)
            for name in self._by_stem.get(word.form[:3], ()):
                if hit := (
                    self._company(name, words, at, cased, capitals)
                    if name.company
                    else self._person(name, words, at, cased, capitals)
                ):
                    yield hit

    def _is_glued(self, word: str) -> bool:
        if word in self._glued:
            return True
        # With an ending, or a legal form.
        return any(
            word.startswith(glued)
            and (word[len(glued) :] in _INFLECTIONS or word[len(glued) :] in LEGAL_FORMS)
            for glued in self._glued_by_stem.get(word[:3], ())
        )

    def _company(self, name: _Name, words: Sequence[Word], at: int, cased: str, capitals: bool) -> Hit | None:
        if not _fits(words[at].form, name.parts[0]):
            return None
        last = at + len(name.parts) - 1
        if last < len(words) and all(
            _fits(words[at + place].form, part) for place, part in enumerate(name.parts)
        ):
            return Hit(words[at].start, words[last].end, "name", "names-list", 0.95)
        first = name.parts[0]
        if len(first) > 4 and first not in COMMON and (not capitals or cased[words[at].start].isupper()):
            return Hit(words[at].start, words[at].end, "name", "names-short", 0.7)
        return None

    def _person(self, name: _Name, words: Sequence[Word], at: int, cased: str, capitals: bool) -> Hit | None:
        here = next((part for part in name.family if _fits(words[at].form, part)), None)
        word = words[at]
        if here is None:
            # A given name and the initial of the family name: "Anna M."
            after = words[at + 1] if at + 1 < len(words) else word
            if (
                after.form in {part[:1] for part in name.family}
                and cased[after.end : after.end + 1] == "."
                and after.start - word.end < 3
                and any(_fits(word.form, given) for given in name.given)
            ):
                return Hit(word.start, after.end, "name", "names-list", 0.7)
            return None
        for place in range(max(0, at - 4), min(len(words), at + 5)):
            other = words[place]
            if place == at or abs(other.start - word.start) > 80:
                continue
            for given in name.given:
                # An initial stands right beside the family name.
                if _fits(other.form, given) or (
                    other.form == given[:1] and abs(place - at) <= max(2, len(name.given))
                ):
                    start, end = min(word.start, other.start), max(word.end, other.end)
                    return Hit(start, end, "name", "names-list", 0.95)
        before = at - 2 if at > 1 and len(words[at - 1].form) == 1 else at - 1
        if at and words[before].form in TITLES:
            return Hit(words[before].start, word.end, "name", "names-list", 0.9)
        following = [other.form for other in words[at : at + len(name.family)]]
        whole = len(following) == len(name.family) and all(map(_fits, following, name.family))
        upper = cased[word.start].isupper()
        alone = whole and (upper or not capitals) and (here == word.form or len(here) > 3)
        if alone and (here not in ORDINARY or not name.given or (upper and _inside(cased, word.start))):
            end = words[at + len(name.family) - 1].end
            return Hit(word.start, end, "name", "names-list" if not name.given else "names-family", 0.8)
        return None


def _inside(cased: str, start: int) -> bool:
    """Whether a word stands inside a sentence."""
    before = cased[max(0, start - 12) : start].rstrip(" \t\"'(")
    return bool(before) and not re.search(r"[.!?\n*#>-]$", before)


def _single(word: str) -> str:
    """Double letters, which may arise where two words are put together, as one."""
    return re.sub(r"([a-z])\1+", r"\1", word)
