"""A client's own cases: questions to a language model with what an answer must be. ``inventory/<client>/cases/*.yml``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, model_validator

from freehold.errors import BadInputError
from freehold.schema import own
from freehold.schema.stack import Part

FOLDER = "cases"


class CasesError(BadInputError):
    """There are no cases, or one is wrong."""


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return text


def _number(value: object) -> object:
    """``contains: [2025]`` is what people write."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_number), Field(min_length=1)]
Expression = Annotated[str, Field(min_length=1), AfterValidator(_expression)]


class Case(Part):
    """One question, and what its answer must be. All that is given must hold."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    """Short name; a comparison names cases by it."""
    question: Text
    """What is asked."""
    system: Text | None = None
    """What the language model is told before."""
    contains: tuple[Text, ...] = ()
    """Each of these must be in the answer; capitals do not matter."""
    contains_any: tuple[Text, ...] = ()
    """One of these must be in the answer."""
    not_contains: tuple[Text, ...] = ()
    """None of these may be in the answer."""
    matches: tuple[Expression, ...] = ()
    """Each of these regular expressions must be found in the answer (Python; capitals do not matter)."""
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    """Seconds that the whole answer may take."""
    max_words: Annotated[int, Field(gt=0)] | None = None
    """Words that the answer may have."""
    refuses: bool | None = None
    """Whether the language model must refuse (true), or must not (false). Told by phrases of refusal in six languages."""
    keeps: tuple[Text, ...] = ()
    """What must not leak: text of ``system`` or ``question`` that may not come out, not even spaced out or in other capitals."""
    max_tokens: Annotated[int, Field(gt=0)] = 1024
    """Length at which an answer is cut off."""
    repeat: Annotated[int, Field(ge=1, le=20)] = 1
    """How often it is asked. It passes when all answers do."""

    @model_validator(mode="after")
    def _expects_something(self) -> Self:
        if not self.properties():
            raise ValueError("expects nothing of the answer")
        return self

    def properties(self) -> dict[str, Any]:
        """What is expected, as plain data."""
        told = self.model_dump(
            mode="json", exclude={"name", "question", "system", "max_tokens", "repeat"}, exclude_none=True
        )
        return {name: value for name, value in told.items() if value not in ([], ())}


def load(directory: Path) -> list[Case]:
    """The cases of a client, from all files of its folder ``cases``.

    Raises:
        CasesError: There is none, two have one name, or one is wrong.
    """
    found: dict[str, Case] = {}
    for path in sorted((directory / FOLDER).glob("*.yml")):
        remedy = "See docs/model-change.md for what a case may say."
        cases = own.read(path, TypeAdapter(list[Case]), CasesError, "A case cannot be read", remedy, empty=[])
        for case in cases:
            if case.name in found:
                raise CasesError(f"Two cases are called {case.name}", where=str(path), remedy="Rename one.")
            found[case.name] = case
    if not found:
        raise CasesError(
            "The client has no cases, by which a language model could be tried",
            where=str(directory / FOLDER),
            remedy="Write some there, as docs/model-change.md shows: *.yml, each a list of {name: ..., question: ...,"
            " contains: [...]}.",
        )
    return list(found.values())
