"""Stand-in: writes the tiny language model of the lab, which proves a chain of services and knows nothing.

The model is a real two-layer Llama in the file formats that inference engines load (``config.json``,
``tokenizer.json``, ``model.safetensors``), small enough to be written in a moment with the standard library
alone. Its attention and feed-forward weights are small random numbers. Its embedding and output weights are
laid out so that each token of `ANSWER` makes the next one by far the likeliest: whatever the question and the
usual sampling temperature, it answers with that sentence, so a proof can compare the text that came through.

Text goes in byte by byte (one token per byte of UTF-8); only the words of the answer are tokens of their own.
Each byte also has a random direction of its own, so that mean-pooled embeddings of different texts differ.

Formats: https://github.com/huggingface/safetensors#format and
https://huggingface.co/docs/tokenizers/api/models (byte-level BPE).
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import struct
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from freehold.errors import FreeholdError

ANSWER_TOKENS = (
    *("Hello", " from", " the", " tiny", " stand", "-", "in", " model", " of", " this", " lab", "."),
    *(" It", " knows", " nothing", ";", " its", " answer", " proves", " that", " engine", ",", " gateway"),
    *(" and", " chat", " work", " together."),
)
ANSWER = "".join(ANSWER_TOKENS)
"""What the model answers to everything."""

CONTEXT_TOKENS = 32768
"""The longest input and output together, in tokens (here: bytes of text)."""

_SPECIAL_TOKENS = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
VOCABULARY = 320
HIDDEN = 64
INTERMEDIATE = 128
LAYERS = 2
HEADS = 2
_STRENGTH = 8.0


class TinyModelError(FreeholdError):
    """The files of the tiny model could not be written."""


def write_tiny_model(directory: Path) -> dict[str, str]:
    """Write the tiny model into a directory, which is made if it is missing.

    The content is the same on every machine and Python version. A file that is there already with the same
    content is left alone.

    Returns:
        The SHA-256 of each file, by its name.

    Raises:
        TinyModelError: The directory or a file could not be written.
    """
    contents = {
        "config.json": _json(_config()),
        "generation_config.json": _json({"bos_token_id": None, "eos_token_id": token_ids()["<|end|>"]}),
        "tokenizer.json": _json(_tokenizer()),
        "tokenizer_config.json": _json(_tokenizer_config()),
        "model.safetensors": _safetensors(dict(tensors())),
    }
    return write(directory, contents)


def write(directory: Path, contents: Mapping[str, bytes]) -> dict[str, str]:
    """Write files of a tiny language model, those alone that differ; the SHA-256 of each, by its name.

    Raises:
        TinyModelError: The directory or a file could not be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            path = directory / name
            if not path.is_file() or path.read_bytes() != content:
                path.write_bytes(content)
    except OSError as error:
        raise TinyModelError(
            "The tiny language model could not be written.",
            doing="writing the tiny language model of the lab",
            where=str(directory),
            answer=str(error),
            remedy="Make room or choose a directory that can be written.",
        ) from error
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def _config() -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": CONTEXT_TOKENS,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": None,
        "eos_token_id": token_ids()["<|end|>"],
    }


def _byte_symbols() -> list[str]:
    """The printable character that byte-level BPE writes for each byte, by the byte's value (as in GPT-2)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def token_ids() -> dict[str, int]:
    """Token ids by symbol: the special tokens, the 256 bytes, then the words of the answer."""
    symbols = _byte_symbols()
    words = ["".join(symbols[byte] for byte in word.encode()) for word in ANSWER_TOKENS if len(word) > 1]
    return {token: number for number, token in enumerate((*_SPECIAL_TOKENS, *symbols, *words))}


def _tokenizer() -> dict[str, Any]:
    ids = token_ids()
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": ids[token],
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token in _SPECIAL_TOKENS
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": False,
        },
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": ids,
            "merges": [],
        },
    }


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT_TOKENS,
        "eos_token": "<|end|>",
        "pad_token": "<|end|>",
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


Tensor: TypeAlias = "tuple[tuple[int, ...], array[float]]"


def tensors() -> Iterator[tuple[str, Tensor]]:
    """Name, shape and values of each weight, the same on every machine."""
    source = random.Random("freehold tiny model")  # noqa: S311 - weights, not secrets

    def noise(*shape: int, width: float = 0.02) -> Tensor:
        # Only random() is promised to give the same numbers in every version of Python.
        values = (width * (2 * source.random() - 1) for _ in range(math.prod(shape)))
        return shape, array("f", values)

    def ones(size: int) -> Tensor:
        return (size,), array("f", [1.0] * size)

    embedding = noise(VOCABULARY, HIDDEN)
    output = noise(VOCABULARY, HIDDEN)
    _lay_out_answer(embedding[1], output[1], source)
    yield "model.embed_tokens.weight", embedding
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", ones(HIDDEN)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield f"{prefix}self_attn.{name}.weight", noise(HIDDEN, HIDDEN)
        yield prefix + "post_attention_layernorm.weight", ones(HIDDEN)
        for name in ("gate_proj", "up_proj"):
            yield f"{prefix}mlp.{name}.weight", noise(INTERMEDIATE, HIDDEN)
        yield prefix + "mlp.down_proj.weight", noise(HIDDEN, INTERMEDIATE)
    yield "model.norm.weight", ones(HIDDEN)
    yield "lm_head.weight", output


def _lay_out_answer(embedding: array[float], output: array[float], source: random.Random) -> None:
    """Give each word of the answer a dimension of its own, which the output layer reads as the next word.

    Dimension 0 is shared by all other tokens and leads to the first word. What is left of the dimensions
    tells bytes apart.
    """
    ids = token_ids()
    symbols = _byte_symbols()
    answer = [ids["".join(symbols[byte] for byte in word.encode())] for word in ANSWER_TOKENS]
    following = [*answer[1:], ids["<|end|>"]]
    first_free = len(answer) + 1
    for token in set(range(VOCABULARY)) - set(answer):
        embedding[token * HIDDEN] = _STRENGTH / 2
        for dimension in range(first_free, HIDDEN):
            embedding[token * HIDDEN + dimension] = 2 * source.random() - 1
    output[answer[0] * HIDDEN] = _STRENGTH
    for dimension, (token, successor) in enumerate(zip(answer, following, strict=True), start=1):
        embedding[token * HIDDEN + dimension] = _STRENGTH
        output[successor * HIDDEN + dimension] = _STRENGTH


def _safetensors(named: dict[str, Tensor]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for name, (shape, values) in named.items():
        start = len(body)
        body += _bfloat16(values)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, len(body)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(body)


def _bfloat16(values: array[float]) -> bytes:
    """The upper half of each 32-bit float, little-endian."""
    single = struct.pack(f"<{len(values)}f", *values)
    halves = bytearray(len(single) // 2)
    halves[0::2] = single[2::4]
    halves[1::2] = single[3::4]
    return bytes(halves)


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
