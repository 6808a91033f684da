"""Stand-in of spaCy's language models (lab): real pipelines of spaCy that know a few names by heart and have learnt nothing.

What is built has the place of its files in the wheels of https://github.com/explosion/spacy-models: below
``<name>/<name>-<version>/``, with ``config.cfg``, ``meta.json`` and one folder for each component. The component is spaCy's
``entity_ruler`` (https://spacy.io/api/entityruler), with the labels that the real language model of the language has.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from freehold.catalog import versions

_CONFIG = """\
# Stand-in of the lab: knows a few names by heart and has learnt nothing.
[nlp]
lang = "{language}"
pipeline = ["entity_ruler"]
disabled = []
before_creation = null
after_creation = null
after_pipeline_creation = null
batch_size = 1000

[nlp.tokenizer]
@tokenizers = "spacy.Tokenizer.v1"

[components]

[components.entity_ruler]
factory = "entity_ruler"
"""


def _text(text: str) -> bytes:
    """A short text in msgpack (https://github.com/msgpack/msgpack/blob/master/spec.md#str-format-family)."""
    return bytes([0xA0 | len(text.encode())]) + text.encode()


_TOKENIZER = b"\x82" + b"".join(
    map(_text, ("prefix_search", r"""^[(\["'„»]""", "suffix_search", r"""[.,;:!?)\]"'“«]$"""))
)
"""What spaCy's tokenizer takes off the beginning and the end of words, as it keeps it: msgpack."""


def build(folder: Path, artifact: str, names: Mapping[str, Sequence[str]]) -> Path:
    """The wheel of a language model that knows names by their labels; the same whenever it is made of the same."""
    entry = versions.load()[artifact]
    file = folder / Path(urlsplit(str(entry.url)).path).name
    name = file.name.partition("-")[0]
    inner = f"{name}/{name}-{entry.version}"
    language, _, rest = name.partition("_")
    meta = {
        "lang": language,
        "name": rest,
        "version": entry.version,
        "spacy_version": ">=3.8.0,<3.9.0",
        "description": "STAND-IN of the lab: knows a few names by heart and has learnt nothing.",
    }
    patterns = [{"label": label, "pattern": each} for label, known in names.items() for each in known]
    content = {
        f"{name}/__init__.py": b"# Stand-in of the lab.\n",
        f"{inner}/config.cfg": _CONFIG.format(language=language).encode(),
        f"{inner}/meta.json": json.dumps(meta, indent=2).encode(),
        f"{inner}/tokenizer": _TOKENIZER,
        f"{inner}/vocab/strings.json": b"[]",
        f"{inner}/entity_ruler/cfg": b"{}",
        f"{inner}/entity_ruler/patterns.jsonl": "".join(
            f"{json.dumps(pattern, ensure_ascii=False)}\n" for pattern in patterns
        ).encode(),
    }
    with zipfile.ZipFile(file, "w") as wheel:
        for path, data in content.items():
            member = zipfile.ZipInfo(path, date_time=(1980, 1, 1, 0, 0, 0))
            member.external_attr = 0o100644 << 16
            wheel.writestr(member, data)
    return file
