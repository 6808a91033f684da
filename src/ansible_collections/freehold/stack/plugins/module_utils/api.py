"""HTTP calls of modules to the service on their own host or next to it: never through a proxy."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any


class RefusedError(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}: {text}")
        self.status = status


@dataclass(frozen=True)
class Answer:
    """What a service answered."""

    content: bytes
    headers: Message

    def json(self) -> Any:
        """The content as JSON."""
        return json.loads(self.content)


def ask(
    method: str, address: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = 60
) -> Answer:
    """One call; a body goes out as JSON unless it is bytes.

    Raises:
        RefusedError: The answer is no success.
        OSError: There is no answer within ``timeout`` seconds.
    """
    data, form = (body, {}) if isinstance(body, bytes) else (None, {"Content-Type": "application/json"})
    if data is None and body is not None:
        data = json.dumps(body).encode()
    request = urllib.request.Request(address, data, {**form, **(headers or {})}, method=method)  # noqa: S310 - HTTP
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as answer:
            return Answer(answer.read(), answer.headers)
    except urllib.error.HTTPError as error:
        raise RefusedError(error.code, error.read(1000).decode("utf-8", "replace")) from error
