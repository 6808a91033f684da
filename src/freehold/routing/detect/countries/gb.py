"""The United Kingdom."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

import re

from ..checks import weighted
from ..numbers import Number

_NINO = re.compile(r"(?!bg|gb|kn|nk|nt|tn|zz)[abceghj-prstw-z][abceghj-nprstw-z]\d{6}[abcd]")


def nino(number: str) -> bool:
    """National Insurance number: shape and prefixes (HMRC, National Insurance Manual NIM39110)."""
    return bool(_NINO.fullmatch(number))


def nhs(number: str) -> bool:
    """NHS number: weights 10 to 2, mod 11 (NHS Data Dictionary)."""
    check = 11 - weighted(number[:9], range(10, 1, -1)) % 11
    return number != "0" * 10 and check != 10 and check % 11 == int(number[9])


def utr(number: str) -> bool:
    """Unique Taxpayer Reference: the first digit checks, weights 6 7 8 9 10 5 4 3 2 (OECD, TIN of the UK)."""
    return "21987654321"[weighted(number[1:], (6, 7, 8, 9, 10, 5, 4, 3, 2)) % 11] == number[0]


def driver(number: str) -> bool:
    """Driving licence: five of the surname, decade, month (women 51 to 62), day, year, initials (DVLA)."""
    return bool(
        re.fullmatch(
            r"[a-z]{1,5}9{0,4}\d(?:[05][1-9]|[16][0-2])(?:0[1-9]|[12]\d|3[01])\d[a-z][a-z9].{3}", number
        )
    )


NUMBERS = (
    Number(
        "gb-nino",
        "social-insurance",
        "AA999999A",
        nino,
        r"\bni\b|nino|national insurance|insurance number",
        written=r"[a-z]{2} ?\d\d ?\d\d ?\d\d ?[a-d]|[a-z]{2}-\d\d-\d\d-\d\d-[a-d]",
    ),
    Number(
        "gb-nhs",
        "social-insurance",
        "9" * 10,
        nhs,
        r"\bnhs|health service|patient",
        written=r"\d{3}[ \-]\d{3}[ \-]\d{4}",
    ),
    Number(
        "gb-utr", "tax-id", "9" * 10, utr, r"\butr\b|taxpayer|self.assessment|hmrc|\btax", label_needed=True
    ),
    Number(
        "gb-driving-licence",
        "identity-document",
        "AXXXX999999XXXXX",
        driver,
        r"driv|licen[cs]e|dvla",
    ),
)
"""Kinds of numbers of the United Kingdom."""
