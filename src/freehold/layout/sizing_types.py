"""Types of the sizing: what is given, what is asked, what is answered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """One GPU as it is given to a host."""

    name: str
    memory: int
    """MiB, as its driver reports it."""
    share: float = 1.0
    compute_capability: float | None = None
    vendor: str = "nvidia"

    @property
    def given(self) -> int:
        """MiB of the share."""
        return int(self.memory * self.share)


@dataclass(frozen=True)
class Demand:
    """What is asked of a language model."""

    context: int
    """Tokens per conversation."""
    users: int
    """Conversations at once."""
    kv_cache: str = "auto"
    """``auto`` (16 bits), ``fp8`` (vLLM, SGLang), ``f16``, ``q8_0`` or ``q4_0`` (Ollama)."""


@dataclass(frozen=True)
class PerGpu:
    """MiB on each GPU."""

    weights: int
    kv_cache: int
    """Keys and values of all conversations at full length."""
    activations: int
    """What computing takes: vLLM's activation peak, llama.cpp's compute buffer."""
    graphs: int
    """CUDA graphs."""
    reserve: int
    """CUDA itself, communication between GPUs, the driver, and what the engine leaves free."""
    total: int
    memory: int
    """What there is of this GPU for this engine."""


@dataclass(frozen=True)
class Sizing:
    """The answer for one language model in one form on one engine."""

    model: str
    quantization: str
    engine: str
    tensor_parallel: int
    """GPUs that it is divided over."""
    fits: bool
    unknown: tuple[str, ...]
    """Figures that are missing; then nothing is computed, and ``fits`` is false."""
    per_gpu: PerGpu | None
    users: int
    max_users: int | None
    """Conversations that fit at the context asked for."""
    context: int
    max_context: int | None
    """Tokens that fit at the users asked for."""
    kv_bytes_per_token: int | None
    """Bytes that one more token takes, over all GPUs together."""
    gpu_memory_utilization: float | None
    """For vLLM; for SGLang its ``mem_fraction_static``; none for Ollama."""
    max_num_seqs: int | None
    """Sequences at once; for Ollama its ``OLLAMA_NUM_PARALLEL``."""
    kv_cache: str
    advice: tuple[str, ...] = ()
    """What stands in the way, and what to change."""
