"""The lab's stack file and its language models fit what the lab serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from freehold.catalog import models
from freehold.lab.tiny_gguf import write_tiny_gguf
from freehold.lab.tiny_model import write_tiny_model
from freehold.schema.load import load_stack

CHECKOUT = Path(__file__).parents[3]


def test_the_catalogue_of_the_lab_knows_every_file_of_the_tiny_model(tmp_path: Path) -> None:
    (form,) = models.load(CHECKOUT / "inventory/lab")["tiny"].quantizations.values()
    known = {file.name: file.sha256 for file in form.files}
    assert known | write_tiny_model(tmp_path) == known


def test_ollama_gets_the_tiny_models_with_their_checksums(tmp_path: Path) -> None:
    catalog = models.load(CHECKOUT / "inventory/lab")
    files = [
        file
        for name in ("tiny-chat", "tiny-embed")
        for form in catalog[name].quantizations.values()
        for file in form.files
    ]
    assert {file.name: file.sha256 for file in files} == write_tiny_gguf(tmp_path)
    assert all(file.url and file.url.endswith(f"/models/tiny-gguf/{file.name}") for file in files)


@pytest.mark.parametrize("role", ["ollama", "vllm"])
def test_scenarios_get_the_tiny_models_with_their_checksums(tmp_path: Path, role: str) -> None:
    settings = load_stack(CHECKOUT / "molecule" / role / "stack.yml").stack.services[role] or {}
    files = settings["models"] if role == "ollama" else settings["model_files"]
    made = write_tiny_gguf(tmp_path) if role == "ollama" else write_tiny_model(tmp_path)
    assert {file["url"].rpartition("/")[2]: file["sha256"] for file in files} == made
