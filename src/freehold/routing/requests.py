"""What of a request reaches LiteLLM: a list of keys and headers, and nothing beside it.

LiteLLM takes many more from whoever asks: other addresses and keys, lists of models and of fallbacks, switches of guardrails,
metadata that it trusts (``proxy/litellm_pre_call_utils.py``, ``types/router.py`` of LiteLLM 1.109.1). What would steer it is
refused, so that nobody takes it for granted; the rest is left out.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable
from typing import Any

from .messages import SETTINGS
from .policy import CLOUD

LARGEST = 32 * 1024 * 1024
"""Bytes that a request may have: a long conversation with images."""

HEADERS = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"authorization",
        b"host",
        b"user-agent",
        b"x-litellm-session-id",
        b"x-openwebui-user-jwt",
    }
)
"""Headers that LiteLLM gets to see, beside those that describe the body."""

ONCE = frozenset({b"authorization", b"x-litellm-session-id", b"x-openwebui-user-jwt"})
"""Headers that say who asks, and in which conversation. Of two, one program would read the first and another the last."""

SAMPLING = SETTINGS | {"model", "response_format", "stop", "tool_choice", "tools"}
"""Keys of a conversation that a cloud provider gets as well, besides the messages; each is read before (``messages.others``)."""

ENGINES = frozenset(
    {
        "chat_template_kwargs",
        "enable_thinking",
        "ignore_eos",
        "keep_alive",
        "length_penalty",
        "min_p",
        "min_tokens",
        "num_ctx",
        "options",
        "repetition_penalty",
        "skip_special_tokens",
        "structured_outputs",
        "think",
        "top_k",
    }
)
"""Keys that engines of the building know besides. Nobody reads them, so no cloud provider gets them."""

_BODIES = {
    "/v1/chat/completions": SAMPLING | ENGINES | {"messages"},
    "/v1/completions": SAMPLING | ENGINES | {"prompt", "suffix", "echo", "best_of"},
    "/v1/embeddings": frozenset({"model", "input", "encoding_format", "dimensions"}),
}

STEERING = frozenset(
    {
        "api_base",
        "api_key",
        "api_version",
        "base_url",
        "custom_llm_provider",
        "disable_global_guardrail",
        "disable_global_guardrails",
        "extra_body",
        "extra_headers",
        "fallbacks",
        "context_window_fallbacks",
        "content_policy_fallbacks",
        "guardrails",
        "headers",
        "mock_response",
        "mock_testing_fallbacks",
        "mock_tool_calls",
        "model_list",
        "models",
        "user_config",
        "web_search_options",
    }
)
"""Keys by which somebody would choose another way than the router's."""


class RefusedError(Exception):
    """A request that LiteLLM does not get to see."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def headers(given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of the list.

    Raises:
        RefusedError: One that says who asks comes twice.
    """
    kept = [(name, value) for name, value in given if name.lower() in HEADERS]
    names = [name.lower() for name, _ in kept]
    if twice := sorted(name.decode() for name in ONCE if names.count(name) > 1):
        raise RefusedError(400, f"The request has more than one header {', '.join(twice)}.")
    return kept


def leaving(data: dict[str, Any]) -> None:
    """Take off a request what a cloud provider does not get."""
    for key in ENGINES:
        data.pop(key, None)


def body(path: str, content: bytes, names: Container[str] | None = None) -> bytes:
    """The body with the keys of the list.

    Args:
        path: The path that is asked for.
        content: The body as it came.
        names: The names of language models that can be asked; any is let through without them. What else stands in a name's place
            is text of whoever asks, and LiteLLM's metrics would keep it (label ``model`` of
            ``litellm_llm_api_failed_requests_metric``).

    Raises:
        RefusedError: It is no JSON object, would steer the router, or asks for a way instead of a language model.
    """
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        raise RefusedError(400, "The request is not JSON.") from None
    if not isinstance(data, dict):
        raise RefusedError(400, "The request is not a JSON object.")
    if steering := sorted(STEERING & {key for key, value in data.items() if value not in (None, [], {})}):
        raise RefusedError(400, f"The router does not take {', '.join(steering)} from applications.")
    model = data.get("model")
    way = not isinstance(model, str) or not model or model.startswith(CLOUD) or "," in model
    if way or (names is not None and model not in names):
        raise RefusedError(400, "The request names no language model of this router.")
    kept: dict[str, Any] = {key: value for key, value in data.items() if key in _BODIES[path]}
    return json.dumps(kept).encode()
