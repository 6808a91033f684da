"""Spain."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

import re

from ..numbers import Number

LETTERS = "trwagmyfpdxbnjzsqvhlcke"


def dni(number: str) -> bool:
    """DNI, Real Decreto 1553/2005: eight digits and the letter of their rest by 23 (Ministerio del Interior)."""
    return LETTERS[int(number[:8]) % 23] == number[8]


def nie(number: str) -> bool:
    """NIE: X, Y or Z counts as 0, 1 or 2, then as in the DNI."""
    return number[0] in "xyz" and LETTERS[int(f"{'xyz'.index(number[0])}{number[1:8]}") % 23] == number[8]


def naf(number: str) -> bool:
    """Número de afiliación a la Seguridad Social: province, number, and the rest by 97; a number below ten
    million counts with its province times ten million (Tesorería General de la Seguridad Social)."""
    if not re.fullmatch(r"(?:0[1-9]|[1-4]\d|5[0-3]|66)\d{10}", number):
        return False
    serial = int(number[2:10])
    base = int(number[:2]) * 10**7 + serial if serial < 10**7 else int(number[:10])
    return base % 97 == int(number[10:])


NUMBERS = (
    Number(
        "es-dni",
        "national-id",
        "99999999A",
        dni,
        r"\bdni|\bnif|documento|identi",
        written=r"\d{8}[ \-]?[a-z]|\d\d\.\d{3}\.\d{3}[ \-]?[a-z]",
    ),
    Number(
        "es-nie",
        "national-id",
        "A9999999A",
        nie,
        r"\bnie\b|extranjer|identi",
        written=r"[xyz][ \-]?\d{7}[ \-]?[a-z]",
    ),
    Number(
        "es-seguridad-social",
        "social-insurance",
        "9" * 12,
        naf,
        r"seguridad social|\bnaf\b|\bnuss|afiliacion|\bs\.?s\.|social security|sozialversicher",
        written=r"\d\d[ /\-]\d{8}[ /\-]\d\d|\d\d[ /\-]\d{10}",
    ),
)
"""Kinds of numbers of Spain."""
