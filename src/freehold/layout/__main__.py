"""Writes what is generated from types and roles: ``inventory/stack.schema.json``, ``docs/reference/{stack,services,models}.md``.

``python -m freehold.layout`` writes them in the checkout that is the working directory; with ``--check`` it writes
nothing and exits with 1 where a file is not current.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from freehold.catalog import gpus, models, services, versions
from freehold.layout import models_reference, reference, services_reference
from freehold.layout.json_schema import stack_json_schema


def generated() -> dict[Path, str]:
    """The content of each generated file by its path in the checkout."""
    schema = stack_json_schema()
    return {
        Path("inventory/stack.schema.json"): json.dumps(schema, indent=2, ensure_ascii=False) + "\n",
        Path("docs/reference/stack.md"): reference.page(schema),
        Path("docs/reference/services.md"): services_reference.page(services.load(), versions.load()),
        Path("docs/reference/models.md"): models_reference.page(models.load(), gpus.load()),
    }


def main(arguments: list[str]) -> int:
    """Writes or checks the files; the exit code."""
    stale = [
        (path, text)
        for path, text in generated().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        if "--check" in arguments:
            sys.stderr.write(f"{path} is not current: run python -m freehold.layout\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
