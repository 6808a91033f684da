"""The Netherlands."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

from ..checks import weighted
from ..numbers import Number


def bsn(number: str) -> bool:
    """Burgerservicenummer: the test of eleven, weights 9 to 2 and -1 (Rijksdienst voor Identiteitsgegevens)."""
    return number != "0" * 9 and weighted(number, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


NUMBERS = (
    Number(
        "nl-bsn",
        "national-id",
        "9" * 9,
        bsn,
        r"\bbsn|burgerservice|sofi|citizen|\bid-?n|persoonsn|identi",
        written=r"\d{4}[. ]\d\d[. ]\d{3}|\d{3}[ \-]\d{3}[ \-]\d{3}",
    ),
)
"""Kinds of numbers of the Netherlands."""
