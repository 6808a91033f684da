"""Numbers that states give to people, a module for each country; each rule with its source."""

# ruff: noqa: TID252  (relative, since the router runs these files under another name)
from __future__ import annotations

from ..numbers import Number
from . import at, be, ch, cz, de, dk, es, fi, fr, gb, ie, it, nl, no, pl, pt, ro, se, us

NUMBERS: dict[str, tuple[Number, ...]] = {
    "AT": at.NUMBERS,
    "BE": be.NUMBERS,
    "CH": ch.NUMBERS,
    "CZ": cz.NUMBERS,
    "DE": de.NUMBERS,
    "DK": dk.NUMBERS,
    "ES": es.NUMBERS,
    "FI": fi.NUMBERS,
    "FR": fr.NUMBERS,
    "GB": gb.NUMBERS,
    "IE": ie.NUMBERS,
    "IT": it.NUMBERS,
    "NL": nl.NUMBERS,
    "NO": no.NUMBERS,
    "PL": pl.NUMBERS,
    "PT": pt.NUMBERS,
    "RO": ro.NUMBERS,
    "SE": se.NUMBERS,
    "US": us.NUMBERS,
}
"""Kinds of numbers by country (ISO 3166-1, two letters)."""

COUNTRIES: tuple[str, ...] = tuple(NUMBERS)
"""Countries whose numbers are known."""
