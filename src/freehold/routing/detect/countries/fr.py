"""France."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

import re

from ..numbers import Number


def nir(number: str) -> bool:
    """Numéro de sécurité sociale (NIR), décret 82-103: sex, year, month, place, serial, and 97 less the rest of
    the division by 97; Corsica's 2A and 2B count as 19 and 18 (INSEE)."""
    if not re.fullmatch(r"[1-478]\d\d(?:0[1-9]|1[0-2]|[2-9]\d)(?:\d\d|2[ab])\d{8}", number):
        return False
    digits = number[:13].replace("2a", "19").replace("2b", "18")
    return 97 - int(digits) % 97 == int(number[13:])


def spi(number: str) -> bool:
    """Numéro fiscal (SPI): first digit 0 to 3, last three are the first ten mod 511 (European Commission, TIN)."""
    return number[0] in "0123" and int(number[:10]) % 511 == int(number[10:]) and int(number) > 10**6


LABELS = r"secu|\bnir\b|social|\bss\b|immatriculation|insee|vitale|assure"

NUMBERS = (
    Number("fr-nir", "social-insurance", "9" * 15, nir, LABELS, sure=True),
    Number("fr-nir", "social-insurance", "999999A99999999", nir, LABELS, sure=True),
    Number(
        "fr-fiscal",
        "tax-id",
        "9" * 13,
        spi,
        r"fiscal|impot|\bspi\b|\bnif\b|tax|\btin\b|steuer",
        written=r"\d\d \d\d \d{3} \d{3} \d{3}",
    ),
)
"""Kinds of numbers of France."""
