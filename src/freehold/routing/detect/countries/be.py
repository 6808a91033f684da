"""Belgium."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

from ..numbers import Number


def rijksregister(number: str) -> bool:
    """Rijksregisternummer and BIS number: date, serial, 97 less the rest of nine digits by 97, with a 2 before
    them for those born from 2000 on (IBZ, "IT000 Rijksregisternummer"; BIS adds 20 or 40 to the month)."""
    if int(number[2:4]) % 20 > 12 or int(number[4:6]) > 31 or number == "0" * 11:
        return False
    check = int(number[9:])
    return check in (97 - int(number[:9]) % 97, 97 - int("2" + number[:9]) % 97)


NUMBERS = (
    Number(
        "be-rijksregister",
        "national-id",
        "9" * 11,
        rijksregister,
        r"rijksregister|registre national|nationalregister|\brrn|\bniss|\binsz|\bnn\b|national|identi",
        written=r"\d\d[. ]\d\d[. ]\d\d[\- ]\d{3}[. \-]\d\d",
        sure=True,
    ),
)
"""Kinds of numbers of Belgium."""
