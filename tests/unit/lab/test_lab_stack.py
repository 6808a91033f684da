"""The lab's stack file fits what the lab serves."""

from __future__ import annotations

from pathlib import Path

from freehold.lab.tiny_model import write_tiny_model
from freehold.schema.load import load_stack


def test_the_stack_names_every_file_of_the_tiny_model_with_its_checksum(tmp_path: Path) -> None:
    settings = load_stack("lab").stack.services["vllm"]

    assert settings is not None
    assert {file["name"]: file["sha256"] for file in settings["model_files"]} == write_tiny_model(tmp_path)
    assert all(file["url"].endswith(f"/models/tiny/{file['name']}") for file in settings["model_files"])
