"""Checks parameters against the schema of Proxmox VE (part of a stand-in of Proxmox VE, for development).

A port of ``PVE::JSONSchema`` (``check_prop``, ``check_object``, ``check_format``, ``parse_property_string``): same rules,
same order, same texts. The schema itself is data of the real server, in ``pve-api.json`` beside this file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from freehold.lab.answers import PveError, bad_parameters
from freehold.lab.formats import FORMATS, FormatError, split_list

Schema = Mapping[str, Any]

INDEXED = {"net": 32, "mp": 256, "dev": 256, "unused": 256}
"""How many of each indexed key of a container exist (``PVE::LXC::Config``: MAX_LXC_NETWORKS and others)."""

_UNKNOWN = "property is not defined in schema and the schema does not allow additional properties"


@dataclass(frozen=True)
class Endpoint:
    """One call of the API: its schema and the values that the path gives."""

    key: str
    schema: Schema
    path_params: Mapping[str, str]


@cache
def api() -> dict[str, Any]:
    """``{"calls": {"METHOD path": schema}, "formats": {name: properties}}``."""
    text = resources.files("freehold.lab").joinpath("pve-api.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@cache
def _routes() -> dict[tuple[str, int], list[tuple[str, list[str]]]]:
    table: dict[tuple[str, int], list[tuple[str, list[str]]]] = {}
    for key in api()["calls"]:
        method, path = key.split(" ", 1)
        parts = [part for part in path.split("/") if part]
        table.setdefault((method, len(parts)), []).append((key, parts))
    return table


def find(method: str, path: str) -> Endpoint | None:
    """The call that answers ``path`` (below ``/api2/json``); fixed words win over placeholders.

    A volume id may hold slashes: the rest of the path belongs to it.
    """
    parts = [part for part in path.split("/") if part]
    if len(parts) > 6 and parts[2:3] == ["storage"] and parts[4] == "content":
        parts = [*parts[:5], "/".join(parts[5:])]
    best: tuple[int, str, dict[str, str]] | None = None
    for key, pattern in _routes().get((method, len(parts)), []):
        values: dict[str, str] = {}
        for word, part in zip(pattern, parts, strict=True):
            if word.startswith("{"):
                values[word[1:-1]] = part
            elif word != part:
                break
        else:
            if best is None or len(values) < best[0]:
                best = (len(values), key, values)
    if best is None:
        return None
    return Endpoint(best[1], api()["calls"][best[1]], best[2])


def property_of(properties: Schema, name: str) -> Schema | None:
    """The schema of one parameter, indexed names (``net0``) included."""
    if name in properties and not name.endswith("[n]"):
        found: Schema = properties[name]
        return found
    match = re.fullmatch(r"([a-z]+)(0|[1-9]\d*)", name)
    if match and f"{match[1]}[n]" in properties and int(match[2]) < INDEXED.get(match[1], 0):
        indexed: Schema = properties[f"{match[1]}[n]"]
        return indexed
    return None


def validate(schema: Schema, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a call after the check, every value a string.

    Raises:
        PveError: 400 with a text for each wrong parameter.
    """
    definition = schema.get("parameters") or {}
    properties = definition.get("properties") or {}
    clean = {name: _plain(value) for name, value in params.items()}
    errors = check_object("", properties, clean, additional=bool(definition.get("additionalProperties", 1)))
    if errors:
        raise bad_parameters(errors)
    return clean


def _plain(value: Any) -> Any:
    if value is True or value is False:
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    return value


def check_object(
    path: str, properties: Schema, values: Mapping[str, Any], *, additional: bool
) -> dict[str, str]:
    """All errors of an object by property path; ``path`` is empty at the top level."""
    errors: dict[str, str] = {}

    def add(name: str, text: str) -> None:
        where = f"{path}.{name}" if path else name
        errors[where] = f"{errors[where]}\\n{text}" if where in errors else text

    for name, definition in properties.items():
        if name.endswith("[n]") or definition.get("alias"):
            continue
        if values.get(name) is None and not int(definition.get("optional") or 0):
            add(name, "property is missing and it is not optional")
    for name, value in values.items():
        definition_or_none = property_of(properties, name)
        if definition_or_none is None:
            if not additional:
                add(name, _UNKNOWN)
            continue
        if value is not None:
            text = check_value(f"{path}.{name}" if path else name, definition_or_none, value)
            if text:
                add(name, text)
        requires = definition_or_none.get("requires")
        if requires and values.get(requires) is None:
            add(requires, f"missing property required by '{name}'")
    return errors


