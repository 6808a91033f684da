"""Stand-in of spaCy's English language model (lab): see ``spacy_model.py``."""

from __future__ import annotations

from pathlib import Path

from freehold.lab.standins import StandIn, spacy_model

_NAMES = {
    "PERSON": ("John Smith", "Jane Doe"),
    "ORG": ("Example Holdings",),
    "GPE": ("Berlin", "London"),
    "NORP": ("German",),
}


def build(folder: Path) -> Path:
    """The wheel, with a few English names."""
    return spacy_model.build(folder, "spacy-en", _NAMES)


STAND_IN = StandIn("spacy-en", build, ("spacy_en.py", "spacy_model.py"))
