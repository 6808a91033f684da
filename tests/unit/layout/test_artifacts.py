"""What a service installs of what its role knows."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.layout.test_routing import laid, routing

from freehold.catalog import versions
from freehold.layout import artifacts


@pytest.mark.parametrize(
    ("sensitive", "more"),
    [
        ({}, set()),
        ({"presidio": {"languages": ["de"]}}, {"presidio", "spacy-de"}),
        ({"presidio": {"languages": ["en", "fr"]}}, {"presidio", "spacy-en", "spacy-fr"}),
    ],
)
def test_presidio_is_installed_with_its_languages_or_not_at_all(
    sensitive: dict[str, Any], more: set[str]
) -> None:
    found = artifacts.of(laid(routing=routing(sensitive=sensitive)).service("litellm"), versions.load())

    assert set(found) == {"litellm", *more}
