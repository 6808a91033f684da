"""Tables as files that others read: CSV for spreadsheets, JSON for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any


def as_csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """A table as CSV (RFC 4180), in UTF-8 with the mark by which spreadsheets know it.

    A text that a spreadsheet would take for a formula is given an apostrophe (OWASP, "CSV Injection").
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(head)
    writer.writerows([_plain(value) for value in row] for row in rows)
    return out.getvalue().encode("utf-8-sig")


def _plain(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t"} else text


def as_json(data: Any) -> bytes:
    """Plain data as JSON."""
    return (json.dumps(data, indent=2, ensure_ascii=False, default=str) + "\n").encode()


def listed(values: Sequence[Any]) -> str:
    """Values as one text."""
    return ", ".join(str(value) for value in values)
