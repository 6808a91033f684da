"""Finland."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

import re

from ..checks import birth
from ..numbers import Number


def hetu(number: str) -> bool:
    """Henkilötunnus, valtioneuvoston asetus 128/2010 and 690/2022: date, sign of the century, serial, and a
    character for the rest of the digits by 31 (Digi- ja väestötietovirasto). Without its sign where that is + or -."""
    match = re.fullmatch(r"(\d{6})[a-fu-y]?(\d{3})([0-9a-y])", number)
    return bool(
        match
        and birth(number[:2], number[2:4], number[4:6])
        and "0123456789abcdefhjklmnprstuvwxy"[int(match[1] + match[2]) % 31] == match[3]
    )


LABELS = r"hetu|henkilotunnus|personbeteckning|finnish|identi|national|\bssn"

NUMBERS = (
    Number("fi-hetu", "national-id", "999999A999X", hetu, LABELS, sure=True),
    Number("fi-hetu", "national-id", "999999999A", hetu, LABELS, written=r"\d{6}[+\-]\d{3}[a-z]"),
    Number("fi-hetu", "national-id", "9" * 10, hetu, LABELS, written=r"\d{6}[+\-]\d{4}", label_needed=True),
)
"""Kinds of numbers of Finland."""
