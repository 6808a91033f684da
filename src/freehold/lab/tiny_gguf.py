"""Stand-in: the tiny language model of the lab as GGUF files, for engines that read those (llama.cpp, Ollama).

``tiny-chat.gguf`` answers everything with one sentence, as `freehold.lab.tiny_model` explains; ``tiny-embed.gguf`` holds
the same weights and says that it makes embeddings (the mean of the vectors of all tokens).

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3, all weights as 32-bit floats.
"""

from __future__ import annotations

import struct
import sys
from array import array
from pathlib import Path

from freehold.lab import tiny_model

_ALIGNMENT = 32
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_NORMAL, _CONTROL = 1, 3
_MEAN = 1
"""``llama.pooling_type``: the mean of all tokens."""

_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}


def write_tiny_gguf(directory: Path) -> dict[str, str]:
    """Write both files into a directory, which is made if it is missing; their content is the same everywhere.

    Returns:
        The SHA-256 of each file, by its name.

    Raises:
        TinyModelError: The directory or a file could not be written.
    """
    contents = {"tiny-chat.gguf": _gguf(embedding=False), "tiny-embed.gguf": _gguf(embedding=True)}
    return tiny_model.write(directory, contents)


def _gguf(*, embedding: bool) -> bytes:
    metadata = _metadata(embedding=embedding)
    infos, body = b"", bytearray()
    weights = list(tiny_model.tensors())
    for name, (shape, values) in weights:
        infos += _string(_name(name)) + struct.pack("<I", len(shape))
        infos += struct.pack(f"<{len(shape)}Q", *reversed(shape))
        infos += struct.pack("<IQ", 0, len(body))
        body += _floats(values)
        body += bytes(-len(body) % _ALIGNMENT)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(weights), len(metadata)) + b"".join(metadata) + infos
    return head + bytes(-len(head) % _ALIGNMENT) + bytes(body)


def _name(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    _, _, layer, inner = name.split(".", 3)
    return f"blk.{layer}.{_NAMES[inner]}"


def _metadata(*, embedding: bool) -> list[bytes]:
    ids = tiny_model.token_ids()
    tokens = [*ids, *(f"[unused{number}]" for number in range(len(ids), tiny_model.VOCABULARY))]
    kinds = [_CONTROL if token.startswith("<|") and token.endswith("|>") else _NORMAL for token in tokens]
    end = ids["<|end|>"]
    found = [
        _text("general.architecture", "llama"),
        _text("general.name", "Freehold lab tiny embedding" if embedding else "Freehold lab tiny chat"),
        _number("general.file_type", 0),
        _number("llama.context_length", tiny_model.CONTEXT_TOKENS),
        _number("llama.embedding_length", tiny_model.HIDDEN),
        _number("llama.block_count", tiny_model.LAYERS),
        _number("llama.feed_forward_length", tiny_model.INTERMEDIATE),
        _number("llama.attention.head_count", tiny_model.HEADS),
        _number("llama.attention.head_count_kv", tiny_model.HEADS),
        _entry("llama.attention.layer_norm_rms_epsilon", _FLOAT32, struct.pack("<f", 1e-6)),
        _number("llama.rope.dimension_count", tiny_model.HIDDEN // tiny_model.HEADS),
        _number("llama.vocab_size", tiny_model.VOCABULARY),
        _text("tokenizer.ggml.model", "gpt2"),
        _text("tokenizer.ggml.pre", "gpt-2"),
        _list("tokenizer.ggml.tokens", _STRING, [_string(token) for token in tokens]),
        _list("tokenizer.ggml.token_type", _INT32, [struct.pack("<i", kind) for kind in kinds]),
        _list("tokenizer.ggml.merges", _STRING, []),
        _number("tokenizer.ggml.bos_token_id", end),
        _number("tokenizer.ggml.eos_token_id", end),
        _number("tokenizer.ggml.padding_token_id", end),
        _entry("tokenizer.ggml.add_bos_token", _BOOL, b"\0"),
    ]
    if embedding:
        return [*found, _number("llama.pooling_type", _MEAN)]
    return [*found, _text("tokenizer.chat_template", tiny_model.CHAT_TEMPLATE)]


def _string(text: str) -> bytes:
    content = text.encode()
    return struct.pack("<Q", len(content)) + content


def _entry(key: str, kind: int, value: bytes) -> bytes:
    return _string(key) + struct.pack("<I", kind) + value


def _text(key: str, value: str) -> bytes:
    return _entry(key, _STRING, _string(value))


def _number(key: str, value: int) -> bytes:
    return _entry(key, _UINT32, struct.pack("<I", value))


def _list(key: str, kind: int, values: list[bytes]) -> bytes:
    return _entry(key, _ARRAY, struct.pack("<IQ", kind, len(values)) + b"".join(values))


def _floats(values: array[float]) -> bytes:
    copy = array("f", values)
    if sys.byteorder == "big":
        copy.byteswap()
    return copy.tobytes()
