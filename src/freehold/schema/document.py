"""Reads one YAML file into plain data with the line of every value.

Scalars follow the YAML 1.2 core schema: a PCI address such as ``01:00.0``, the language ``no`` or a mode such as
``0640`` stays the text that it is, where YAML 1.1 makes a number or a truth value of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from freehold.schema.problems import KeyPath, Origin, Problem, StackError


class _Loader(yaml.SafeLoader):
    """A safe loader with the scalars of YAML 1.2."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    ("float", r"^[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$", "-+0123456789"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("merge", r"^<<$", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


@dataclass
class Document:
    """Plain data and where each of its values was written."""

    data: Any
    origins: dict[KeyPath, Origin]


def read(file: Path) -> Document:
    """Reads a YAML file.

    Raises:
        StackError: The file is missing, unreadable, no YAML, or says a key twice.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise StackError([Problem((), f"cannot be read: {reason}", origin=Origin(file, 1))]) from error
    reader = _Reader(file)
    try:
        data = reader.document(text)
    except yaml.MarkedYAMLError as error:
        raise StackError([_syntax_problem(file, error)]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = Problem((), f"is not YAML: {error.reason}", origin=Origin(file, line))
        raise StackError([problem]) from error
    if reader.problems:
        raise StackError(reader.problems)
    return Document(data, reader.origins)


def _syntax_problem(file: Path, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    message = "is not YAML: " + ", ".join(filter(None, (error.problem, error.context)))
    if error.problem and r"'\t'" in error.problem:
        message = "is not YAML: a tab stands where spaces must indent the line"
    if error.problem and "could not determine a constructor" in error.problem:
        message = (
            "holds a YAML tag such as !vault: secrets belong in secrets.yml, and other tags are not known"
        )
    return Problem((), message, origin=Origin(file, line))


class _Reader:
    loader: _Loader

    def __init__(self, file: Path) -> None:
        self.file = file
        self.origins: dict[KeyPath, Origin] = {}
        self.problems: list[Problem] = []
        self._open: list[yaml.Node] = []

    def document(self, text: str) -> Any:
        self.loader = _Loader(text)
        node = self.loader.get_single_node()
        return self.value(node, ()) if node else None

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.origins.setdefault(path, Origin(self.file, node.start_mark.line + 1))
        if any(node is other for other in self._open):
            raise yaml.constructor.ConstructorError(None, None, "an alias contains itself", node.start_mark)
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, position)) for position, item in enumerate(node.value)]
            return self.loader.construct_object(node)
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key.start_mark)
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                self.problems.append(
                    Problem(
                        (*path, key.value),
                        f"is given twice: the first stands in line {seen[key.value]}",
                        origin=Origin(self.file, line),
                    )
                )
            seen[key.value] = line
        self.loader.flatten_mapping(node)
        data: dict[str, Any] = {}
        for key, item in {key.value: (key, item) for key, item in node.value}.values():
            place = (*path, key.value)
            self.origins[place] = Origin(self.file, key.start_mark.line + 1)
            data[key.value] = self.value(item, place)
        return data
