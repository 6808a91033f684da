"""Switzerland and Liechtenstein."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

from ..checks import weighted
from ..numbers import Number


def ahv(number: str) -> bool:
    """AHV-Nummer, Art. 50c AHVG: 756 and the check digit of EAN-13 (Zentrale Ausgleichsstelle)."""
    return number.startswith("756") and weighted(number, (1, 3) * 7) % 10 == 0


NUMBERS = (
    Number(
        "ch-ahv",
        "social-insurance",
        "9" * 13,
        ahv,
        r"ahv|avs|sozialv|versicher|\bssn|nif",
        written=r"756[. ]\d{4}[. ]\d{4}[. ]\d\d",
        sure=True,
    ),
)
"""Kinds of numbers of Switzerland."""
