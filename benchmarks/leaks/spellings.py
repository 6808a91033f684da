# ruff: noqa: ARG001, ARG005  (every way takes the value and the choices)
"""Ways to write a number or a text."""

from __future__ import annotations

import base64
import gzip
import random
import urllib.parse
from collections.abc import Callable

from benchmarks.leaks.values import Value

_WORDS = {
    "de": ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"],
    "en": ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
    "fr": ["zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"],
}


def _grouped(separator: str) -> Callable[[Value, random.Random], str]:
    def written(value: Value, rng: random.Random) -> str:
        pieces = value.pieces or (len(value.text),)
        parts, at = [], 0
        for size in pieces:
            parts.append(value.text[at : at + size])
            at += size
        return separator.join(parts)

    return written


def _digits_as(first: int) -> Callable[[Value, random.Random], str]:
    return lambda value, rng: "".join(
        chr(first + int(char)) if char.isdecimal() else char for char in value.text
    )


def _spoken(language: str) -> Callable[[Value, random.Random], str]:
    return lambda value, rng: " ".join(
        _WORDS[language][int(char)] if char.isdecimal() else char for char in value.text
    )


def _base64(value: Value, rng: random.Random) -> str:
    return base64.b64encode(value.text.encode()).decode()


def _between(sign: str) -> Callable[[Value, random.Random], str]:
    return lambda value, rng: sign.join(value.text)


PLAIN: dict[str, Callable[[Value, random.Random], str]] = {
    "plain": lambda value, rng: value.text,
    "grouped with spaces": _grouped(" "),
}
NUMBERS: dict[str, Callable[[Value, random.Random], str]] = {
    **PLAIN,
    "grouped with dots": _grouped("."),
    "grouped with dashes": _grouped("-"),
    "grouped with underscores": _grouped("_"),
    "grouped with no-break spaces": _grouped("\u00a0"),
    "grouped with en dashes": _grouped(" – "),
    "grouped over lines": _grouped("\n"),
    "lower case": lambda value, rng: value.text.lower(),
    "one by one": _between(" "),
    "one by one with dashes": _between("-"),
    "zero-width between": _between("\u200b"),
    "soft hyphens between": _between("\u00ad"),
    "full width": lambda value, rng: "".join(chr(ord(char) + 0xFEE0) for char in value.text),
    "Arabic-Indic digits": _digits_as(0x660),
    "Devanagari digits": _digits_as(0x966),
    "mathematical bold digits": _digits_as(0x1D7CE),
    "in words, German": _spoken("de"),
    "in words, English": _spoken("en"),
    "in words, French": _spoken("fr"),
}
"""Of numbers alone."""
ANY: dict[str, Callable[[Value, random.Random], str]] = {
    "base64": _base64,
    "base64 for URLs": lambda value, rng: (
        base64.urlsafe_b64encode(f"Wert: {value.text}".encode()).decode().rstrip("=")
    ),
    "base64 twice": lambda value, rng: base64.b64encode(base64.b64encode(value.text.encode())).decode(),
    "base64 of a sentence": lambda value, rng: base64.b64encode(
        rng.choice(value.sentences).format(value.text).encode()
    ).decode(),
    "base32": lambda value, rng: base64.b32encode(value.text.encode()).decode(),
    "hexadecimal": lambda value, rng: value.text.encode().hex(),
    "hexadecimal with spaces": lambda value, rng: value.text.encode().hex(" ").upper(),
    "gzip in base64": lambda value, rng: base64.b64encode(
        gzip.compress(value.text.encode(), mtime=0)
    ).decode(),
    "percent": lambda value, rng: "".join(f"%{byte:02X}" for byte in value.text.encode()),
    "percent where needed": lambda value, rng: (
        "https://crm.example/suche?q=" + urllib.parse.quote(value.text)
    ),
    "HTML entities": lambda value, rng: "".join(f"&#{ord(char)};" for char in value.text),
    "HTML entities, hexadecimal": lambda value, rng: "".join(f"&#x{ord(char):x};" for char in value.text),
    "JSON escapes": lambda value, rng: "".join(
        f"\\u{ord(char):04x}" if ord(char) < 0x10000 else char for char in value.text
    ),
    "binary": lambda value, rng: " ".join(f"{byte:08b}" for byte in value.text.encode()),
    "JSON": lambda value, rng: (
        '{"type": "record", "value": "' + value.text.replace("\n", "\\n").replace('"', '\\"') + '"}'
    ),
    "CSV": lambda value, rng: f"Nr;Wert;Bemerkung\n1;{value.text};geprüft\n2;;offen",
    "table": lambda value, rng: f"| Feld | Inhalt |\n|---|---|\n| A | {value.text} |",
    "quoted mail": lambda value, rng: "> > " + value.text.replace("\n", "\n> > "),
    "code": lambda value, rng: f'```python\nrecord = {{"field": {value.text!r}}}\n```',
}
"""Of anything."""
UNCLAIMED: dict[str, Callable[[Value, random.Random], str]] = {
    "ASCII85": lambda value, rng: base64.a85encode(value.text.encode()).decode(),
    "Caesar by 5": lambda value, rng: "".join(
        chr((ord(char) - 60) % 26 + 65) if "A" <= char <= "Z" else char for char in value.text
    ),
    "Polish words": lambda value, rng: " ".join(
        ["zero", "jeden", "dwa", "trzy", "cztery", "pięć", "sześć", "siedem", "osiem", "dziewięć"][int(char)]
        if char.isdecimal()
        else char
        for char in value.text
    ),
    "Danish words": lambda value, rng: " ".join(
        ["nul", "en", "to", "tre", "fire", "fem", "seks", "syv", "otte", "ni"][int(char)]
        if char.isdecimal()
        else char
        for char in value.text
    ),
    "Morse": lambda value, rng: " ".join(
        {
            **dict(
                zip(
                    "0123456789",
                    [
                        "-----",
                        ".----",
                        "..---",
                        "...--",
                        "....-",
                        ".....",
                        "-....",
                        "--...",
                        "---..",
                        "----.",
                    ],
                    strict=True,
                )
            )
        }.get(char, char)
        for char in value.text
    ),
    "Roman numerals": lambda value, rng: " ".join(
        (
            ["0", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"][int(char)]
            if char.isdecimal()
            else char
        )
        for char in value.text
    ),
    "HTML tags between": lambda value, rng: "".join(f"<b>{char}</b>" for char in value.text),
    "words between": lambda value, rng: " dann ".join(value.text),
    "backwards": lambda value, rng: value.text[::-1],
    "digits doubled": lambda value, rng: "".join(char * 2 for char in value.text),
    "keycaps": lambda value, rng: "".join(
        char + "\ufe0f\u20e3" if char.isdecimal() else char for char in value.text
    ),
    "circled digits": lambda value, rng: "".join(
        chr(0x2460 + int(char) - 1) if char in "123456789" else "⓪" if char == "0" else char
        for char in value.text
    ),
    "tags between": lambda value, rng: "".join(f"{char}[{place}]" for place, char in enumerate(value.text)),
    "octal": lambda value, rng: " ".join(f"{byte:03o}" for byte in value.text.encode()),
    "numbered lines": lambda value, rng: "\n".join(
        f"{place}. {char}" for place, char in enumerate(value.text, 1)
    ),
}
"""Ways that nobody wrote detectors for when this list was made; some are found all the same."""
