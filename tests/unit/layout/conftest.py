"""A client's stack and the roles of these tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from freehold.layout.compute import LayoutError, compute
from freehold.layout.types import Layout
from freehold.schema.stack import Stack

ROLES = Path(__file__).parents[1] / "data" / "roles"

Build = Callable[..., Layout]


def stack(**changes: Any) -> Stack:
    """The stack of these tests, with top-level keys replaced."""
    return Stack.model_validate(
        {
            "client": "acme",
            "domain": "acme.internal",
            "proxmox": {"endpoint": "https://pve:8006"},
            "network": {"subnet": "10.20.0.0/24"},
            "services": {"caddy": None, "openwebui": None, "vllm": {"model": "/models/tiny"}},
            **changes,
        }
    )


@pytest.fixture
def build() -> Build:
    """Lays out the stack of these tests, with top-level keys replaced."""

    def build(only: str | None = None, **changes: Any) -> Layout:
        return compute(stack(**changes), Path("/inventory/acme"), only, roles=ROLES)

    return build


@pytest.fixture
def problems(build: Build) -> Callable[..., list[str]]:
    """The problems of a stack with top-level keys replaced, as text."""

    def problems(**changes: Any) -> list[str]:
        with pytest.raises(LayoutError) as caught:
            build(**changes)
        return [str(problem) for problem in caught.value.problems]

    return problems
