"""Which NVIDIA driver a kernel needs at least. Data with its sources: ``catalog/drivers.yml``."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from freehold.catalog import data

ARTIFACT = "nvidia-driver"
"""Name of the driver in ``versions.yml``: the same file serves nodes and containers."""

_DATA = Path(__file__).parent / "drivers.yml"


class Floor(BaseModel):
    """From a kernel series on, no older driver builds."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kernel: str
    """First kernel series, such as ``6.17``."""
    driver: str
    """Oldest driver that builds."""
    source: str


class Floors(BaseModel):
    """The whole table, newest kernels first."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    known: str
    """Newest kernel series that was looked at."""
    floors: tuple[Floor, ...]


def number(version: str) -> tuple[int, ...]:
    """A version of a driver or a kernel as numbers that can be compared: ``6.17.2-1-pve`` is (6, 17, 2, 1)."""
    return tuple(map(int, re.findall(r"\d+", version)))


@cache
def load() -> Floors:
    """The table.

    Raises:
        FreeholdError: The data file does not say what it must.
    """
    return data.one(_DATA, Floors)


def floor(kernel: str) -> Floor | None:
    """The oldest driver for a kernel release such as ``6.17.2-1-pve``; none for kernels older than the table."""
    series = number(kernel)[:2]
    return next((each for each in load().floors if series >= number(each.kernel)), None)


def known(kernel: str) -> bool:
    """Whether the table was made with this kernel's series in view."""
    return number(kernel)[:2] <= number(load().known)
