"""The catalogue of language models: its entries, what a client lays over them, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from freehold.catalog import licences, models
from freehold.catalog.models import LanguageModel, Quantization
from freehold.errors import BadInputError

KNOWN = models.load()
ENTRIES = pytest.mark.parametrize("model", KNOWN.values(), ids=KNOWN)
FORMS = [
    pytest.param(model, form, id=f"{name}-{key}")
    for name, model in KNOWN.items()
    for key, form in model.quantizations.items()
]

OWN = """
acme-8b:
  title: Acme 8B
  family: acme
  provider: Acme
  jurisdiction: DE
  architecture: {layers: 32, hidden: 4096, heads: 32, kv_heads: 8, head_size: 128}
  quantizations:
    bf16: {repository: acme/acme-8b, engines: [vllm], source: the files of Acme}
  sources: {architecture: config.json of acme/acme-8b}
"""


def client(folder: Path, text: str) -> Path:
    (folder / models.OVERLAY).write_text(text)
    return folder


@ENTRIES
def test_an_entry_names_its_sources(model: LanguageModel) -> None:
    figures = {
        "architecture": True,
        "parameters": model.parameters is not None,
        "languages": model.languages is not None,
        "licence": model.licence is not None,
    }
    assert {about for about, known in figures.items() if known} <= set(model.sources)
    assert all(source.strip() for source in model.sources.values())
    assert all(form.source.strip() for form in model.quantizations.values())


@ENTRIES
def test_a_licence_is_one_that_the_gate_knows(model: LanguageModel) -> None:
    assert model.licence is None or model.licence in licences.load()


@ENTRIES
def test_the_shape_holds_together(model: LanguageModel) -> None:
    shape = model.architecture
    assert bool(shape.window) == bool(shape.window_layers)
    if shape.cached_layers and shape.layers and shape.cached_layers + shape.window_layers < shape.layers:
        assert shape.state_bytes, "layers that keep no keys and values keep a state"


@ENTRIES
def test_languages_and_countries_are_codes(model: LanguageModel) -> None:
    assert re.fullmatch("[A-Z]{2}", model.jurisdiction)
    languages = model.languages or ()
    assert all(re.fullmatch("[a-z]{2,3}", language) for language in languages)
    assert len(set(languages)) == len(languages)


@pytest.mark.parametrize(("model", "form"), FORMS)
def test_files_hold_the_weights(model: LanguageModel, form: Quantization) -> None:
    if form.weights_bytes and form.files and all(file.size for file in form.files):
        assert sum(file.size or 0 for file in form.files) >= form.weights_bytes


@pytest.mark.parametrize(("model", "form"), FORMS)
def test_each_engine_can_fetch_its_form(model: LanguageModel, form: Quantization) -> None:
    assert form.engines
    if "ollama" in form.engines:
        assert form.ollama
    if {"vllm", "sglang"} & set(form.engines):
        assert form.repository or form.files


@ENTRIES
def test_the_best_quality_stands_first(model: LanguageModel) -> None:
    by_engine = {
        engine: [form.bits for form in model.quantizations.values() if engine in form.engines and form.bits]
        for engine in ("vllm", "sglang", "ollama")
    }
    assert all(bits == sorted(bits, reverse=True) for bits in by_engine.values())


def test_a_name_at_ollama_or_the_hub_stands_once() -> None:
    names = [form.ollama for model in KNOWN.values() for form in model.quantizations.values() if form.ollama]
    pairs = [
        (form.repository, key)
        for model in KNOWN.values()
        for key, form in model.quantizations.items()
        if form.repository
    ]
    assert len(set(names)) == len(names)
    assert len(set(pairs)) == len(pairs)


def test_a_clients_entry_stands_beside_ours(tmp_path: Path) -> None:
    found = models.load(client(tmp_path, OWN))
    assert found["acme-8b"].quantizations["bf16"].repository == "acme/acme-8b"
    assert found["acme-8b"].licence is None
    assert set(found) == {*KNOWN, "acme-8b"}
    assert "acme-8b" not in models.load()


def test_a_clients_figures_are_laid_over_ours_per_key(tmp_path: Path) -> None:
    overlay = """
qwen3-32b:
  quantizations:
    awq: {revision: 0123456789abcdef0123456789abcdef01234567}
    mine: {repository: acme/qwen3-32b-w8a8, engines: [vllm], source: Acme}
"""
    ours, theirs = KNOWN["qwen3-32b"], models.load(client(tmp_path, overlay))["qwen3-32b"]
    assert theirs.quantizations["awq"].revision == "0123456789abcdef0123456789abcdef01234567"
    assert theirs.quantizations["awq"].weights_bytes == ours.quantizations["awq"].weights_bytes
    assert list(theirs.quantizations) == [*ours.quantizations, "mine"]
    assert theirs.architecture == ours.architecture


def test_without_a_file_of_the_client_it_is_ours(tmp_path: Path) -> None:
    assert models.load(tmp_path) == KNOWN


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (OWN.replace("  title:", "  colour: blue\n  title:"), "acme-8b.colour"),
        (OWN.replace("layers: 32", "layers: 0"), "acme-8b.architecture.layers"),
        (OWN.replace("repository: acme/acme-8b, ", ""), "acme-8b.quantizations.bf16"),
        (OWN.replace("engines: [vllm]", "engines: [tensorrt]"), "acme-8b.quantizations.bf16.engines.0"),
        (
            OWN.replace("source: the files", "revision: main, source: the files"),
            "quantizations.bf16.revision",
        ),
        (OWN.replace("source: the files", "digest: 790764642607, source: the files"), "bf16.digest"),
        (
            "qwen3-32b: {parameters: {total: 8.0e+9, active: 9.0e+9, dense: true}}",
            "qwen3-32b.parameters.dense",
        ),
        ("qwen3-32b: 7", "not a mapping"),
        ("[", "expected"),
    ],
)
def test_what_no_entry_can_say_is_refused_with_file_and_key(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(BadInputError) as refused:
        models.load(client(tmp_path, text))
    assert key in (refused.value.answer or "")
    assert str(tmp_path / models.OVERLAY) in (refused.value.where or "")
    assert "docs/models.md" in (refused.value.remedy or "")


@pytest.mark.parametrize("name", ["../../etc/cron.d", "a/b", "Acme 8B", '"acme\\n8b"', "-acme"])
def test_an_id_is_a_name_because_paths_and_engines_have_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInputError) as caught:
        models.load(client(tmp_path, OWN.replace("acme-8b:", f"{name}:", 1)))

    assert "id: String should match pattern" in str(caught.value.answer)


def test_the_examples_of_the_documentation_load(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "models.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    found = models.load(client(tmp_path, "\n".join(examples)))
    assert found["acme-8b"].sources
    assert found["qwen3-32b"].quantizations["fp8"].compute_capability == 8.0
