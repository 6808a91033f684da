"""The schema that the lab checks by is the real one, and it can check every format in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from freehold.lab.answers import PveError
from freehold.lab.formats import FORMATS
from freehold.lab.pveschema import api, check_value, find, validate

from .make_subset import TARGET, text

SCHEMA = json.loads((Path(__file__).parent / "pve/schema.json").read_text("utf-8"))


def test_calls_of_the_lab_are_those_of_the_real_schema() -> None:
    """Every entry is taken over whole; ``make_subset.py`` writes the file."""
    assert text() == TARGET.read_text("utf-8")
    assert all(SCHEMA[key] == entry for key, entry in api()["calls"].items())


def _formats(schema: Any) -> set[str]:
    if not isinstance(schema, dict):
        return set()
    own = {schema["format"]} if isinstance(schema.get("format"), str) else set()
    return own.union(*(_formats(value) for value in schema.values()))


def test_every_format_has_a_check() -> None:
    """A format without a check would let wrong values pass."""
    for call in api()["calls"].values():
        for name in _formats(call.get("parameters")):
            bare = name.removesuffix("-list").removesuffix("-opt")
            assert name in FORMATS or bare in FORMATS or name in api()["formats"], name


@pytest.mark.parametrize(
    ("method", "path", "key"),
    [
        ("GET", "/nodes/pve/lxc/100/status/current", "GET /nodes/{node}/lxc/{vmid}/status/current"),
        ("GET", "/pools/demo", "GET /pools/{poolid}"),
        (
            "GET",
            "/nodes/pve/storage/local/content/local:vztmpl/a.tar.gz",
            "GET /nodes/{node}/storage/{storage}/content/{volume}",
        ),
        ("POST", "/cluster/firewall/groups/web", "POST /cluster/firewall/groups/{group}"),
    ],
)
def test_paths_find_their_call(method: str, path: str, key: str) -> None:
    """Fixed words win over placeholders; a volume id may hold a slash."""
    found = find(method, path)
    assert found is not None
    assert found.key == key


def test_unknown_path_finds_nothing() -> None:
    """Nothing answers it."""
    assert find("GET", "/nope") is None


def test_all_wrong_parameters_are_told_at_once() -> None:
    """As the real API does, so that a client can show them all."""
    call = api()["calls"]["POST /nodes/{node}/lxc"]
    with pytest.raises(PveError) as caught:
        validate(call, {"node": "pve", "vmid": "1", "memory": "8", "net0": "bridge=x", "foo": "1"})
    assert sorted(caught.value.errors) == ["foo", "memory", "net0", "ostemplate", "vmid"]


@pytest.mark.parametrize(("value", "good"), [("1", True), ("0", True), ("true", False), ("2", False)])
def test_booleans_at_the_top_level_are_0_and_1(value: str, good: bool) -> None:
    """Words pass in property strings only."""
    assert (check_value("onboot", {"type": "boolean"}, value) is None) is good
