"""Italy."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

import re

from ..checks import luhn
from ..numbers import Number

_ODD = dict(
    zip(
        "0123456789abcdefghijklmnopqrstuvwxyz",
        (
            *(1, 0, 5, 7, 9, 13, 15, 17, 19, 21) * 2,
            *(2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        ),
        strict=True,
    )
)
_SHAPE = re.compile(r"[a-z]{6}[0-9l-npqrstuv]{2}[abcdehlmprst][0-9l-npqrstuv]{2}[a-z][0-9l-npqrstuv]{3}[a-z]")


def codice_fiscale(number: str) -> bool:
    """Codice fiscale, D.M. 23 dicembre 1976: values of odd and even places, mod 26; letters L to V may stand for
    digits (omocodia)."""
    # Words in a row have the shape as well, with letters for all digits.
    if not _SHAPE.fullmatch(number) or sum(map(str.isdigit, number)) < 3:
        return False
    total = 0
    for place, char in enumerate(number[:15]):
        total += _ODD[char] if place % 2 == 0 else (int(char) if char.isdigit() else ord(char) - 97)
    return chr(97 + total % 26) == number[15]


NUMBERS = (
    Number(
        "it-codice-fiscale",
        "tax-id",
        "AAAAAAXXAXXAXXXA",
        codice_fiscale,
        r"codice fiscale|\bc\.?f\b|fiscale|tax",
        written=r"[a-z]{3} ?[a-z]{3} ?[0-9a-z]{2}[a-z][0-9a-z]{2} ?[a-z][0-9a-z]{3}[a-z]",
    ),
    Number(
        "it-partita-iva",
        "tax-id",
        "9" * 11,
        luhn,
        r"partita iva|p\.?\s?iva",
        label_needed=True,
    ),
    Number(
        "it-carta-identita",
        "identity-document",
        "AA99999AA",
        lambda number: number[0] == "c",
        r"carta d.?identit|\bcie\b|documento",
        label_needed=True,
    ),
)
"""Kinds of numbers of Italy."""
