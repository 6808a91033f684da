"""The reference page of stack files, written from the same sources as the JSON schema."""

from __future__ import annotations

import json
from typing import Any

_HEAD = """# The stack file

One file describes a client: `inventory/<client>/stack.yml`. `inventory/defaults.yml` is merged under it: mappings key by
key, while lists are replaced; a key without a value (`caddy:`) leaves a mapping of the defaults as it is.
`freehold show stack CLIENT --origin` shows every value with the file and line it comes from.

Scalars follow YAML 1.2: `01:00.0` and `no` are text, and `true` and `false` are the truth values.

This page is written by `python -m freehold.layout`; edit the types or the roles instead.
"""


def page(schema: dict[str, Any]) -> str:
    """The reference page in Markdown, from :func:`freehold.layout.json_schema.stack_json_schema`."""
    definitions = schema["$defs"]
    parts = [_HEAD, "## Top level\n", _table(schema, definitions)]
    seen: set[str] = set()
    queue = _linked(schema)
    while queue:
        name = queue.pop(0)
        if name not in seen:
            seen.add(name)
            definition = definitions[name]
            parts += [
                f"## {name}\n",
                f"{definition.get('description', '')}\n",
                _table(definition, definitions),
            ]
            queue += _linked(definition)
    parts.append("## Services\n")
    for name, service in schema["properties"]["services"]["properties"].items():
        about = [f"### {name}\n", f"{service['description']}.\n"]
        parts += [*about, _table(service, definitions) if service["properties"] else "No settings.\n"]
    return "\n".join(parts)


def _table(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    required = schema.get("required", [])
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, value in schema["properties"].items():
        default = "required" if key in required else _default(value)
        about = value.get("description") or definitions.get(_target(value) or "", {}).get("description", "")
        cells = (f"`{key}`", _type(value), default, about.replace("|", "\\|").replace("\n", " "))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _default(value: dict[str, Any]) -> str:
    default = value.get("default")
    # A part's own table shows the defaults of its keys.
    return "" if default in (None, "", [], {}) or _target(value) else _code(default)


def _code(value: Any) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _target(value: dict[str, Any]) -> str | None:
    for choice in (value, *value.get("anyOf", ()), *value.get("allOf", ())):
        if "$ref" in choice:
            return str(choice["$ref"].rsplit("/", 1)[-1])
    return None


def _type(value: dict[str, Any]) -> str:
    if target := _target(value):
        return f"[{target}](#{target.lower()})"
    if "anyOf" in value:
        return " or ".join(_type(choice) for choice in value["anyOf"] if choice.get("type") != "null")
    if "enum" in value or "const" in value:
        return ", ".join(_code(choice) for choice in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        return f"list of {_type(value.get('items', {}))}"
    inner = value.get("additionalProperties")
    if patterns := value.get("patternProperties"):
        inner = next(iter(patterns.values()))
    if value.get("type") == "object" and isinstance(inner, dict):
        return f"mapping to {_type(inner)}"
    kind = value.get("type", "any")
    return str(value.get("format", kind) if isinstance(kind, str) else "mapping")


def _linked(schema: dict[str, Any]) -> list[str]:
    """Names of the definitions that a table's types lead to."""
    found = []
    for value in schema["properties"].values():
        patterns = value.get("patternProperties", {}).values()
        for inner in (value, value.get("items"), value.get("additionalProperties"), *patterns):
            if isinstance(inner, dict) and (target := _target(inner)):
                found.append(target)
    return found
