"""Austria."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

from ..checks import birth, luhn, weighted
from ..numbers import Number


def svnr(number: str) -> bool:
    """Sozialversicherungsnummer, § 30c ASVG: three digits, a check digit (weights 3 7 9 5 8 4 2 1 6, mod 11),
    date of birth; months 13 to 15 where a day ran out of numbers."""
    month = int(number[6:8])
    return (
        number[0] != "0"
        and weighted(number, (3, 7, 9, 0, 5, 8, 4, 2, 1, 6)) % 11 == int(number[3])
        and (birth(number[4:6], number[6:8], number[8:]) or 13 <= month <= 15)
    )


NUMBERS = (
    Number(
        "at-sozialversicherung",
        "social-insurance",
        "9" * 10,
        svnr,
        r"\bsv-?n|svnr|versicherung|sozialv|\bsvn\b|social|e-?card|\bosterreich|austria",
        written=r"\d{4}[ \-/]\d{6}|\d{4}[ \-/]\d\d[ .]\d\d[ .]\d\d",
    ),
    Number(
        "at-steuernummer",
        "tax-id",
        "9" * 9,
        # The check digit is Luhn's (Bundesministerium für Finanzen; "Abgabenkontonummer").
        luhn,
        r"steuer|abgaben|finanzamt|finanzonline|tax|\btin\b",
        written=r"\d\d[ \-]\d{3}/\d{4}",
        label_needed=True,
    ),
)
"""Kinds of numbers of Austria."""
