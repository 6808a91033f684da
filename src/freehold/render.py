"""One renderer of configuration files for both engines, so that a file never depends on who writes it.

The settings are those of Ansible's ``template`` action (``trim_blocks`` on, ``lstrip_blocks`` off, the last newline
kept), with one difference: a name that is not defined is an error, always.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, meta

from freehold import resources
from freehold.errors import FreeholdError


class RenderError(FreeholdError):
    """A template cannot be rendered with the variables it was given."""


@cache
def _environment(root: Path) -> Environment:
    return Environment(
        loader=FileSystemLoader(root),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - configuration files, not HTML; the landing page escapes by itself
    )


def render(template: str, variables: Mapping[str, Any], root: Path | None = None) -> str:
    """The text of ``template``, a path below ``templates/`` such as ``caddy/Caddyfile.j2``.

    Raises:
        RenderError: The template does not exist, is not valid Jinja, or uses a name that ``variables`` lacks.
    """
    try:
        return _environment(root or resources.templates()).get_template(template).render(variables)
    except TemplateError as error:
        line = getattr(error, "lineno", None) or _line(error, template)
        raise RenderError(
            f"The template {template} cannot be rendered",
            doing="rendering a configuration file",
            where=f"{template}:{line}" if line else template,
            answer=f"{type(error).__name__}: {error}",
            remedy="Correct the template, or give the role the variable that it names.",
        ) from error


def _line(error: BaseException, template: str) -> int | None:
    """The innermost line of ``template`` in the traceback, where Jinja puts it."""
    line, traceback = None, error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename.endswith(template):
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def names(template: str, root: Path | None = None) -> frozenset[str]:
    """The variables that ``template`` and what it includes by a fixed name ask for.

    Raises:
        RenderError: The template does not exist or is not valid Jinja.
    """
    environment = _environment(root or resources.templates())
    seen: set[str] = set()
    wanted: set[str] = set()
    pending = [template]
    try:
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            assert environment.loader is not None
            tree = environment.parse(environment.loader.get_source(environment, name)[0])
            wanted |= meta.find_undeclared_variables(tree)
            pending.extend(found for found in meta.find_referenced_templates(tree) if found)
    except TemplateError as error:
        raise RenderError(
            f"The template {template} cannot be read",
            where=template,
            answer=f"{type(error).__name__}: {error}",
        ) from error
    return frozenset(wanted)
