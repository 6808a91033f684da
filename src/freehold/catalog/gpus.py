"""What Freehold knows of GPUs: memory, what they can compute, and how fast they read. Data: ``catalog/gpus.yml``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from freehold.catalog import data

_DATA = Path(__file__).parent / "gpus.yml"


class GpuModel(BaseModel):
    """One model of GPU."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    id: str
    """Name in stack files, such as ``rtx-4090``."""
    title: str
    """Name as its maker writes it, such as ``NVIDIA GeForce RTX 4090``."""
    vendor: Literal["nvidia", "amd", "intel"]
    memory: Annotated[int, Field(gt=0)]
    """VRAM in MiB, as its driver reports it."""
    compute_capability: float | None = None
    """CUDA compute capability; none for other makers."""
    bandwidth: Annotated[int, Field(gt=0)] | None = None
    """Memory bandwidth in GB/s."""
    peer_to_peer: bool | None = None
    """Whether the stock driver lets two of them exchange data directly; unknown when left out."""
    pci: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")], ...] = ()
    """PCI vendor and device ids, such as ``10de:2684``."""
    source: str


@cache
def load() -> Mapping[str, GpuModel]:
    """All known GPUs by id.

    Raises:
        FreeholdError: The data file does not say what it must.
    """
    return data.entries(_DATA, GpuModel, "id")
