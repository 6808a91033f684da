"""What licences allow, of language models and of services. Data: ``catalog/licences.yml``. Evidence, and not legal advice."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from freehold.catalog import data

_DATA = Path(__file__).parent / "licences.yml"


class Clause(BaseModel):
    """A limit, and the words that set it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    clause: str
    """Where it stands, such as ``section 2, Additional Commercial Terms``."""
    says: str
    """What it says, in one sentence."""


class UserLimit(Clause):
    """A number of users beyond which the licence does not allow the use as it is."""

    more_than: Annotated[int, Field(gt=0)]
    """Users; more than this is not allowed."""


class RegionLimit(Clause):
    """Where the licence gives no rights."""

    regions: tuple[str, ...]
    """Countries (ISO 3166-1 alpha-2), or ``EU``."""


class Condition(Clause):
    """A limit that a stack file says too little of: it is shown, and not judged."""

    customers: bool = False
    """Whether it matters only where the stack is offered to customers."""


class Licence(BaseModel):
    """One licence. What is left out is unknown, except for limits: what has none has no such limit."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    title: str
    spdx: str | None = None
    """SPDX identifier, where it has one."""
    url: str
    """Where its text stands."""
    text_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Checksum of the text at ``url``; unknown when left out."""
    commercial: bool | None = None
    """Whether it allows commercial use; unknown when left out."""
    not_commercial: Clause | None = None
    """The clause that forbids commercial use."""
    users: UserLimit | None = None
    regions: RegionLimit | None = None
    customers: Clause | None = None
    """The clause that forbids offering it to customers as a service."""
    rebranding: UserLimit | None = None
    """The clause that forbids removing the maker's name."""
    conditions: tuple[Condition, ...] = ()
    """Limits that a person has to judge."""
    attribution: str = ""
    """What must be shown to those to whom it is offered, word for word."""
    source: str
    """Who read the text, where, and when."""

    @model_validator(mode="after")
    def _says_what_forbids(self) -> Self:
        if (self.commercial is False) != (self.not_commercial is not None):
            raise ValueError("commercial: false and not_commercial belong together")
        return self


@cache
def load() -> Mapping[str, Licence]:
    """All known licences by name.

    Raises:
        FreeholdError: The data file does not say what it must.
    """
    return data.entries(_DATA, Licence, "name")
