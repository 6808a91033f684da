"""Detectors of sensitive content, in pure Python. What they find and what they cannot: ``docs/sensitive.md``."""

from __future__ import annotations

from .categories import CATEGORIES, Finding
from .countries import COUNTRIES
from .detectors import LIMIT, Detectors, NotJudgedError

__all__ = ["CATEGORIES", "COUNTRIES", "LIMIT", "Detectors", "Finding", "NotJudgedError"]
