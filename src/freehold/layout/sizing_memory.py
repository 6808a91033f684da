"""How much memory of a GPU a language model takes: weights, KV cache, activations, graphs, what the driver keeps.

Everything here is arithmetic over the catalogue's figures; ``docs/sizing.md`` explains each part and says how exact it is.
Constants are what vLLM, SGLang and llama.cpp document or what people measured; each has its source. The measurements that
these functions are checked against lie in ``tests/unit/layout/data/published_allocations.yml``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from freehold.catalog.models import Architecture, LanguageModel, Quantization

MIB = 1024**2

DRIVER = 512
"""MiB of a GPU that programs do not see: ``nvidia-smi`` against ``cudaMemGetInfo``, 430 to 600 MiB on RTX 3090 (24576, 23.56
GiB), RTX 4090 (24564, 23.53 GiB), RTX 5090 (32607, 31.37 GiB), H100 (81559, 79.19 GiB) and H200 (143771, 139.81 GiB), in the
startup logs of published_allocations.yml."""

UTILIZATION = 0.9
"""vLLM's ``gpu_memory_utilization``: docs.vllm.ai/en/latest/configuration/conserving_memory. The rest holds the CUDA context
(0.5 to 1.1 GiB in the logs of published_allocations.yml) and NCCL, which vLLM starts before it measures (gpu_worker.py)."""

LOADED = 1.02
"""Weights in the memory against their files: 0.84 % more on average over 49 runs of vLLM 0.19, up to 2.6 % for most and 8.6 %
for gpt-oss: github.com/llm-d-incubation/llm-d-planner/blob/main/accuracy/accuracy_report.md"""

BLOCK = 16
"""Tokens per block of vLLM's KV cache, at least."""

MICROBATCH = 1024
"""Tokens that Ollama lets llama.cpp compute at once (``n_ubatch`` in github.com/ollama/ollama/issues/16480)."""

OLLAMA_MINIMUM = 457
"""MiB of each GPU that Ollama leaves free for CUDA: ``minimum="457.0 MiB"`` in its log line ``gpu memory``, from
discover/gpu.go."""

