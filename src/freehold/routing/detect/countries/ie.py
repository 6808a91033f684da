"""Ireland."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

from ..checks import weighted
from ..numbers import Number


def pps(number: str) -> bool:
    """PPS number, Social Welfare Consolidation Act 2005: weights 8 to 2, a second letter times 9, mod 23; W, T and
    X of old numbers do not count (Department of Social Protection)."""
    total = weighted(number[:7], range(8, 1, -1))
    if len(number) == 9:
        if number[8] not in "abhwtx":
            return False
        total += 9 * (ord(number[8]) - 96) if number[8] in "abh" else 0
    return "wabcdefghijklmnopqrstuv"[total % 23] == number[7]


LABELS = r"\bpps|personal public|\brsi\b|irish|ireland|tax|identi|national"

NUMBERS = (
    Number("ie-pps", "national-id", "9999999A", pps, LABELS, written=r"\d{7} ?[a-w]"),
    Number("ie-pps", "national-id", "9999999AA", pps, LABELS, written=r"\d{7} ?[a-w][abhwtx]"),
)
"""Kinds of numbers of Ireland."""
