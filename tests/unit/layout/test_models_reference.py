"""The page that says which of the catalogue fits which GPUs."""

from __future__ import annotations

from typing import Any

from freehold.catalog import gpus
from freehold.catalog.models import LanguageModel
from freehold.layout.models_reference import HARDWARE, page

SHAPE = {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "head_size": 128, "vocabulary": 128256}


def model(name: str, gb: float | None, **other: Any) -> LanguageModel:
    form = {"repository": "a/b", "engines": ["vllm"], "source": "test", "weights_bytes": gb and int(gb * 1e9)}
    return LanguageModel.model_validate(
        {
            "id": name,
            "title": name.title(),
            "family": "test",
            "provider": "Acme",
            "jurisdiction": "DE",
            "parameters": {"total": (gb or 1) * 1e9, "active": (gb or 1) * 1e9},
            "architecture": {**SHAPE, "context": 16384},
            "quantizations": {"fp8": form},
            "sources": {},
            **other,
        }
    )


def written(*models: LanguageModel) -> dict[str, str]:
    """The page by its headings."""
    text = page({each.id: each for each in models}, gpus.load())
    parts = [part.partition("\n") for part in text.replace("\n### ", "\n## ").split("\n## ")]
    return {heading: body for heading, _, body in parts}


def test_each_stands_where_it_fits() -> None:
    parts = written(model("small", 5), model("middle", 30), model("large", 60), model("huge", 300))
    fitting = {
        heading.split(" (")[0]: [
            name for name in ("Small", "Middle", "Large", "Huge") if f"| {name} |" in body
        ]
        for heading, body in parts.items()
    }
    assert fitting["One card of 24 GB"] == ["Small"]
    assert fitting["Two cards of 24 GB"] == ["Small", "Middle"]
    assert fitting["One card of 80 GB"] == fitting["One card of 141 GB"] == ["Small", "Middle", "Large"]
    assert "- Huge: 285 GiB of weights" in parts["None of these"]


def test_users_fall_with_the_context_and_what_it_cannot_is_left_out() -> None:
    (line,) = [
        line
        for line in written(model("small", 5))["One card of 24 GB (NVIDIA GeForce RTX 4090)"].splitlines()
        if "Small" in line
    ]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    short, long, too_long = cells[3:6]
    assert int(short) >= 2 * int(long) > 0
    assert too_long == "-"  # its own context ends at 16384
    assert cells[6] == "16,384"


def test_what_is_unknown_is_named() -> None:
    parts = written(model("riddle", None))
    assert "- Riddle: not computed, since the catalogue lacks size of the weights." in parts["None of these"]
    assert "fp8 (size unknown)" in parts["The catalogue"]


def test_other_kinds_have_a_table_of_their_own() -> None:
    parts = written(model("vectors", 1.2, kind="embedding"))
    assert "| Vectors | embedding | fp8 | vllm |" in parts["Embedding, reranking and OCR"]
    assert not any(
        "| Vectors |" in body for heading, body in parts.items() if heading.startswith(("One", "Two"))
    )


def test_the_cards_are_in_the_catalogue() -> None:
    assert {name for _, name, _ in HARDWARE} <= gpus.load().keys()
