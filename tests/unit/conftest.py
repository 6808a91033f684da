"""What all unit tests have in common."""

from __future__ import annotations

import pytest

from freehold.layout import routing


@pytest.fixture(autouse=True)
def presidio_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Presidio is tested as if it were not refused; that it is has a test of its own."""
    monkeypatch.setattr(routing, "PRESIDIO_REFUSED", False)
