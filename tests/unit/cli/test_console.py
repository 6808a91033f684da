"""What every command prints through."""

from __future__ import annotations

import io

from freehold.cli import console


def test_a_fingerprint_is_shown_as_it_is() -> None:
    for screen in (console.out, console.err):
        before, screen.file = screen.file, io.StringIO()
        try:
            screen.print("EE:AB:1C:A2", highlight=False)
            assert screen.file.getvalue() == "EE:AB:1C:A2\n"
        finally:
            screen.file = before
