"""Conversations that hold something sensitive, and conversations that do not, to measure what leaves.

``python -m benchmarks.leaks`` puts them to the detectors and prints a table; the leak test of the lab sends the same
ones through the router. Everything in them is made up; numbers have right check digits and belong to nobody known.
"""

from __future__ import annotations

from benchmarks.leaks.corpus import HELD_OUT_SEED, SEED, Conversation, conversations, unclaimed
from benchmarks.leaks.values import NAMES

__all__ = ["HELD_OUT_SEED", "NAMES", "SEED", "Conversation", "conversations", "unclaimed"]
