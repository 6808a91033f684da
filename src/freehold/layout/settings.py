"""Settings of services in a stack file, held against the options of their roles (``meta/argument_specs.yml``).

A setting is written by its short key: ``services: {caddy: {log_days: 7}}`` is the role's option ``caddy_log_days``.
Types and fields are Ansible's: https://docs.ansible.com/ansible/latest/dev_guide/developing_program_flow_modules.html#argument-spec
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from freehold.schema.problems import KeyPath, Problem, nearest

Options = Mapping[str, Mapping[str, Any]]

_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "text"),
    "path": ((str,), "a path"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
    "list": ((list,), "a list"),
    "dict": ((dict,), "keys and values"),
    "raw": ((object,), "anything"),
}


def short_options(service: str, options: Options) -> dict[str, Mapping[str, Any]]:
    """The role's options by short key, without the service's prefix."""
    prefix = f"{service.replace('-', '_')}_"
    return {name.removeprefix(prefix): option for name, option in options.items() if name.startswith(prefix)}


def check(settings: Mapping[str, Any], options: Options, path: KeyPath) -> Iterable[Problem]:
    """What is wrong with the settings at a path; options that are required are not looked for."""
    for key, value in settings.items():
        if key in options:
            yield from _value(value, options[key], (*path, key))
        else:
            yield Problem(
                (*path, key),
                "unknown setting",
                nearest=nearest(key, options),
                allowed=", ".join(sorted(options)) or "no settings at all",
            )


def missing(settings: Mapping[str, Any], options: Options, path: KeyPath) -> Iterable[Problem]:
    """The options that are required and have no value."""
    for key, option in options.items():
        if option.get("required") and settings.get(key) is None:
            yield Problem((*path, key), "is missing", allowed=describe(option))


def describe(option: Mapping[str, Any]) -> str:
    """What may stand there, in one line."""
    if choices := option.get("choices"):
        return ", ".join(map(str, choices))
    text = option.get("description", "")
    sentence = " ".join(text) if isinstance(text, list) else str(text)
    kind = _TYPES[option.get("type", "str")][1]
    return f"{kind}; {sentence}".rstrip("; .\n") if sentence else kind


def defaults(options: Options) -> dict[str, Any]:
    """Values of the options that a client leaves out, as far as they are plain values and no templates."""
    return {
        key: option["default"]
        for key, option in options.items()
        if option.get("default") is not None and "{{" not in str(option["default"])
    }


def _value(value: Any, option: Mapping[str, Any], path: KeyPath) -> Iterable[Problem]:
    kind = option.get("type", "str")
    types, words = _TYPES[kind]
    if value is None:
        if option.get("required"):
            yield Problem(path, "must have a value", allowed=describe(option))
        return
    wrong_bool = isinstance(value, bool) and kind not in {"bool", "raw"}
    if wrong_bool or not isinstance(value, types):
        hint = f'; write it in quotes: "{value}"' if kind == "str" and isinstance(value, int | float) else ""
        yield Problem(path, f"must be {words}", found=value, allowed=describe(option) + hint)
    elif isinstance(value, list):
        element = {"type": option.get("elements", "raw"), "options": option.get("options", {})}
        element |= {"choices": option["choices"]} if option.get("choices") else {}
        for position, item in enumerate(value):
            yield from _value(item, element, (*path, position))
    elif isinstance(value, dict):
        if nested := option.get("options"):
            yield from check(value, nested, path)
            yield from missing(value, nested, path)
    elif option.get("choices") and value not in option["choices"]:
        choices = [str(choice) for choice in option["choices"]]
        yield Problem(
            path,
            "is not one of the choices",
            found=value,
            nearest=nearest(value, choices),
            allowed=", ".join(choices),
        )
