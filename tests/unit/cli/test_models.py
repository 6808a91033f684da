"""``freehold models list``, as people read it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tests.conftest import Cli

from freehold.cli.console import out
from freehold.run import models
from freehold.run.context import Client
from freehold.run.models import Listed


def listed(name: str, licence: str, *engines: str, state: str = "") -> Listed:
    return Listed(
        name, name.title(), "chat", licence, "mxfp4-ollama", 14 * 2**30, "acme/x", None, engines, state
    )


def test_80_columns_hold_the_longest_names(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        listed("qwen3.5-35b-a3b", "Apache-2.0", "vllm", state="ready"),
        listed("deepseek-r1-distill-llama-70b", "Llama-3.3-Community"),
    ]

    def listing(client: Any, *, used_only: bool) -> Any:
        return rows, None

    monkeypatch.setattr(Client, "open", lambda *_: SimpleNamespace())
    monkeypatch.setattr(models, "listing", listing)
    monkeypatch.setattr(out, "_width", 80)
    said = cli("models", "list", "acme")
    assert said.code == 0
    lines = [line.split() for line in said.out.splitlines() if line]
    size = ["mxfp4-ollama", "14.00", "GiB"]
    assert ["qwen3.5-35b-a3b", *size, "Apache-2.0", "vllm", "ready"] in lines
    assert ["deepseek-r1-distill-llama-70b", *size, "Llama-3.3-Community"] in lines
    assert max(map(len, said.out.splitlines())) <= 80
