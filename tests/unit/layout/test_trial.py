"""While a language model stands in for another, nothing of the other one is lost."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from freehold.catalog import models
from freehold.layout import trial
from freehold.layout.compute import load_layout

STACK = """
client: acme
domain: acme.internal
proxmox: {endpoint: "https://pve:8006"}
network: {subnet: 10.20.0.0/24}
services: {litellm: , ollama: {device: cpu}}
models:
  qwen3-0.6b: {name: assistant}
"""


def kept(stack: Path) -> Any:
    return load_layout(stack).service("ollama").variables.get("ollama_models", [])


def test_ollama_keeps_what_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "acme" / "stack.yml"
    path.parent.mkdir()
    path.write_text(STACK)
    assert kept(path) == []

    running = trial.Trial(instead="qwen3-0.6b", model="qwen3-1.7b", until=datetime.now(UTC))
    (path.parent / trial.FILE).write_text(trial.dump(running))

    known = models.load()["qwen3-0.6b"].quantizations["q4_k_m"]
    assert kept(path) == [{"name": known.ollama, "kind": "chat", "digest": known.digest}]
    layout = load_layout(path)
    assert [model.id for model in layout.models] == ["qwen3-1.7b"]
    (engine,) = layout.service("litellm").variables["litellm_engines"]
    assert [model["served"] for model in engine["models"]] == ["qwen3:1.7b"], (
        "callers reach the candidate alone"
    )