KV_BYTES = {
    "vllm": {"auto": 2.0, "fp8": 1.0},
    "sglang": {"auto": 2.0, "fp8": 1.0},
    # A block of 32 values has a scale of 16 bits besides: ggml-common.h.
    "ollama": {"auto": 2.0, "f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32},
}
"""Bytes per value in the KV cache, by engine and ``kv_cache``."""


def full_layers(shape: Architecture) -> int:
    """Layers that keep keys and values of the whole context."""
    if shape.cached_layers is not None:
        return shape.cached_layers
    return (shape.layers or 0) - shape.window_layers - shape.shared_layers


def recurrent_layers(shape: Architecture) -> int:
    """Layers without keys and values, which keep a state of constant size instead (Mamba, gated delta networks)."""
    return max(0, (shape.layers or 0) - full_layers(shape) - shape.window_layers - shape.shared_layers)


def missing(model: LanguageModel, quantization: Quantization, engine: str, gpus: int) -> Iterator[str]:
    """Figures that the catalogue lacks, without which nothing can be computed."""
    shape = model.architecture
    if quantization.weights_bytes is None:
        yield "size of the weights"
    # What chooses no words needs no vocabulary, and what keeps nothing no layers.
    words = () if model.kind in {"embedding", "reranking"} else ("vocabulary",)
    layers = () if words == () and shape.cached_layers == 0 else ("layers",)
    for key in (*layers, "hidden", *words):
        if getattr(shape, key) is None:
            yield key
    caches = full_layers(shape) + shape.window_layers > 0
    if caches and shape.latent is None:
        for key in ("kv_heads", "head_size"):
            if getattr(shape, key) is None:
                yield key
    if shape.window_layers and shape.window is None:
        yield "window"
    if recurrent_layers(shape) and shape.cached_layers != 0 and shape.state_bytes is None:
        yield "state_bytes"
    if gpus > 1 and engine != "ollama" and shape.heads is None:
        yield "heads"


def tensor_parallel(model: LanguageModel, gpus: int) -> int:
    """GPUs that one vLLM or SGLang can use: as many as heads, and keys and values, can be dealt out to evenly.

    Source: vLLM's ``verify_with_parallel_config`` (heads) and ``QKVParallelLinear`` (keys and values are divided, or repeated).
    """
    shape = model.architecture
    heads = shape.heads or 1
    kv_heads = 1 if shape.latent else shape.kv_heads or heads
    fitting = (n for n in range(gpus, 1, -1) if heads % n == 0 and (kv_heads % n == 0 or n % kv_heads == 0))
    return next(fitting, 1)


def token_bytes(shape: Architecture, engine: str, kv_cache: str) -> int:
    """Bytes that one more token takes in the KV cache of the whole model."""
    return math.ceil(full_layers(shape) * _full_bytes(shape, KV_BYTES[engine][kv_cache]))


def _full_bytes(shape: Architecture, per_value: float, gpus: int = 1) -> float:
    """Bytes on each GPU that a layer with the whole context keeps of one token."""
    if shape.latent:
        # Every GPU of a tensor-parallel group keeps the whole vector: arxiv.org/abs/2405.04434, vLLM's mla backends.
        return (shape.latent.rank + shape.latent.rope) * per_value + shape.latent.index
    heads, size = shape.global_kv_heads or shape.kv_heads or 0, shape.global_head_size or shape.head_size or 0
    return 2 * max(1, heads // gpus) * size * per_value


def _window_bytes(shape: Architecture, per_value: float, gpus: int) -> float:
    """Bytes on each GPU that a layer with a window keeps of one token in it."""
    return 2 * max(1, (shape.kv_heads or 0) // gpus) * (shape.head_size or 0) * per_value


def conversation_bytes(
    shape: Architecture, engine: str, kv_cache: str, context: int, *, gpus: int = 1, batched: int = 0
) -> int:
    """Bytes that one conversation of full length keeps on each GPU.

    ``batched`` is ``max_num_batched_tokens`` for vLLM and SGLang, ``n_ubatch`` for Ollama: layers with a window keep that
    much besides the window. Sources: vLLM's ``SlidingWindowSpec.max_memory_usage_bytes`` (twice, since two batches are under
    way: github.com/vllm-project/vllm/issues/54703); llama.cpp's ``llama-kv-cache-iswa.cpp``. Of the state of layers without
    keys and values vLLM holds two, one of them under way (configs/agent-128k.env in
    github.com/DominikBucko/qwen38-flash-next-2x3090).
    """
    if engine == "ollama":
        whole = _up(context, 256)
        window = min(whole, _up((shape.window or 0) + batched, 256))
    else:
        block = block_tokens(shape, engine, kv_cache, gpus)
        whole = _up(context, block)
        window = min(whole, _up((shape.window or 0) + 2 * batched, block) + block)
    share, states = (1, 1) if engine == "ollama" else (gpus, 2)
    per_value = KV_BYTES[engine][kv_cache]
    kept = full_layers(shape) * whole * _full_bytes(shape, per_value, share)
    if shape.window_layers:
        kept += shape.window_layers * window * _window_bytes(shape, per_value, share)
    return math.ceil(kept) + math.ceil(states * (shape.state_bytes or 0) / share)


def block_tokens(shape: Architecture, engine: str, kv_cache: str, gpus: int) -> int:
    """Tokens per block of vLLM's KV cache: in hybrid models a block takes as much as the state of one layer.

    Its log says ``Setting attention block size to 1568 tokens to ensure that attention page size is >= mamba page size``.
    """
    recurrent, one = recurrent_layers(shape), _full_bytes(shape, KV_BYTES[engine][kv_cache], gpus)
    if not (recurrent and one and shape.state_bytes):
        return BLOCK
    return max(BLOCK, _up(math.ceil(shape.state_bytes / recurrent / gpus / one), BLOCK))


def batched_tokens(memory: int, capability: float | None) -> int:
    """vLLM's default of ``max_num_batched_tokens`` for a server, by memory in MiB.

    Source: ``EngineArgs.get_batch_defaults`` in vllm/engine/arg_utils.py (8192 from 70 GiB on but for A100, else 2048) and
    github.com/vllm-project/vllm/issues/54703 (16384 from 160 GiB on).
    """
    if memory < 70 * 1024 or capability == 8.0:
        return 2048
    return 8192 if memory < 160 * 1024 else 16384


def activations(model: LanguageModel, gpus: int, sequences: int, batched: int) -> int:
    """MiB of vLLM's ``torch peak memory increase`` on each GPU: the larger of a forward pass and of sampling, and what stays.

    - Forward pass: ``batched`` tokens of 16 bits; gate, up and down of the widest feed-forward layer, and four vectors of the
      hidden size. The catalogue does not hold that width; 6.4 times the hidden size (Mistral Small 24B) is the widest of
      dense models that people run, so that this is an upper bound.
    - Sampling: 14 bytes per sequence and word of the vocabulary: logits in 16 bits, and in 32 bits three times.
    - 0.2 GiB of inputs and outputs; 0.5 GiB more of a mixture of experts, whose workspace stays.

    Measured: 49 runs of vLLM 0.19, github.com/llm-d-incubation/llm-d-planner/blob/main/accuracy/accuracy_report.md
    (1.89 GiB for Llama 3.1 8B at 1024 sequences and 8192 tokens, 1.10 GiB without sampling; 2.21 for Qwen 2.5 7B, 3.63
    for Gemma 2 9B, 2.68 for Qwen 3 30B-A3B).
    """
    shape = model.architecture
    hidden, vocabulary = shape.hidden or 0, shape.vocabulary or 0
    forward = 2 * batched * hidden * (4 + 20 / gpus)
    sampling = 14 * sequences * vocabulary if model.kind in {"chat", "ocr"} else 0
    parameters = model.parameters
    experts = 512 if parameters is None or parameters.active < parameters.total else 0
    return math.ceil(max(forward, sampling) / MIB) + 200 + experts


def graphs(sequences: int) -> int:
    """MiB of vLLM's CUDA graphs on each GPU.

    vLLM captures graphs of 1, 2, 4 and then every 8 up to 256 and every 16 up to twice the sequences, at most 512
    (vllm/config/vllm.py), and counts them into its share since 0.21. 128 MiB and 24 MiB per graph: 0.09 GiB for 1, 0.17 for
    7, 0.36 for 16, 0.51 to 1.85 for 51 in the logs of published_allocations.yml; 24 MiB each in
    github.com/vllm-project/vllm/issues/50780.
    """
    largest = min(512, 2 * sequences)
    sizes = [1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)]
    return 128 + 24 * len([size for size in sizes if size <= largest])


def beside_torch(gpus: int, capability: float | None) -> int:
    """MiB that vLLM's processes take besides PyTorch's own, on each GPU.

    One GPU: 0.24 to 0.27 GiB. Several: 2.06 to 2.17 GiB on H100, where vLLM fuses all-reduce (accuracy_report.md, as above);
    0.76 GiB on two RTX 5090 (github.com/noonghunna/club-3090/issues/1087). Four without NVLink: 1.7 GiB (56.89 less 55.19) on
    RTX PRO 6000, from a guide for Qwen 3 235B whose log alone was found, so that this figure is the weakest here.
    """
    if gpus == 1:
        return 280
    if capability is not None and 9 <= capability < 12:
        return 2240
    return 820 if gpus == 2 else 1760


def compute_buffer(shape: Architecture, context: int, *, microbatch: int = MICROBATCH) -> int:
    """MiB of llama.cpp's compute buffer on each GPU, with flash attention.

    Logits and the input of one microbatch in 32 bits, which is 258.50 MiB for Llama 3 8B and 300.75 MiB for Qwen 2.5 3B at
    512 tokens (github.com/SciSharp/LLamaSharp/issues/1099), and the mask of one conversation in 32 and 16 bits.
    """
    values = 4 * ((shape.vocabulary or 0) + (shape.hidden or 0)) + 6 * (context if context > 8192 else 0)
    return math.ceil(microbatch * values / MIB)


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
