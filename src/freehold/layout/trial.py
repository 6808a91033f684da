"""A language model in the place of another, for a window: ``inventory/<client>/trial.yml``, there while a trial runs.

``freehold models try --instead`` writes it and removes it. While it is there, the stack is laid out as if the candidate stood in
the stack file in the place of the current one: under its name, on its engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from freehold.errors import BadInputError
from freehold.schema import own
from freehold.schema.stack import ModelUse, Part, Stack

FILE = "trial.yml"


class TrialError(BadInputError):
    """A trial cannot be, or its file is wrong."""


class Trial(Part):
    """Which language model stands in for which."""

    instead: str
    """Id of the current one."""
    model: str
    """Id of the candidate."""
    until: datetime
    """When the window ends."""


def load(directory: Path) -> Trial | None:
    """The trial that runs; none where there is no file.

    Raises:
        TrialError: The file is wrong.
    """
    path = directory / FILE
    if not path.is_file():
        return None
    remedy = "Remove it: then the stack is as the stack file says."
    return own.read(path, TypeAdapter(Trial), TrialError, "The file of a trial cannot be read", remedy)


def dump(trial: Trial) -> str:
    """The text of the file."""
    head = "# A trial runs: `freehold models try --instead` removes this file when it ends, `freehold models back` as well.\n"
    return head + yaml.safe_dump(trial.model_dump(mode="json"), sort_keys=False)


def lay_over(stack: Stack, trial: Trial | None) -> Stack:
    """The stack with the candidate in the place of the current language model.

    It keeps name, engine, context and number of conversations. The form of its weights is chosen anew, and what the client
    accepted of the current one (its licence, figures that are missing) is not accepted of the candidate.

    Raises:
        TrialError: The stack has no such language model, or has the candidate already.
    """
    if trial is None:
        return stack
    if trial.instead not in stack.models or trial.model in stack.models:
        have = trial.model if trial.model in stack.models else trial.instead
        raise TrialError(
            f"The stack {'has' if have == trial.model else 'has no'} {have} under models",
            where=FILE,
            remedy="Try it beside the current one: freehold models try without --instead."
            if have == trial.model
            else "Remove the file: the stack was changed while a trial ran.",
        )
    use = stack.models[trial.instead] or ModelUse()
    stands_in = use.model_copy(
        update={
            "name": use.name or trial.instead,
            "quantization": None,
            "licence_accepted": False,
            "unsized": False,
        }
    )
    models: Mapping[str, ModelUse | None] = {
        (trial.model if name == trial.instead else name): (stands_in if name == trial.instead else each)
        for name, each in stack.models.items()
    }
    return stack.model_copy(update={"models": models})
