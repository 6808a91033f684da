"""Reads small YAML files of a client's folder, other than the stack file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from freehold.errors import BadInputError

Told = TypeVar("Told")


def read(
    path: Path,
    kind: TypeAdapter[Told],
    wrong: type[BadInputError],
    message: str,
    remedy: str,
    empty: Any = None,
) -> Told:
    """What a file says, checked.

    Args:
        path: The file.
        kind: What it must hold.
        wrong: The error where it does not.
        message: What then went wrong, in one sentence.
        remedy: What to do then.
        empty: What an empty file says.

    Raises:
        BadInputError: The file is no YAML, or holds something else.
    """
    try:
        return kind.validate_python(yaml.safe_load(path.read_text(encoding="utf-8")) or empty)
    except (yaml.YAMLError, ValidationError) as error:
        raise wrong(message, where=str(path), answer=str(error), remedy=remedy) from error
