"""Reads a client's stack: ``inventory/defaults.yml`` merged under ``inventory/<client>/stack.yml``, then validated.

Mappings merge deep, lists replace, and a key without a value (``caddy:``) leaves a mapping of the defaults as it is.
Every value keeps the file and line where it was written, so that errors and ``freehold show stack --origin`` name it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from freehold.schema.document import Document, read
from freehold.schema.explain import explain
from freehold.schema.problems import (
    KeyPath,
    Origin,
    Origins,
    Problem,
    StackError,
    display,
    key_text,
    nearest,
)
from freehold.schema.stack import Stack

STACK_FILE = "stack.yml"
DEFAULTS_FILE = "defaults.yml"


@dataclass(frozen=True)
class OriginRow:
    """One value of the whole stack and where it comes from."""

    key: str
    value: Any
    origin: str
    """``file:line``, or ``default`` where no file says it."""


@dataclass(frozen=True)
class LoadedStack:
    """A stack with the places where its values were written."""

    stack: Stack
    path: Path
    """The stack file."""
    data: dict[str, Any]
    """What the files say, merged, before defaults."""
    origins: Origins

    @property
    def directory(self) -> Path:
        """The client's folder."""
        return self.path.parent

    def rows(self) -> list[OriginRow]:
        """Every value of the stack with its origin, for ``freehold show stack --origin``."""
        return [
            OriginRow(key_text(path), value, str(self.origins.get(path, "default")))
            for path, value in _leaves(self.stack.model_dump(mode="json"), ())
        ]


def inventory() -> Path:
    """The folder with one folder per client: ``$FREEHOLD_INVENTORY``, else ``inventory`` in the working directory."""
    return Path(os.environ.get("FREEHOLD_INVENTORY") or "inventory").expanduser().absolute()


def clients() -> list[str]:
    """Names of the clients of the inventory, sorted."""
    return sorted(file.parent.name for file in inventory().glob(f"*/{STACK_FILE}"))


def stack_file(client: str | Path) -> Path:
    """The stack file of a client, given by name or by the path of its folder or file.

    Raises:
        StackError: There is no such client.
    """
    given = Path(client).expanduser()
    if isinstance(client, Path) or len(given.parts) > 1 or given.suffix in {".yml", ".yaml"}:
        file = given if given.is_file() else given / STACK_FILE
        if file.is_file():
            return file.absolute()
        raise StackError([Problem((), f"there is no stack file {display(file.absolute())}")])
    file = inventory() / client / STACK_FILE
    if file.is_file():
        return file
    known = clients()
    raise StackError(
        [
            Problem(
                (),
                f'there is no client "{client}" in {display(inventory())}',
                nearest=nearest(client, known),
                allowed=", ".join(known) or "none yet: freehold init makes one",
            )
        ],
        doing="looking for the client",
    )


def load_stack(client: str | Path) -> LoadedStack:
    """Reads and validates a client's stack, given by name or by the path of its folder or file.

    Raises:
        StackError: With all problems, each with file, line and key.
    """
    file = stack_file(client)
    defaults = file.parent.parent / DEFAULTS_FILE
    document = _mapping(file)
    if defaults.is_file():
        document = _merged(_mapping(defaults), document)
    try:
        stack = Stack.model_validate(document.data)
    except ValidationError as error:
        problems = [problem.located(document.origins) for problem in explain(error, document.data)]
        raise StackError(problems) from error
    return LoadedStack(stack=stack, path=file, data=document.data, origins=document.origins)


def _mapping(file: Path) -> Document:
    document = read(file)
    if document.data is None:
        document.data = {}
        document.origins = {(): Origin(file, 1)}
    if not isinstance(document.data, dict):
        problem = Problem((), "must hold keys and values", found=document.data, origin=Origin(file, 1))
        raise StackError([problem])
    return document


def _merged(under: Document, over: Document) -> Document:
    data = _merged_data(under.data, over.data)
    written = under.origins | over.origins
    return Document(data, {path: written[path] for path in _paths(data, ())})


def _merged_data(under: Any, over: Any) -> Any:
    if isinstance(under, dict) and isinstance(over, dict):
        added = {key: value for key, value in over.items() if key not in under}
        return {key: _merged_data(value, over.get(key, value)) for key, value in under.items()} | added
    return under if isinstance(under, dict) and over is None else over


def _paths(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _paths(item, (*path, key))


def _leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for position, item in enumerate(value):
            yield from _leaves(item, (*path, position))
    else:
        yield path, value
