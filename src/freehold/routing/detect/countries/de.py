"""Germany."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

import re
from collections import Counter

from ..checks import birth, digit_sum, mod_11_10, weighted
from ..numbers import Number


def steuer_id(number: str) -> bool:
    """Identifikationsnummer, § 139b AO: MOD 11,10; of the first ten digits one stands twice or three times, no other more than once
    (Bundeszentralamt für Steuern, "Prüfziffernberechnung")."""
    counts = sorted(Counter(number[:10]).values())
    return number[0] != "0" and counts[-1] in (2, 3) and counts[-2] == 1 and mod_11_10(number)


def rvnr(number: str) -> bool:
    """Versicherungsnummer, § 147 SGB VI and VKVV § 4: area, date of birth, initial as two digits, serial, check."""
    if not re.fullmatch(r"\d{8}[a-z]\d{3}", number):
        return False
    day = int(number[2:4])
    if not (birth(f"{day - 50 if day > 50 else day:02}", number[4:6], number[6:8]) or number[2:6] == "0000"):
        return False
    digits = f"{number[:8]}{ord(number[8]) - 96:02}{number[9:11]}"
    return digit_sum(digits, (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1)) % 10 == int(number[11])


def kvnr(number: str) -> bool:
    """Krankenversichertennummer, § 290 SGB V: letter as two digits, weights 1 and 2, sum of digit sums mod 10."""
    digits = f"{ord(number[0]) - 96:02}{number[1:9]}"
    return digit_sum(digits, (1, 2) * 5) % 10 == int(number[9])


def document(number: str) -> bool:
    """Personalausweis and Reisepass: nine characters without vowels and a check digit, weights 7, 3, 1
    (ICAO Doc 9303-3, 4.9)."""
    if not re.fullmatch(r"[cfghjklmnprtvwxyz][0-9cfghjklmnprtvwxyz]{8}\d", number):
        return False
    return weighted_731(number[:9]) == int(number[9])


def weighted_731(number: str) -> int:
    """Check digit of ICAO Doc 9303-3: letters as 10 to 35, weights 7, 3, 1."""
    return sum(int(char, 36) * (7, 3, 1)[place % 3] for place, char in enumerate(number)) % 10


def lanr(number: str) -> bool:
    """Lebenslange Arztnummer: six digits, a check digit with weights 4 and 9, two of the group (KBV)."""
    return (10 - weighted(number[:6], (4, 9) * 3) % 10) % 10 == int(number[6]) and number[:6] != "000000"


NUMBERS = (
    Number(
        "de-steuer-id",
        "tax-id",
        "9" * 11,
        steuer_id,
        r"steuer|\bidn?r\b|\bid-?n(?:r|ummer)|identifikationsn|\btin\b|tax|fiscal|finanzamt|elster|\bimpot",
        written=r"\d\d \d\d\d \d\d\d \d\d\d",
    ),
    Number(
        "de-steuernummer",
        "tax-id",
        "9" * 10,
        lambda number: number != number[0] * 10,
        r"steuer-?\s?n(?:r|ummer)|\bst\.?-?\s?nr|tax number|tax no",
        written=r"\d{2}/\d{3}/\d{5}",
        label_needed=True,
    ),
    Number(
        "de-steuernummer",
        "tax-id",
        "9" * 11,
        lambda number: number != number[0] * 11,
        r"steuer-?\s?n(?:r|ummer)|\bst\.?-?\s?nr|tax number|tax no",
        written=r"\d{3}/\d{3}/\d{5}|\d{3}/\d{4}/\d{4}",
        label_needed=True,
    ),
    Number(
        "de-steuernummer",
        "tax-id",
        "9" * 13,
        lambda number: number[4] == "0",
        r"steuer-?\s?n(?:r|ummer)|\bst\.?-?\s?nr|elster|tax number|tax no",
        label_needed=True,
    ),
    Number(
        "de-rentenversicherung",
        "social-insurance",
        "99999999A999",
        rvnr,
        r"versicherung|rente|sozial|\bsv-?n|\brv-?n|\bvsnr|social|insurance",
        written=r"\d\d ?\d{6} ?[a-z] ?\d{3}",
        sure=True,
    ),
    Number(
        "de-krankenversicherung",
        "social-insurance",
        "A999999999",
        kvnr,
        r"versicher|krankenk|kvnr|\bgkv|gesundheitskarte|health|insurance|patient",
    ),
    Number(
        "de-ausweis",
        "identity-document",
        "XXXXXXXXX9",
        document,
        r"ausweis|\bpass\b|reisepass|passnummer|passport|\bid card|identity",
    ),
    Number(
        "de-arztnummer",
        "health",
        "9" * 9,
        lanr,
        r"\blanr\b|arztnummer|arzt-nr",
        label_needed=True,
    ),
)
"""Kinds of numbers of Germany."""
