"""The JSON schema of stack files, for completion and checks in editors.

It is put together from the types of ``schema`` and from the options of every role, so that a new service appears in it by
being there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freehold.catalog import services as catalog_of
from freehold.catalog.services import ServiceMeta
from freehold.layout import settings
from freehold.schema.stack import Stack

_TYPES = {
    "str": "string",
    "path": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}


def stack_json_schema(roles: Path | None = None) -> dict[str, Any]:
    """The schema (draft 2020-12) of a client's ``stack.yml``.

    Raises:
        FreeholdError: A role describes its service or its options wrongly.
    """
    schema = Stack.model_json_schema()
    services = schema["properties"]["services"]
    services.pop("patternProperties", None)
    services["additionalProperties"] = False
    services["properties"] = {
        name: _service(meta, catalog_of.argument_specs(name, roles))
        for name, meta in catalog_of.load(roles).items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Freehold stack file",
        **{key: value for key, value in _plain(schema).items() if key != "title"},
    }


def _service(meta: ServiceMeta, options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    known = settings.short_options(meta.name, options)
    found = {"description": meta.title, **_object(known, required=False), "type": ["object", "null"]}
    for key in meta.variables.keys() & known.keys():
        option = found["properties"][key]
        about = str(option.get("description", "")).rstrip(". ")
        option["description"] = f"{about}. Computed from the stack when left out.".removeprefix(". ")
        option.pop("default", None)
    return found


def _object(options: Mapping[str, Mapping[str, Any]], *, required: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {key: _option(option) for key, option in options.items()},
    }
    # What a service must have may come from the layout, so that only nested keys are required of a client.
    names = [key for key, option in options.items() if option.get("required")]
    return {**found, "required": names} if required and names else found


def _option(option: Mapping[str, Any]) -> dict[str, Any]:
    kind = option.get("type", "str")
    found: dict[str, Any] = {}
    if about := option.get("description"):
        found["description"] = " ".join(about) if isinstance(about, list) else str(about)
    if kind == "list":
        element = {"type": option.get("elements", "raw"), "options": option.get("options")}
        element |= {"choices": option["choices"]} if option.get("choices") else {}
        found |= {"type": "array", "items": _option(element)}
    elif kind == "dict" and option.get("options"):
        found |= _object(option["options"], required=True)
    elif kind in _TYPES:
        found["type"] = _TYPES[kind]
        if option.get("choices"):
            found["enum"] = list(option["choices"])
    if option.get("default") is not None and "{{" not in str(option["default"]):
        found["default"] = option["default"]
    return found


def _plain(value: Any) -> Any:
    """Without the markup of docstrings, which an editor would show as it is."""
    if isinstance(value, dict):
        return {
            key: item.replace("``", "`") if key == "description" and isinstance(item, str) else _plain(item)
            for key, item in value.items()
        }
    return [_plain(item) for item in value] if isinstance(value, list) else value
