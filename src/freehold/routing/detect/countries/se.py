"""Sweden."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

from ..checks import birth, is_date, luhn
from ..numbers import Number


def personnummer(number: str) -> bool:
    """Personnummer, folkbokföringslag (1991:481) § 18: date, serial, Luhn over ten digits; samordningsnummer add
    60 to the day (Skatteverket, SKV 704)."""
    ten = number[-10:]
    day = int(ten[4:6])
    day = day - 60 if day > 60 else day
    if len(number) == 12 and not is_date(int(number[:4]), int(ten[2:4]), day):
        return False
    return (len(number) == 10 or number[:2] in {"18", "19", "20"}) and (
        birth(f"{day:02}", ten[2:4], ten[:2]) and luhn(ten)
    )


LABELS = r"person(?:liga)?\s?n|\bpnr\b|\bpersnr|samordning|personnummer|fodelse|identi|national|swedish"

NUMBERS = (
    Number("se-personnummer", "national-id", "9" * 10, personnummer, LABELS, written=r"\d{6}[\-+ ]\d{4}"),
    Number(
        "se-personnummer",
        "national-id",
        "9" * 12,
        personnummer,
        LABELS,
        written=r"\d{8}[\-+ ]\d{4}",
    ),
)
"""Kinds of numbers of Sweden."""
