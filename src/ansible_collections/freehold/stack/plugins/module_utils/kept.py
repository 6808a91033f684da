"""Small JSON files of Freehold on a host, which root alone reads: they are replaced whole, or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def read(path: Path) -> Any:
    """What the file holds; None where there is none.

    Raises:
        ValueError: It is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def write(path: Path, content: Any, *, folder_mode: int = 0o700) -> None:
    """Replace the file, mode 0600; its folder is made where there is none."""
    path.parent.mkdir(mode=folder_mode, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    # Of a run that was killed; opened anew, nobody else can read it for a moment.
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(content, stream, indent=1, sort_keys=True)
            stream.write("\n")
        new.replace(path)
    except BaseException:
        new.unlink()
        raise
