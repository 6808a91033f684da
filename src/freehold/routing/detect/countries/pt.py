"""Portugal."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

import re

from ..checks import weighted
from ..numbers import Number


def nif(number: str) -> bool:
    """NIF, Decreto-Lei 14/2013: weights 9 to 2, mod 11."""
    return number[0] != "0" and (11 - weighted(number[:8], range(9, 1, -1)) % 11) % 11 % 10 == int(number[8])


def niss(number: str) -> bool:
    """NISS: primes from 29 down as weights, 9 less the rest by ten (Segurança Social)."""
    return number[0] in "12" and 9 - weighted(number[:10], (29, 23, 19, 17, 13, 11, 7, 5, 3, 2)) % 10 == int(
        number[10]
    )


def cartao(number: str) -> bool:
    """Cartão de cidadão: every second character from the right doubled, less 9 above 9, mod 10
    (Autenticação.gov, "Validação de Número de Documento do Cartão de Cidadão")."""
    if not re.fullmatch(r"\d{9}[0-9a-z]{2}\d", number):
        return False
    total = 0
    for place, char in enumerate(reversed(number)):
        value = int(char, 36) * (2 if place % 2 else 1)
        total += value - 9 if place % 2 and value > 9 else value
    return total % 10 == 0


NUMBERS = (
    Number(
        "pt-nif",
        "tax-id",
        "9" * 9,
        nif,
        r"\bnif\b|contribuinte|fiscal|financas|\btax|\btin\b|\bnipc",
        written=r"\d{3} \d{3} \d{3}",
    ),
    Number("pt-niss", "social-insurance", "9" * 11, niss, r"\bniss|seguranca social|social"),
    Number(
        "pt-cartao",
        "national-id",
        "999999999AA9",
        cartao,
        r"cart.o|cidad.o|\bcc\b|\bbi\b|identi",
        written=r"\d{8} ?\d ?[a-z]{2}\d",
    ),
)
"""Kinds of numbers of Portugal."""
