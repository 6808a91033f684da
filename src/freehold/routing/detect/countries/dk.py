"""Denmark."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

from ..checks import birth, weighted
from ..numbers import Number


def cpr(number: str) -> bool:
    """CPR-nummer: a date of birth and four digits; since 2007 without a check digit (CPR-kontoret)."""
    return birth(number[:2], number[2:4], number[4:6])


def checked(number: str) -> bool:
    """CPR-nummer of before 2007: weights 4 3 2 7 6 5 4 3 2 1, mod 11."""
    return cpr(number) and weighted(number, (4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


LABELS = r"\bcpr|personn|\bpnr\b|danish|dansk|identi|national"

NUMBERS = (
    Number(
        "dk-cpr",
        "national-id",
        "9" * 10,
        cpr,
        LABELS,
        written=r"\d{6} ?- ?\d{4}",
        label_needed=True,
    ),
    Number("dk-cpr", "national-id", "9" * 10, checked, LABELS, written=r"\d{6}[\- ]\d{4}"),
)
"""Kinds of numbers of Denmark."""
