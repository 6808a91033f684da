"""What a mirror holds, in its file ``freehold.json``: which need is met by which files, with size and SHA-256."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from freehold.errors import BadInputError
from freehold.mirror.fetch import put

NAME = "freehold.json"


class Entry(BaseModel):
    """A file of the mirror."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    sha256: str


class Met(BaseModel):
    """A need that the mirror meets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    files: tuple[str, ...]


class Index(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    format: int = 1
    built: datetime = Field(default_factory=lambda: datetime.now(UTC))
    needs: dict[str, Met] = {}
    files: dict[str, Entry] = {}

    @classmethod
    def read(cls, root: Path) -> Index:
        """The index of a mirror; an empty one where there is none.

        Raises:
            BadInputError: The file is no index.
        """
        path = root / NAME
        if not path.is_file():
            return cls()
        return cls.parse(path.read_bytes(), str(path))

    @classmethod
    def parse(cls, text: bytes, where: str) -> Index:
        """An index from its text.

        Raises:
            BadInputError: It is none.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise BadInputError(
                "This is not the index of a mirror that this Freehold can read",
                where=where,
                answer=str(error.errors()[0]["msg"]),
                remedy="Fill the mirror with this version of Freehold: freehold mirror build",
            ) from error

    def write(self, root: Path) -> None:
        """Put the index in place, whole."""
        put(root / NAME, json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n")

    def meets(self, root: Path, key: str) -> bool:
        """Whether a need is met, and its files are there with their sizes."""
        met = self.needs.get(key)
        return met is not None and all(self.has(root, path) for path in met.files)

    def has(self, root: Path, path: str) -> bool:
        """Whether a file is there with the size that it should have."""
        entry = self.files.get(path)
        try:
            return entry is not None and (root / path).stat().st_size == entry.size
        except FileNotFoundError:
            return False

    def drop(self, paths: Iterable[str]) -> None:
        """Forget files that are there no more, and the needs that they met."""
        gone = set(paths)
        self.files = {path: entry for path, entry in self.files.items() if path not in gone}
        self.needs = {key: met for key, met in self.needs.items() if gone.isdisjoint(met.files)}

    def keep(self, keys: Iterable[str]) -> list[str]:
        """Forget all needs but these; paths of files that nothing needs any more."""
        wanted = set(keys)
        self.needs = {key: met for key, met in self.needs.items() if key in wanted}
        used = {path for met in self.needs.values() for path in met.files}
        gone = sorted(set(self.files) - used)
        self.files = {path: entry for path, entry in self.files.items() if path in used}
        return gone
