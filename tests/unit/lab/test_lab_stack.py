"""The lab's stack file fits what the lab serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from freehold.lab.tiny_gguf import write_tiny_gguf
from freehold.lab.tiny_model import write_tiny_model
from freehold.schema.load import load_stack


def test_the_stack_names_every_file_of_the_tiny_model_with_its_checksum(tmp_path: Path) -> None:
    settings = load_stack("lab").stack.services["vllm"]

    assert settings is not None
    assert {file["name"]: file["sha256"] for file in settings["model_files"]} == write_tiny_model(tmp_path)
    assert all(file["url"].endswith(f"/models/tiny/{file['name']}") for file in settings["model_files"])


@pytest.mark.parametrize("stack", ["lab", "molecule/ollama/stack.yml"])
def test_ollama_gets_the_tiny_model_with_its_checksum(tmp_path: Path, stack: str) -> None:
    path = stack if "/" not in stack else str(Path(__file__).parents[3] / stack)
    settings = load_stack(path).stack.services["ollama"]

    assert settings is not None
    found = {
        model["url"].rpartition("/models/tiny-gguf/")[2]: model["sha256"] for model in settings["models"]
    }
    assert found == write_tiny_gguf(tmp_path)
