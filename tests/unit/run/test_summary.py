"""What the closing summary says of language models."""

from __future__ import annotations

from datetime import date
from typing import Any

from freehold.layout.aliases import Alias
from freehold.layout.compute import of_stack
from freehold.layout.types import Layout
from freehold.run.summary import models
from freehold.schema.load import load_stack


def layout(tmp_path: Any, text: str) -> Layout:
    folder = tmp_path / "inventory" / "acme"
    folder.mkdir(parents=True)
    (folder / "stack.yml").write_text(
        "client: acme\ndomain: acme.internal\nproxmox: {endpoint: 'https://pve:8006'}\n"
        "network: {subnet: 10.20.0.0/24}\n"
        "nodes: {pve: {gpus: [{pci: '01:00.0', card: rtx-4090}, {pci: '41:00.0', card: rtx-4090}]}}\n" + text
    )
    return of_stack(load_stack(str(folder)))


BESIDE = """
gpu_layout: one-each
services: {litellm: , vllm: , vllm-2: }
models:
  qwen3-8b: {name: assistant, engine: vllm, quantization: awq, users: 5, context: 8192}
  qwen3-4b: {engine: vllm-2, quantization: bf16, users: 3, context: 4096}
"""


def test_what_answers_under_each_name(tmp_path: Any) -> None:
    assert models(layout(tmp_path, BESIDE), {}) == {
        "assistant": "Qwen3 8B (awq) on vllm, 5 at once, 8192 tokens per conversation",
        "qwen3-4b": "Qwen3 4B (bf16) on vllm-2, 3 at once, 4096 tokens per conversation",
    }


def test_a_promoted_name_is_what_answers_and_not_what_the_stack_file_says(tmp_path: Any) -> None:
    led = {"assistant": Alias(model="qwen3-4b", engine="vllm-2", since=date(2026, 11, 21))}
    assert models(layout(tmp_path, BESIDE), led)["assistant"] == (
        "Qwen3 4B (bf16) on vllm-2, 3 at once, 4096 tokens per conversation (promoted)"
    )


def test_replicas_are_one_line_and_what_a_cpu_computes_is_not_sized(tmp_path: Any) -> None:
    both = """
gpu_layout: cpu
services: {litellm: , vllm: , vllm-2: }
models:
  qwen3-0.6b: {engine: [vllm, vllm-2], users: 2, context: 2048}
"""
    assert models(layout(tmp_path, both), {}) == {
        "qwen3-0.6b": "Qwen3 0.6B (bf16) on vllm, vllm-2, 2 at once on each, 2048 tokens per conversation (not sized)"
    }
