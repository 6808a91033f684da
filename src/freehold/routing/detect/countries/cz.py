"""Czechia and Slovakia."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

from ..checks import birth
from ..numbers import Number


def rodne_cislo(number: str) -> bool:
    """Rodné číslo, zákon 133/2000: date (women's months and 50, overflow and 20), divisible by 11."""
    month = int(number[2:4]) % 50
    month = month - 20 if month > 20 else month
    return (
        month > 0
        and birth(number[4:6], f"{month:02}", number[:2])
        and (int(number) % 11 == 0 or (int(number[:9]) % 11 == 10 and number[9] == "0"))
    )


NUMBERS = (
    Number(
        "cz-rodne-cislo",
        "national-id",
        "9" * 10,
        rodne_cislo,
        r"rodn.|\brc\b|identi|national",
        written=r"\d{6}/\d{4}",
        label_needed=True,
    ),
)
"""Kinds of numbers of Czechia and Slovakia."""
