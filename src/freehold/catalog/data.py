"""Reads the catalogue's own data files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from freehold.errors import FreeholdError

Entry = TypeVar("Entry", bound=BaseModel)


def one(path: Path, kind: type[Entry]) -> Entry:
    """What the whole file describes.

    Raises:
        FreeholdError: The file does not say what it must.
    """
    return _checked(path, kind, _document(path))


def entries(path: Path, kind: type[Entry], key: str) -> Mapping[str, Entry]:
    """The entries of a file by name; each learns its name as ``key``.

    Raises:
        FreeholdError: The file does not say what it must.
    """
    document = _document(path)
    return {name: _checked(path, kind, {key: name, **entry}) for name, entry in document.items()}


def _document(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def _checked(path: Path, kind: type[Entry], value: dict[str, Any]) -> Entry:
    try:
        return kind.model_validate(value)
    except ValueError as error:
        raise FreeholdError(
            f"{path.name} of the catalogue is wrong",
            doing="reading the catalogue",
            where=str(path),
            answer=str(error),
        ) from error
