"""The JSON schema of stack files, and the sample files that point to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from freehold.catalog import services as catalog
from freehold.layout.__main__ import generated
from freehold.layout.compute import of_stack
from freehold.layout.json_schema import stack_json_schema
from freehold.schema.load import load_stack

CHECKOUT = Path(__file__).parents[3]
ROLES = Path(__file__).parents[1] / "data" / "roles"
SAMPLES = sorted((CHECKOUT / "inventory").glob("*/stack.yml"))

SMALL: dict[str, Any] = {
    "client": "acme",
    "domain": "acme.internal",
    "proxmox": {"endpoint": "https://pve:8006"},
    "network": {"subnet": "10.20.0.0/24"},
}


def accepts(changes: dict[str, Any]) -> bool:
    validator = jsonschema.Draft202012Validator(stack_json_schema(ROLES))
    return bool(validator.is_valid(SMALL | changes))


def test_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(stack_json_schema(ROLES))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"services": {"caddy": None}},
        {"services": {"caddy": {"log_days": 3, "tls": "acme", "headers": {"x": 1}}}},
        {"services": {"postgres": {"extra": [{"user": "ada"}]}}},
        {"hosts": {"caddy": {"memory": 1024}}},
    ],
)
def test_accepts(changes: dict[str, Any]) -> None:
    assert accepts(changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"clinet": "x"},
        {"services": {"nobody": None}},
        {"services": {"caddy": {"log_day": 3}}},
        {"services": {"caddy": {"log_days": "three"}}},
        {"services": {"caddy": {"tls": "none"}}},
        {"services": {"postgres": {"extra": [{"days": 1}]}}},
        {"hosts": {"caddy": {"memory": 1}}},
    ],
)
def test_refuses(changes: dict[str, Any]) -> None:
    assert not accepts(changes)


def test_computed_settings_say_so() -> None:
    option = stack_json_schema(ROLES)["properties"]["services"]["properties"]["postgres"]["properties"][
        "listen"
    ]
    assert option["description"] == "Address. Computed from the stack when left out."


def test_generated_files_are_current() -> None:
    for path, text in generated().items():
        assert (CHECKOUT / path).read_text(encoding="utf-8") == text, "run: python -m freehold.layout"


def test_there_are_samples() -> None:
    assert {path.parent.name for path in SAMPLES} >= {"lab", "example-law-firm"}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.parent.name)
def test_sample(sample: Path) -> None:
    text = sample.read_text(encoding="utf-8")
    schema = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    document = json.loads((sample.parent / schema).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(document).validate(yaml.safe_load(text))
    loaded = load_stack(sample)
    assert loaded.stack.client == sample.parent.name
    assert of_stack(loaded).hosts


@pytest.mark.parametrize("client", ["lab", "example-law-firm"])
def test_samples_show_every_service(client: str) -> None:
    loaded = load_stack(CHECKOUT / "inventory" / client / "stack.yml")
    # SGLang stands where vLLM stands; the samples show vLLM.
    assert {service.name for service in of_stack(loaded).services} == set(catalog.load()) - {"sglang"}
