"""Cloud providers of language models: where each kind answers. The one place that says so."""

from __future__ import annotations

from urllib.parse import urlsplit

ENDPOINTS = {
    "anthropic": "https://api.anthropic.com",  # https://docs.claude.com/en/api/overview
    "openai": "https://api.openai.com/v1",  # https://platform.openai.com/docs/api-reference/introduction
    "mistral": "https://api.mistral.ai/v1",  # https://docs.mistral.ai/api/
    "perplexity": "https://api.perplexity.ai",  # https://docs.perplexity.ai/api-reference/chat-completions-post
}
"""Address of the API of each kind that has one of its own; ``azure`` and ``openai-compatible`` are always given one."""


def endpoint(kind: str, given: str | None) -> str:
    """Base address of a provider: the one that the client gives, else that of its kind.

    Raises:
        KeyError: The kind has none of its own, and none is given.
    """
    return given or ENDPOINTS[kind]


def destination(kind: str, given: str | None) -> tuple[str, int]:
    """Host name and port of a provider: what the one way out must let the router reach.

    Raises:
        KeyError: The kind has no address of its own, and none is given.
    """
    parts = urlsplit(endpoint(kind, given))
    return parts.hostname or "", parts.port or 443
