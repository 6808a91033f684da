"""Which function answers which call (part of a stand-in of Proxmox VE, for development)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from freehold.lab.context import Call

Handler = Callable[[Call], Any]

HANDLERS: dict[str, Handler] = {}
"""Functions by ``"METHOD path"`` of the schema."""


def endpoint(key: str) -> Callable[[Handler], Handler]:
    """Register the function that answers a call of the schema."""

    def register(function: Handler) -> Handler:
        HANDLERS[key] = function
        return function

    return register
