"""Check digits that several countries use, over numbers without separators."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date


def luhn(number: str) -> bool:
    """ISO/IEC 7812-1, annex B: payment cards, Swedish and Austrian numbers."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit)
        total += (value * 2 - 9 if value > 4 else value * 2) if place % 2 else value
    return total % 10 == 0


def mod_11_10(number: str) -> bool:
    """ISO/IEC 7064, MOD 11,10."""
    product = 10
    for digit in number[:-1]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(number[-1])


def mod_97_10(number: str) -> bool:
    """ISO/IEC 7064, MOD 97-10, letters as 10 to 35: IBAN (ISO 13616), already turned around."""
    return int("".join(str(int(char, 36)) for char in number)) % 97 == 1


def weighted(number: str, weights: Sequence[int]) -> int:
    """Sum of digits times their weights."""
    return sum(int(digit) * weight for digit, weight in zip(number, weights, strict=False))


def digit_sum(number: str, weights: Sequence[int]) -> int:
    """Sum of the digit sums of digits times their weights."""
    return sum(sum(divmod(int(digit) * weight, 10)) for digit, weight in zip(number, weights, strict=False))


def is_date(year: int, month: int, day: int) -> bool:
    """Whether there is such a day."""
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def birth(day: str, month: str, year: str) -> bool:
    """Whether two digits each of day, month and year can be a date of birth, in 1900 or 2000."""
    return is_date(1900 + int(year), int(month), int(day)) or is_date(2000 + int(year), int(month), int(day))
