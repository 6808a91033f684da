"""Norway."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

from ..checks import birth, weighted
from ..numbers import Number


def fodselsnummer(number: str) -> bool:
    """Fødselsnummer and D-number (day and 40): two check digits, mod 11 (Skatteetaten)."""
    day, month = int(number[:2]), int(number[2:4])
    day = day - 40 if day > 40 else day
    month = month - 40 if month > 40 else month
    return (
        birth(f"{day:02}", f"{month:02}", number[4:6])
        and weighted(number, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11 == 0
        and weighted(number, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0
    )


NUMBERS = (
    Number(
        "no-fodselsnummer",
        "national-id",
        "9" * 11,
        fodselsnummer,
        r"f.?dselsn|personn|d-nummer|fnr|norweg|identi|national",
        written=r"\d{6} \d{5}",
        sure=True,
    ),
)
"""Kinds of numbers of Norway."""
