"""What the files of Presidio hold: its unit, and where its language models lie."""

from __future__ import annotations

import configparser
import json

import pytest
from tests.unit.ansible.test_litellm_templates import options

from freehold import render

MODEL = {"url": "https://models.example/x.whl", "sha256": "1" * 64}


@pytest.mark.parametrize("languages", [[], ["de"], ["en", "de"]])
def test_each_language_has_its_folder(languages: list[str]) -> None:
    text = render.render("litellm/presidio.json.j2", options(presidio=dict.fromkeys(languages, MODEL)))

    assert json.loads(text) == {
        language: f"/opt/litellm-presidio-models/{language}" for language in languages
    }


def test_the_unit_reaches_no_network_and_none_of_the_router_s_secrets() -> None:
    text = render.render("litellm/presidio.service.j2", options(presidio={"de": MODEL, "en": MODEL}))
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(text)
    service = unit["Service"]

    assert service["User"] == "litellm"
    assert service["RestrictAddressFamilies"] == "AF_UNIX"
    assert service["InaccessiblePaths"] == "/etc/litellm -/var/lib/litellm"
    assert service["RuntimeDirectoryMode"] == "0700"
    assert service["MemoryMax"] == "1536M"
