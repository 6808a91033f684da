"""Turns what pydantic says of a stack into problems that a person can act upon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from freehold.schema.problems import KeyPath, Problem, nearest
from freehold.schema.stack import Stack

_WORDS = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "dict_type": "must hold keys and values",
    "model_type": "must hold keys and values",
    "model_attributes_type": "must hold keys and values",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "path_type": "must be a path",
    "ip_v4_address": "must be an IPv4 address",
    "ip_v4_network": "must be an IPv4 network",
    "string_too_short": "must not be empty",
    "greater_than": "is too small",
    "greater_than_equal": "is too small",
    "less_than": "is too large",
    "less_than_equal": "is too large",
    "literal_error": "is not a known value",
    "string_pattern_mismatch": "is not of the form that belongs here",
}


def explain(error: ValidationError, data: Any) -> list[Problem]:
    """One problem for each place at which the data does not fit the stack's types, in the order of the file."""
    schema = Stack.model_json_schema()
    problems: dict[KeyPath, Problem] = {}
    for detail in error.errors(include_url=False):
        path = _path(detail["loc"], data, missing=detail["type"] == "missing")
        if _of_another_type(detail, path, data):
            continue
        problem = _problem(detail, path, data, schema)
        if path in problems and problem.message not in problems[path].message:
            problem = replace(
                problem, message=f"{problems[path].message} or {problem.message.removeprefix('must be ')}"
            )
        problems[path] = problem
    return list(problems.values())


def _problem(detail: ErrorDetails, path: KeyPath, data: Any, schema: dict[str, Any]) -> Problem:
    kind = detail["type"]
    if kind == "missing":
        about = subschema(schema, path).get("description", "")
        return Problem(path, "is missing", allowed=_sentence(about))
    if kind == "extra_forbidden":
        known = sorted(subschema(schema, path[:-1], holds=True).get("properties", {}))
        return Problem(path, "unknown key", nearest=nearest(path[-1], known), allowed=", ".join(known))
    if "[key]" in detail["loc"]:
        ids = path[:1] == ("models",)
        return Problem(
            path,
            "is not an id of a language model" if ids else "is not a name",
            allowed=_ID if ids else _NAME,
        )
    found = _at(data, path)
    message = _WORDS.get(kind, detail["msg"].removeprefix("Value error, "))
    if kind == "value_error" and isinstance(found, Mapping):
        return Problem(path, message)
    allowed = _allowed(subschema(schema, path))
    suggestion = nearest(found, allowed.split(", ")) if kind == "literal_error" else ""
    if kind == "ip_v4_network" and isinstance(found, str):
        suggestion = _network(found)
    return Problem(path, message, found=found, allowed=allowed, nearest=suggestion)


_NAME = "lower-case letters, digits and hyphens, 2 to 32 characters, a letter first and no hyphen last"
_ID = "lower-case letters, digits, dots and hyphens, such as qwen3-8b: `freehold models list`, not the name at the hub"


def _of_another_type(detail: ErrorDetails, path: KeyPath, data: Any) -> bool:
    """Whether it says of keys and values that they are no text or number, where keys and values may stand as well."""
    simple = detail["type"] in {"string_type", "int_type"}
    return simple and isinstance(_at(data, path), Mapping) and detail["loc"][-1] in {"str", "int"}


def _path(location: tuple[str | int, ...], data: Any, *, missing: bool) -> KeyPath:
    """The location without the parts that name a member of a union or say ``[key]``."""
    path: list[str | int] = []
    for part in location:
        inside = isinstance(data, Mapping) and part in data
        inside = inside or (isinstance(data, list) and isinstance(part, int) and part < len(data))
        if not inside:
            if missing and part == location[-1]:
                path.append(part)
            continue
        path.append(part)
        data = data[part]
    return tuple(path)


def _at(data: Any, path: KeyPath) -> Any:
    for part in path:
        data = data[part]
    return data


def _network(text: str) -> str:
    try:
        return str(IPv4Network(text, strict=False))
    except ValueError:
        return ""


def subschema(schema: dict[str, Any], path: KeyPath, *, holds: bool = False) -> dict[str, Any]:
    """The part of a JSON schema that describes the value at a path; empty where nothing does.

    Args:
        schema: The whole.
        path: Place of the value.
        holds: Whether the value holds keys and values, where it may be something else as well.
    """
    here = _resolved(schema, schema)
    for number, part in enumerate(path, start=1):
        if isinstance(part, int):
            here = here.get("items", {})
        else:
            open_values = here.get("additionalProperties")
            fallback = open_values if isinstance(open_values, dict) else {}
            patterns = [*here.get("patternProperties", {}).values(), fallback]
            here = here.get("properties", {}).get(part) or patterns[0]
        here = _resolved(here, schema, holds=holds or number < len(path))
    return here


def _resolved(here: dict[str, Any], schema: dict[str, Any], *, holds: bool = False) -> dict[str, Any]:
    own: dict[str, Any] = {key: value for key, value in here.items() if key not in {"$ref", "anyOf"}}
    choices = [here, *here.get("anyOf", [])]
    if holds:  # only what holds keys and values has something below it
        choices.sort(key=lambda choice: "$ref" not in choice)
    for choice in choices:
        if "$ref" in choice:
            return {**schema["$defs"][choice["$ref"].rsplit("/", 1)[-1]], **own}
        if choice is not here and choice.get("type") != "null":
            return {**choice, **own}
    return own


def _allowed(schema: dict[str, Any]) -> str:
    if choices := schema.get("enum"):
        return ", ".join(map(str, choices))
    if "const" in schema:
        return str(schema["const"])
    bounds = [
        f"{word} {schema[key]}"
        for key, word in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "more than"),
            ("maximum", "at most"),
        )
        if key in schema
    ]
    return " and ".join(bounds) or _sentence(schema.get("description", ""))


def _sentence(description: str) -> str:
    return description.replace("``", "").rstrip(".")
