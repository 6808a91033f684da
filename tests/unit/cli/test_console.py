"""What every command prints through."""

from __future__ import annotations

import pytest

from freehold.cli import console


def test_a_fingerprint_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console.out.print("EE:AB:1C:A2", highlight=False)
    console.err.print("EE:AB:1C:A2", highlight=False)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("EE:AB:1C:A2\n", "EE:AB:1C:A2\n")
