"""Every text of a request, wherever it stands; what cannot be read is said so and never passed over.

Form of messages: https://platform.openai.com/docs/api-reference/chat/create.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .markers import marked

_MESSAGE = frozenset(
    {"role", "content", "name", "tool_calls", "tool_call_id", "function_call", "refusal", "reasoning_content"}
)
"""Parts of a message whose texts are known to be found here."""

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

FREE_TEXT = ("tools", "tool_choice", "response_format", "stop", "prompt", "functions", "function_call")
"""Parts of a request beside its messages that hold text of the caller's own."""

SETTINGS = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning_effort",
        "seed",
        "stream",
        "stream_options",
        "temperature",
        "top_logprobs",
        "top_p",
    }
)
"""Parts of a request that are numbers, words of a few, or yes and no. Whatever else stands in their place is read."""

_DIGITS = 9
"""From as many digits on, a number may be more than a setting."""


class UnknownContentError(Exception):
    """A part of a request that is not known, and so not read; its kind is the message, never its content."""


def texts(messages: Any) -> list[str]:
    """All texts of a conversation, in order, of every role: content, names, calls of tools and their results.

    Raises:
        UnknownContentError: A part that is not known.
    """
    return [text for message in _messages(messages) for text in _of_message(message)]


def kinds(messages: Any) -> frozenset[str]:
    """What a conversation holds beside people's words: any of ``images``, ``attachments`` and ``context``.

    Raises:
        UnknownContentError: A part that is not known.
    """
    found: set[str] = set()
    for message in _messages(messages):
        if message["role"] in {"tool", "function"}:
            found.add("context")
        for part in _parts(message.get("content")):
            found |= {"image_url": {"images"}, "file": {"attachments"}}.get(part["type"], set())
        for text in _of_message(message):
            found |= marked(text)
    return frozenset(found)


def others(parameters: Mapping[str, Any]) -> list[str]:
    """The texts of a request beside its messages.

    Raises:
        UnknownContentError: A tool that the provider would run itself, such as a search of the web.
    """
    tools = parameters.get("tools") or []
    if not isinstance(tools, list):
        raise UnknownContentError("tools")
    for tool in tools:
        if not isinstance(tool, Mapping) or tool.get("type") != "function":
            raise UnknownContentError("tool")
    found = [text for key in FREE_TEXT if parameters.get(key) for text in _strings(parameters[key])]
    for key in sorted(SETTINGS):
        found += _of_setting(parameters.get(key))
    return found


def _of_setting(value: Any) -> list[str]:
    if isinstance(value, int | float) and sum(map(str.isdigit, str(value))) < _DIGITS:
        return []
    return list(_strings(value))


def has_past(messages: Any) -> bool:
    """Whether somebody has answered already in this conversation.

    Raises:
        UnknownContentError: A part that is not known.
    """
    return any(message["role"] not in {"system", "developer", "user"} for message in _messages(messages))


def _messages(messages: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(messages, list) or not messages:
        raise UnknownContentError("messages")
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in _ROLES:
            raise UnknownContentError("role")
        if unknown := {key for key, value in message.items() if value is not None} - _MESSAGE:
            raise UnknownContentError(f"message.{min(unknown, key=str)}"[:60])
    return messages


def _of_message(message: Mapping[str, Any]) -> Iterator[str]:
    for part in _parts(message.get("content")):
        # Without the name of the part: the detectors put together what stands in neighbouring messages.
        yield from _strings(part.get("text"))
        rest = {key: value for key, value in part.items() if key not in {*_OPAQUE[part["type"]], "text"}}
        yield from _strings(rest)
    for key in ("name", "refusal", "reasoning_content", "tool_call_id", "tool_calls", "function_call"):
        if message.get(key):
            yield from _strings(message[key])


_OPAQUE = {
    "text": {"type"},
    "refusal": {"type"},
    "image_url": {"type", "image_url"},
    "file": {"type", "file"},
}
"""Kinds of content parts, with what of each is no text. A part of another kind, such as sound, is not known."""


def _parts(content: Any) -> list[Mapping[str, Any]]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise UnknownContentError("content")
    for part in content:
        if not isinstance(part, dict) or not isinstance(part.get("type"), str) or part["type"] not in _OPAQUE:
            raise UnknownContentError("content")
    return content


def _strings(value: Any) -> Iterator[str]:
    """Every text within a value, names of parts included. JSON in a text, as arguments of tools are, is read as well."""
    if isinstance(value, str):
        yield value
        if "\\" in value and value.lstrip()[:1] in {"{", "["}:
            try:
                yield from _strings(json.loads(value))
            except ValueError:
                return
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield str(key)
            yield from _strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
