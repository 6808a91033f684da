"""What is wrong with a stack file: every problem at once, each with its line, its key and what is allowed there."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from freehold.errors import BadInputError

KeyPath = tuple[str | int, ...]
"""Place of a value in a stack file: keys of mappings and positions in lists."""

_LONGEST_VALUE = 80
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def key_text(path: KeyPath) -> str:
    """The path as a person writes it: ``hosts.vllm.gpus[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def nearest(name: object, known: Iterable[str]) -> str:
    """The known name that is most like the given one, or an empty string."""
    matches = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return matches[0] if matches else ""


def display(file: Path) -> str:
    """The file's name as short as it can be: relative to the working directory where it lies below it."""
    try:
        return str(file.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(file)


@dataclass(frozen=True)
class Origin:
    """Where a value was written."""

    file: Path
    line: int
    """Counted from 1."""

    def __str__(self) -> str:
        return f"{display(self.file)}:{self.line}"


Origins = Mapping[KeyPath, Origin]


def origin_of(path: KeyPath, origins: Origins) -> Origin | None:
    """Where the value at a path was written; for a value that was left out, its innermost part that was written."""
    for length in range(len(path), -1, -1):
        if found := origins.get(path[:length]):
            return found
    return None


_NOTHING = object()


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    path: KeyPath
    message: str
    """What is wrong, without the key and the value."""
    found: Any = _NOTHING
    """The value that was found, where there is one."""
    allowed: str = ""
    """What may stand there."""
    nearest: str = ""
    """The known name that was probably meant."""
    origin: Origin | None = None

    def located(self, origins: Origins) -> Problem:
        """The same problem with its file and line, where it has none yet."""
        return self if self.origin else replace(self, origin=origin_of(self.path, origins))

    def __str__(self) -> str:
        parts = [f"{self.origin}: " if self.origin else ""]
        parts.append(f"{key_text(self.path)}: " if self.path else "")
        parts.append(self.message)
        if self.found is not _NOTHING:
            parts.append(f", found {_shown(self.found)}")
        if self.nearest:
            parts.append(f'; did you mean "{self.nearest}"?')
        if self.allowed:
            parts.append(f" (allowed: {self.allowed})")
        return "".join(parts)


def _shown(value: Any) -> str:
    """The value in one short line; what looks like a token's secret is left out."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    text = _UUID.sub("********", text)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


class StackError(BadInputError):
    """The stack file cannot be used: ``problems`` holds all that is wrong with it. Nothing was touched."""

    def __init__(self, problems: Sequence[Problem], *, doing: str = "reading the stack file") -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        where = str(first.origin) if first.origin else key_text(first.path)
        if len(self.problems) == 1:
            message = str(replace(first, origin=None))
            super().__init__(
                message, doing=doing, where=where, remedy="Correct it and run the command again."
            )
        else:
            super().__init__(
                f"the stack file has {len(self.problems)} problems",
                doing=doing,
                where=where,
                answer="\n".join(map(str, self.problems)),
                remedy="Correct them and run the command again.",
            )
