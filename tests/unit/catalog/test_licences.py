"""The licences that Freehold knows: everything that we install or serve is under one of them."""

from __future__ import annotations

import pytest

from freehold.catalog import licences, models, versions
from freehold.catalog.licences import Licence

KNOWN = licences.load()


@pytest.mark.parametrize("name", sorted(versions.load()))
def test_the_licence_of_what_is_installed_is_known(name: str) -> None:
    assert versions.load()[name].licence in KNOWN


@pytest.mark.parametrize("name", sorted(models.load()))
def test_a_licence_of_a_language_model_is_known_where_it_is_named(name: str) -> None:
    licence = models.load()[name].licence
    assert licence is None or licence in KNOWN


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_licence_says_who_read_it_and_where_it_stands(name: str) -> None:
    licence = KNOWN[name]
    assert licence.source
    assert licence.url.startswith("https://")
    assert licence.spdx in {None, name}


def test_a_licence_that_forbids_business_names_the_clause() -> None:
    with pytest.raises(ValueError, match="belong together"):
        Licence(name="x", title="X", url="https://x", source="read", commercial=False)
