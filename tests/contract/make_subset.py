"""Write ``src/freehold/lab/pve-api.json``: the schema of the calls that the lab answers, from the whole schema.

Run ``python tests/contract/make_subset.py`` after a handler was added; ``test_lab_schema.py`` fails until then.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import freehold.lab.api.calls  # noqa: F401 - registers the handlers
from freehold.lab.api.routes import HANDLERS

HERE = Path(__file__).parent
TARGET = HERE.parents[1] / "src/freehold/lab/pve-api.json"


def subset() -> dict[str, Any]:
    """Calls by ``"METHOD path"`` and the named formats that are property strings, as the real server has them."""
    schema = json.loads((HERE / "pve/schema.json").read_text("utf-8"))
    formats = json.loads((HERE / "pve/formats.json").read_text("utf-8"))
    calls = {key: schema[key] for key in sorted(HANDLERS)}
    named = {name for call in calls.values() for name in _formats(call.get("parameters"))}
    parts = {
        name: formats[name] for name in sorted(named) if name in formats and "verifier" not in formats[name]
    }
    return {"calls": calls, "formats": parts}


def _formats(schema: Any) -> set[str]:
    found: set[str] = set()
    if isinstance(schema, dict):
        if isinstance(schema.get("format"), str):
            found.add(schema["format"])
        for value in schema.values():
            found |= _formats(value)
    return found


def text() -> str:
    """The file's content, one call a line."""
    parts = []
    for name, entries in subset().items():
        lines = [
            f"{json.dumps(key)}: {json.dumps(entries[key], ensure_ascii=False, sort_keys=True)}"
            for key in entries
        ]
        parts.append(f'"{name}": {{\n' + ",\n".join(lines) + "\n}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
