"""What Freehold knows of language models: their shape, their weights, who serves them, and under which licence.

Data lies in ``catalog/language_models/*.yml``, a file per provider; ``models.yml`` in a client's folder is laid over it, per
entry and key, for that client alone, and ``models.lock.yml`` adds what was learned when weights were fetched first. Every figure has a source; what could not be verified is left out (``null``), which
means unknown: nothing is computed from it, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from freehold.catalog import data
from freehold.errors import BadInputError

OVERLAY = "models.yml"
"""Name of a client's own entries, in its folder."""
LOCK = "models.lock.yml"
"""What was learned of weights when they were fetched first, in the client's folder: written by ``run/models.py``."""

_FOLDER = Path(__file__).parent / "language_models"

Engine = Literal["vllm", "sglang", "ollama"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Repository = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=96)
]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class WeightFile(_Entry):
    """One file of a repository of weights."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$")]
    size: Annotated[int, Field(ge=0)] | None = None
    """Bytes."""
    sha256: Sha256 | None = None
    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = None
    """Where it lies, for files that no hub has."""


class Quantization(_Entry):
    """One form of the weights."""

    bits: Annotated[float, Field(gt=0, le=32)] | None = None
    """Bits per weight, on average."""
    weights_bytes: Annotated[int, Field(gt=0)] | None = None
    """Bytes of all weights as they lie on the disk, which is what they take of the GPUs together."""
    repository: Repository | None = None
    """Repository at the Hugging Face hub (vLLM, SGLang)."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    """Commit at the hub; what is unknown is asked of the hub once and then locked in the client's folder."""
    files: tuple[WeightFile, ...] = ()
    """Files with what is known of them; empty: unknown."""
    ollama: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]*$")] | None = None
    """Name in Ollama's registry."""
    digest: Sha256 | None = None
    """Digest of the manifest in Ollama's registry."""
    engines: tuple[Engine, ...]
    """Engines that serve this form."""
    compute_capability: float | None = None
    """Least CUDA compute capability, such as 8.9 for FP8 (Ada Lovelace)."""
    source: str
    """Where these figures are from."""

    @model_validator(mode="after")
    def _can_be_had(self) -> Self:
        if not (self.repository or self.ollama or self.files):
            raise ValueError("needs repository, ollama or files")
        return self


class LatentAttention(_Entry):
    """Multi-head latent attention (DeepSeek): one compressed vector per token and layer instead of keys and values."""

    rank: Annotated[int, Field(gt=0)]
    """``kv_lora_rank``."""
    rope: Annotated[int, Field(ge=0)]
    """``qk_rope_head_dim``."""
    index: Annotated[int, Field(ge=0)] = 0
    """Bytes that the indexer of sparse attention keeps of one token and layer besides, where there is one: in vLLM
    ``index_head_dim`` values of 8 bits with a scale of 32 bits per 128 of them."""


class Architecture(_Entry):
    """The shape of a language model, by the names of its ``config.json``."""

    layers: Annotated[int, Field(gt=0)] | None = None
    """All layers (``num_hidden_layers``)."""
    hidden: Annotated[int, Field(gt=0)] | None = None
    """``hidden_size``."""
    heads: Annotated[int, Field(gt=0)] | None = None
    """``num_attention_heads``."""
    kv_heads: Annotated[int, Field(gt=0)] | None = None
    """``num_key_value_heads``."""
    head_size: Annotated[int, Field(gt=0)] | None = None
    """``head_dim``."""
    vocabulary: Annotated[int, Field(gt=0)] | None = None
    """``vocab_size``."""
    context: Annotated[int, Field(gt=0)] | None = None
    """Longest context in tokens that the provider names."""
    cached_layers: Annotated[int, Field(ge=0)] | None = None
    """Layers that keep keys and values of the whole context; all of them when left out."""
    window_layers: Annotated[int, Field(ge=0)] = 0
    """Layers that keep keys and values of the last ``window`` tokens alone."""
    window: Annotated[int, Field(gt=0)] | None = None
    """Tokens of a sliding window."""
    shared_layers: Annotated[int, Field(ge=0)] = 0
    """Layers that use keys and values of another layer and keep none (``num_kv_shared_layers``)."""
    global_kv_heads: Annotated[int, Field(gt=0)] | None = None
    """``num_global_key_value_heads``: of layers that keep the whole context, where it differs from ``kv_heads``."""
    global_head_size: Annotated[int, Field(gt=0)] | None = None
    """``global_head_dim``: of layers that keep the whole context, where it differs from ``head_size``."""
    latent: LatentAttention | None = None
    state_bytes: Annotated[int, Field(gt=0)] | None = None
    """Bytes that the other layers (Mamba, gated delta networks) keep of one conversation, all of them together. For Qwen 3.5
    that is, per such layer, ``linear_num_value_heads x linear_key_head_dim x linear_value_head_dim x 4`` and
    ``(2 x linear_num_key_heads x linear_key_head_dim + linear_num_value_heads x linear_value_head_dim) x 3 x 4``."""

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.heads and self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads cannot share {self.kv_heads} kv_heads evenly")
        if self.layers and (self.cached_layers or 0) + self.window_layers + self.shared_layers > self.layers:
            raise ValueError(
                f"cached_layers, window_layers and shared_layers are more than {self.layers} layers"
            )
        return self


