"""Shapes whose layers do not all keep the same: Gemma 4 and sparse attention."""

from __future__ import annotations

import pytest

from freehold.catalog.models import Architecture, LatentAttention
from freehold.layout import sizing_memory as memory

GEMMA_4_31B = Architecture(
    layers=60,
    window_layers=50,
    window=1024,
    kv_heads=16,
    head_size=256,
    global_kv_heads=4,
    global_head_size=512,
)
GEMMA_4_E2B = Architecture(
    layers=35, window_layers=12, window=512, shared_layers=20, kv_heads=1, head_size=256, global_head_size=512
)


@pytest.mark.parametrize(("context", "kept"), [(32_768, 3_523_215_360), (262_144, 22_313_697_280)])
def test_layers_with_the_whole_context_have_heads_of_their_own(context: int, kept: int) -> None:
    assert memory.token_bytes(GEMMA_4_31B, "ollama", "f16") == 10 * 2 * 4 * 512 * 2
    assert memory.conversation_bytes(GEMMA_4_31B, "ollama", "f16", context) == kept


def test_a_gpu_has_its_part_of_both() -> None:
    one = memory.conversation_bytes(GEMMA_4_31B, "vllm", "auto", 32_768)
    assert memory.conversation_bytes(GEMMA_4_31B, "vllm", "auto", 32_768, gpus=4) * 4 == one
    # Eight GPUs repeat the four heads of layers with the whole context.
    eight = memory.conversation_bytes(GEMMA_4_31B, "vllm", "auto", 32_768, gpus=8)
    assert eight - 50 * 1040 * 2 * 2 * 256 * 2 == 10 * 32_768 * 2 * 1 * 512 * 2


def test_layers_that_share_keep_nothing() -> None:
    assert memory.full_layers(GEMMA_4_E2B) == 3
    assert memory.recurrent_layers(GEMMA_4_E2B) == 0
    kept = memory.conversation_bytes(GEMMA_4_E2B, "ollama", "f16", 8192)
    assert kept == 2 * 2 * (3 * 8192 * 512 + 12 * 512 * 256)


def test_more_layers_than_there_are() -> None:
    with pytest.raises(ValueError, match="shared_layers are more than 35 layers"):
        Architecture(layers=35, window_layers=12, shared_layers=24)


def test_the_indexer_of_sparse_attention_keeps_bytes_of_its_own() -> None:
    shape = Architecture(layers=61, latent=LatentAttention(rank=512, rope=64, index=132))
    assert memory.token_bytes(shape, "vllm", "auto") == 61 * (576 * 2 + 132)
    assert memory.token_bytes(shape, "vllm", "fp8") == 61 * (576 + 132)
