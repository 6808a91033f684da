"""The tiny model of the lab is the same everywhere and is a well-formed Llama that answers one sentence."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pytest

from freehold.lab.tiny_model import ANSWER, TinyModelError, write_tiny_model

WEIGHTS_SHA256 = "308c459b8c9b91292e79a5cfce7cf33689b91117a20b10294a18ab5fde786b09"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    write_tiny_model(directory)
    return directory


def tensors(directory: Path) -> dict[str, tuple[list[int], list[float]]]:
    content = (directory / "model.safetensors").read_bytes()
    (header_length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + header_length])
    body = content[8 + header_length :]
    found = {}
    end = 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, stop = entry["data_offsets"]
        assert entry["dtype"] == "BF16"
        assert start == end, "tensors lie without gaps, as the format asks"
        assert stop - start == 2 * math.prod(entry["shape"])
        halves = struct.unpack(f"<{(stop - start) // 2}H", body[start:stop])
        found[name] = (
            entry["shape"],
            [struct.unpack("<f", struct.pack("<I", half << 16))[0] for half in halves],
        )
        end = stop
    assert end == len(body)
    return found


def test_the_weights_are_the_same_on_every_machine_and_python(model: Path) -> None:
    assert write_tiny_model(model)["model.safetensors"] == WEIGHTS_SHA256


def test_writing_again_leaves_equal_files_alone_and_repairs_others(tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    before = (tmp_path / "model.safetensors").stat().st_mtime_ns
    write_tiny_model(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "llama"
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == before


def test_each_tensor_has_the_shape_that_the_configuration_says(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    hidden, inner, vocabulary = (config[key] for key in ("hidden_size", "intermediate_size", "vocab_size"))
    shapes = {name: tuple(shape) for name, (shape, _) in tensors(model).items()}
    assert shapes["model.embed_tokens.weight"] == shapes["lm_head.weight"] == (vocabulary, hidden)
    for layer in range(config["num_hidden_layers"]):
        assert shapes[f"model.layers.{layer}.self_attn.q_proj.weight"] == (hidden, hidden)
        assert shapes[f"model.layers.{layer}.mlp.down_proj.weight"] == (hidden, inner)
    assert len(shapes) == 3 + 9 * config["num_hidden_layers"]


def test_the_likeliest_tokens_spell_the_answer_and_then_stop(model: Path) -> None:
    """Follows embedding, final norm and output layer; the layers between are too weak to change the order."""
    config = json.loads((model / "config.json").read_text())
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    names = {number: token for token, number in tokenizer["model"]["vocab"].items()}
    assert len(names) <= config["vocab_size"]
    weights = tensors(model)
    hidden = config["hidden_size"]
    embedding, output = weights["model.embed_tokens.weight"][1], weights["lm_head.weight"][1]
    token = next(t["id"] for t in tokenizer["added_tokens"] if t["content"] == "<|assistant|>")
    said: list[str] = []
    while token != config["eos_token_id"]:
        state = embedding[token * hidden : (token + 1) * hidden]
        scale = math.sqrt(sum(value * value for value in state) / hidden)
        scores = [
            sum(x * y for x, y in zip(state, output[row * hidden : (row + 1) * hidden], strict=True)) / scale
            for row in range(config["vocab_size"])
        ]
        token, runner_up = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)[:2]
        assert scores[token] - scores[runner_up] > 20, "no temperature in use makes another word likely"
        if token != config["eos_token_id"]:
            said.append(names[token].replace("Ġ", " "))
    assert "".join(said) == ANSWER


def test_a_directory_that_cannot_be_made_is_a_readable_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(TinyModelError) as caught:
        write_tiny_model(tmp_path / "taken" / "model")
    assert caught.value.remedy
    assert str(tmp_path) in str(caught.value.where)
