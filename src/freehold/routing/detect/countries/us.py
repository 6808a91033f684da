"""The United States."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

import re

from ..numbers import Number

_SSN = re.compile(r"(?!000|666|9)\d{3}(?!00)\d\d(?!0000)\d{4}")
_ITIN = re.compile(r"9\d\d(?:5\d|6[0-5]|7\d|8[0-8]|9[0-24-9])\d{4}")


def ssn(number: str) -> bool:
    """Social Security number: no check digit; never 000, 666 or 9xx, 00, 0000 (SSA, randomization of 2011)."""
    return bool(_SSN.fullmatch(number)) and number != number[0] * 9


NUMBERS = (
    Number(
        "us-ssn",
        "social-insurance",
        "9" * 9,
        ssn,
        r"\bssn|social\s?security|\bsoc\b|tax.?payer|\bss#|sozialversicher",
        written=r"\d{3}-\d\d-\d{4}",
        label_needed=True,
    ),
    Number(
        "us-itin",
        "tax-id",
        "9" * 9,
        # IRS, "Individual Taxpayer Identification Number": groups 50-65, 70-88, 90-92, 94-99.
        lambda number: bool(_ITIN.fullmatch(number)),
        r"\bitin|taxpayer|\btax|\btin\b",
        written=r"9\d\d-\d\d-\d{4}",
        label_needed=True,
    ),
)
"""Kinds of numbers of the United States."""
