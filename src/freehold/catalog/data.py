"""Reads data files of the catalogue, Freehold's own and those that a client lays over them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from freehold.errors import FreeholdError

Entry = TypeVar("Entry", bound=BaseModel)


def mappings(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """The entries of a file by name, each a mapping; an empty file has none.

    Raises:
        ValueError: The file is no YAML, or holds something else.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    if not isinstance(document, dict) or not all(isinstance(entry, dict) for entry in document.values()):
        raise ValueError("an entry is not a mapping")
    return document


def entries(path: Path, kind: type[Entry], key: str) -> Mapping[str, Entry]:
    """The entries of a file of Freehold's own by name; each learns its name as ``key``.

    Raises:
        FreeholdError: The file does not say what it must.
    """
    try:
        return {name: kind.model_validate({key: name, **entry}) for name, entry in mappings(path).items()}
    except ValueError as error:
        raise _wrong(path, error) from error


def one(path: Path, kind: type[Entry]) -> Entry:
    """What a whole file of Freehold's own describes.

    Raises:
        FreeholdError: The file does not say what it must.
    """
    try:
        return kind.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValueError, yaml.YAMLError) as error:
        raise _wrong(path, error) from error


def _wrong(path: Path, error: Exception) -> FreeholdError:
    """The error for a file of Freehold's own."""
    return FreeholdError(
        f"{path.name} of the catalogue is wrong",
        doing="reading the catalogue",
        where=str(path),
        answer=str(error),
    )
