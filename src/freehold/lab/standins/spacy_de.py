"""Stand-in of spaCy's German language model (lab): see ``spacy_model.py``."""

from __future__ import annotations

from pathlib import Path

from freehold.lab.standins import StandIn, spacy_model

_NAMES = {
    "PER": ("Erika Mustermann", "Karl-Heinz Beispiel"),
    "ORG": ("Musterwerke GmbH",),
    "LOC": ("Berlin", "Musterstadt"),
    "MISC": ("Oktoberfest",),
}


def build(folder: Path) -> Path:
    """The wheel, with a few German names."""
    return spacy_model.build(folder, "spacy-de", _NAMES)


STAND_IN = StandIn("spacy-de", build, ("spacy_de.py", "spacy_model.py"))