class Parameters(_Entry):
    """Number of parameters."""

    total: Annotated[float, Field(gt=0)]
    active: Annotated[float, Field(gt=0)]
    """Those that compute one token; the same as ``total`` unless it is a mixture of experts."""

    @model_validator(mode="after")
    def _not_more_than_all(self) -> Self:
        if self.active > self.total:
            raise ValueError("active is more than total")
        return self


class LanguageModel(_Entry):
    """One language model."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    """Name in stack files; part of the path of its weights, and what engines call it."""
    title: str
    family: str
    provider: str
    jurisdiction: str
    """Country of the provider (ISO 3166-1 alpha-2)."""
    kind: Literal["chat", "embedding", "reranking", "ocr"] = "chat"
    languages: tuple[str, ...] | None = None
    """Languages that the provider names (ISO 639-1); unknown when left out."""
    parameters: Parameters | None = None
    architecture: Architecture
    licence: str | None = None
    """Name in ``catalog/licences.yml``; unknown when left out."""
    tool_parser: str = ""
    """How it writes calls of tools, by vLLM's name; empty: not at all, or unknown."""
    reasoning_parser: str = ""
    """How it marks what it thinks, by vLLM's name; empty where it does not."""
    quantizations: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")], Quantization]
    """By name, the best quality first."""
    sources: dict[str, str]
    """Where the figures are from, by what they are about: ``architecture``, ``parameters``, ``licence``, ``languages``."""
    note: str = ""
    """What a user should know, in one sentence."""

    @model_validator(mode="after")
    def _bytes_and_bits_agree(self) -> Self:
        for name, form in self.quantizations.items():
            if self.parameters and form.bits and form.weights_bytes:
                expected = self.parameters.total * form.bits / 8
                if not 0.8 < form.weights_bytes / expected < 1.2:
                    raise ValueError(f"{name}: weights_bytes is far from parameters.total x bits / 8")
        return self


class LockedForm(_Entry):
    """One form of the weights, as it was when it was fetched first."""

    repository: Repository | None = None
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    files: tuple[WeightFile, ...] = ()
    digest: Sha256 | None = None


Lock = Mapping[str, Mapping[str, LockedForm]]
"""By id and name of the form."""


def load_lock(directory: Path) -> Lock:
    """A client's lock; empty when there is none.

    Raises:
        BadInputError: The file cannot be read.
    """
    path = directory / LOCK
    if not path.is_file():
        return {}
    try:
        return {
            name: {form: LockedForm.model_validate(known) for form, known in entry.items()}
            for name, entry in _document(path).items()
        }
    except ValidationError as error:
        raise _bad(path, str(error)) from error


def locked(entry: LanguageModel, lock: Mapping[str, LockedForm]) -> LanguageModel:
    """An entry with what the lock knows of its forms; what the entry itself says differently counts."""
    return entry.model_copy(
        update={
            "quantizations": {
                name: _locked(form, lock[name]) if name in lock else form
                for name, form in entry.quantizations.items()
            }
        }
    )


def _locked(form: Quantization, known: LockedForm) -> Quantization:
    found: dict[str, Any] = {}
    if known.digest and form.digest is None:
        found["digest"] = known.digest
    if known.repository == form.repository and form.revision in {None, known.revision}:
        own = {file.name: file for file in form.files}
        files = (
            own.get(file.name, file).model_copy(update=_given(own.get(file.name), file))
            for file in known.files
        )
        found |= {"revision": known.revision, "files": tuple(files) or form.files}
    return form.model_copy(update=found)


def _given(own: WeightFile | None, known: WeightFile) -> dict[str, Any]:
    """What the lock adds to what an entry says of a file."""
    if own is None:
        return {}
    return {key: value for key, value in known.model_dump().items() if getattr(own, key) is None}


def load(directory: Path | None = None) -> Mapping[str, LanguageModel]:
    """The catalogue by id, with the entries and the lock of a client's folder laid over it.

    Raises:
        BadInputError: A file says what no entry can say; the message names the file and the key.
    """
    found: dict[str, LanguageModel] = dict(_own())
    overlay = directory / OVERLAY if directory else None
    if overlay and overlay.is_file():
        for name, entry in _document(overlay).items():
            below = _entries()[name][1] if name in _entries() else {}
            found[name] = _validated(overlay, name, _merged(below, entry))
    for name, lock in (load_lock(directory) if directory else {}).items():
        if name in found:
            found[name] = locked(found[name], lock)
    return found


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if nested else value
    return merged


@cache
def _own() -> Mapping[str, LanguageModel]:
    return {name: _validated(path, name, entry) for name, (path, entry) in _entries().items()}


@cache
def _entries() -> Mapping[str, tuple[Path, Mapping[str, Any]]]:
    found: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    for path in sorted(_FOLDER.glob("*.yml")):
        for name, entry in _document(path).items():
            if name in found:
                raise _bad(path, f"{name}: stands in {found[name][0].name} too")
            found[name] = (path, entry)
    return found


def _document(path: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        return data.mappings(path)
    except ValueError as error:
        raise _bad(path, str(error)) from error


def _validated(path: Path, name: str, entry: Mapping[str, Any]) -> LanguageModel:
    try:
        return LanguageModel.model_validate({"id": name, **entry})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, (name, *first["loc"])))
        raise _bad(path, f"{key}: {first['msg']}") from error


def _bad(path: Path, answer: str) -> BadInputError:
    return BadInputError(
        f"{path} is no catalogue of language models",
        doing="reading the catalogue",
        where=str(path),
        answer=answer,
        remedy="docs/models.md says what an entry holds.",
    )
