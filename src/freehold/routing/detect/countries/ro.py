"""Romania."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

from ..checks import birth, weighted
from ..numbers import Number


def cnp(number: str) -> bool:
    """Cod numeric personal, OUG 97/2005: sex and century, date, county, weights 2 7 9 1 4 6 3 5 8 2 7 9, mod 11."""
    rest = weighted(number[:12], (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return (
        number[0] in "123456789"
        and birth(number[5:7], number[3:5], number[1:3])
        and (1 if rest == 10 else rest) == int(number[12])
    )


NUMBERS = (Number("ro-cnp", "national-id", "9" * 13, cnp, r"\bcnp\b|cod numeric|identi|national"),)
"""Kinds of numbers of Romania."""