def check_value(path: str, definition: Schema, value: Any) -> str | None:
    """What is wrong with one value, or ``None``."""
    kind = definition.get("type", "string")
    text = _check_type(kind, value)
    if text or not isinstance(value, str):
        return text
    if named := definition.get("format"):
        try:
            check_format(named, value, path)
        except FormatError as error:
            # the verifiers die with a line break, which nested formats add once more
            return f"invalid format - {error}\n"
        # the real check goes on with the limits of lengths and numbers after a format
    if pattern := definition.get("pattern"):
        if not re.fullmatch(_perl(pattern), value):
            return "value does not match the regex pattern"
        return None
    if (longest := definition.get("maxLength")) is not None and len(value) > int(longest):
        return f"value may only be {longest} characters long"
    if (shortest := definition.get("minLength")) is not None and len(value) < int(shortest):
        return f"value must be at least {shortest} characters long"
    if re.fullmatch(r"[+-]?\d+(\.\d+)?", value):
        if (top := definition.get("maximum")) is not None and float(value) > float(top):
            return f"value must have a maximum value of {top}"
        if (low := definition.get("minimum")) is not None and float(value) < float(low):
            return f"value must have a minimum value of {low}"
    if (allowed := definition.get("enum")) and value not in allowed:
        return f"value '{value}' does not have a value in the enumeration '{', '.join(allowed)}'"
    return None


def _check_type(kind: str, value: Any) -> str | None:
    if isinstance(value, list):
        return None if kind == "array" else f"type check ('{kind}') failed - got ARRAY"
    fits = {
        "integer": r"[+-]?\d+",
        "number": r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?",
        "boolean": r"[01]",
    }.get(kind)
    if fits and not re.fullmatch(fits, str(value)):
        return f"type check ('{kind}') failed - got '{value}'"
    return None


@cache
def _perl(pattern: str) -> str:
    """A Perl expression as Python's ``re`` reads it: ``(?^:...)`` becomes ``(?:...)``; it matches at the beginning."""
    return pattern.replace("(?^u:", "(?:").replace("(?^:", "(?:")


def check_format(named: Any, value: str, path: str) -> None:
    """Check one value against a format: a name, a name with ``-list`` or ``-opt``, or the parts of a property string."""
    if isinstance(named, Mapping):
        parse_property_string(named, value, path)
        return
    parts = api()["formats"].get(named)
    if parts:
        parse_property_string(parts, value, path)
        return
    if named.endswith("-list") and named not in FORMATS:
        for item in split_list(value):
            FORMATS[named.removesuffix("-list")](item)
        return
    if named.endswith("-opt") and named not in FORMATS:
        if value:
            FORMATS[named.removesuffix("-opt")](value)
        return
    FORMATS[named](value)


_BOOLEANS = {"1": "1", "on": "1", "yes": "1", "true": "1", "0": "0", "off": "0", "no": "0", "false": "0"}


def parse_property_string(properties: Schema, text: str, path: str = "") -> dict[str, str]:
    """``name=eth0,bridge=vmbr0`` as a mapping; booleans become 0 and 1.

    Raises:
        FormatError: With all texts of the parts, as ``PVE::Exception`` prints them.
    """
    result = split_property_string(properties, text)
    errors = check_object(path, properties, result, additional=False)
    if errors:
        raise PropertyError(errors)
    return result


class PropertyError(FormatError):
    """Parts of a property string are wrong."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__(
            "format error\n" + "\n".join(f"{name}: {text}" for name, text in sorted(errors.items()))
        )
        self.errors = dict(errors)

    def as_answer(self) -> PveError:
        """The answer where the real code does not catch it: status 500 with the errors of the parts."""
        return PveError(500, "format error\n", self.errors)


def split_property_string(properties: Schema, text: str) -> dict[str, str]:
    """The parts of a property string without the check of their values."""
    default = next((name for name, part in properties.items() if part.get("default_key")), None)
    result: dict[str, str] = {}
    for part in text.split(","):
        if not part.strip():
            continue
        name, sign, value = part.partition("=")
        if not sign:
            if default is None:
                raise FormatError("value without key, but schema does not define a default key")
            name, value = default, part
        elif not name or not value:
            raise FormatError("missing key in comma-separated list property")
        if name in result:
            raise FormatError(f"duplicate key in comma-separated list property: {name}")
        definition = properties.get(name, {})
        if definition.get("type") == "boolean":
            value = _BOOLEANS.get(value.lower(), value)
        result[name] = value
    return result
