"""Poland."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

from ..checks import is_date, weighted
from ..numbers import Number


def pesel(number: str) -> bool:
    """PESEL, ustawa o ewidencji ludności: date with the century in the month, weights 1 3 7 9, mod 10."""
    month = int(number[2:4])
    year = {0: 1900, 1: 2000, 2: 2100, 3: 2200, 4: 1800}[month // 20] + int(number[:2])
    return (
        is_date(year, month % 20, int(number[4:6]))
        and weighted(number, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0
    )


def nip(number: str) -> bool:
    """NIP: weights 6 5 7 2 3 4 5 6 7, mod 11 (Ministerstwo Finansów)."""
    return number[0] != "0" and weighted(number[:9], (6, 5, 7, 2, 3, 4, 5, 6, 7)) % 11 == int(number[9])


def dowod(number: str) -> bool:
    """Dowód osobisty: three letters as 10 to 35, six digits of which the first checks: weights 7 3 1 _ 7 3 1 7 3."""
    values = [int(char, 36) for char in number]
    return sum(v * w for v, w in zip(values, (7, 3, 1, 9, 7, 3, 1, 7, 3), strict=True)) % 10 == 0


def paszport(number: str) -> bool:
    """Paszport: two letters as 10 to 35, seven digits of which the first checks: weights 7 3 _ 1 7 3 1 7 3."""
    values = [int(char, 36) for char in number]
    return sum(v * w for v, w in zip(values, (7, 3, 9, 1, 7, 3, 1, 7, 3), strict=True)) % 10 == 0


NUMBERS = (
    Number("pl-pesel", "national-id", "9" * 11, pesel, r"pesel|ewidencyjn|identyfik|identi|national"),
    Number(
        "pl-nip",
        "tax-id",
        "9" * 10,
        nip,
        r"\bnip\b|podat|\btax|\btin\b|steuer",
        written=r"\d{3}-\d{3}-\d\d-\d\d|\d{3}-\d\d-\d\d-\d{3}",
        label_needed=True,
    ),
    Number(
        "pl-dowod",
        "identity-document",
        "AAA999999",
        dowod,
        r"dow[o]?d|osobist|tozsamo|ausweis|identity|id card",
        label_needed=True,
    ),
    Number(
        "pl-paszport",
        "identity-document",
        "AA9999999",
        paszport,
        r"paszport|passport|reisepass",
        label_needed=True,
    ),
)
"""Kinds of numbers of Poland."""
