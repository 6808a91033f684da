"""One GPU as it was found in a node, whoever told of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from freehold.catalog import gpus as catalog

VENDORS = {"10de": "nvidia", "1002": "amd", "8086": "intel"}
"""Makers of GPUs by PCI vendor id (https://pci-ids.ucw.cz)."""
CLASSES = ("0x0300", "0x0302", "0x0380")
"""PCI classes of VGA, 3D and display controllers (https://pci-ids.ucw.cz/read/PD/03)."""
DRIVERS = {"nvidia": ("nvidia",), "amd": ("amdgpu",), "intel": ("i915", "xe")}
"""Drivers of the kernel with which a maker's GPUs compute."""
TOLERANCE = 0.05
"""Part by which drivers of different age differ in the VRAM that they report of one card."""


@dataclass(frozen=True)
class FoundGpu:
    """One GPU of a node. What nobody told of is ``None``."""

    pci: str
    """PCI address with domain and function: ``0000:01:00.0``."""
    vendor: str
    """``nvidia``, ``amd`` or ``intel``."""
    id: str
    """PCI vendor and device id: ``10de:2684``."""
    name: str
    """As its driver calls it, else as the catalogue or the list of PCI ids does."""
    card: str | None = None
    """Name in ``catalog/gpus.yml``."""
    memory: int | None = None
    """VRAM in MiB, as its driver reports it."""
    uuid: str | None = None
    driver: str | None = None
    """The kernel's driver that it is bound to: ``nvidia``, ``nouveau``, ``vfio-pci``, ``amdgpu``; none at all: ``None``."""
    driver_version: str | None = None
    device: str | None = None
    """Its own device node: ``/dev/nvidia0``, ``/dev/dri/renderD128``."""
    iommu_group: int | None = None
    numa_node: int | None = None

    @property
    def computes(self) -> bool:
        """Whether the driver that it is bound to can compute."""
        return self.driver in DRIVERS[self.vendor]

    @property
    def title(self) -> str:
        """Address and name, for people."""
        return f"{self.pci} ({self.name})"

    def as_dict(self) -> dict[str, Any]:
        """The GPU as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Found:
    """The GPUs of one node, in the order of their PCI addresses."""

    gpus: tuple[FoundGpu, ...] = ()
    complaints: tuple[str, ...] = ()
    """What ``nvidia-smi`` said instead of an answer."""
    asked: bool = False
    """Whether the machine itself was asked (over SSH), and not the API alone."""

    def find(self, pci: str | None, uuid: str | None) -> FoundGpu | None:
        """The GPU with this address, or with this UUID where the stack names it by that alone."""
        if pci is not None:
            return next((gpu for gpu in self.gpus if gpu.pci == pci), None)
        return next((gpu for gpu in self.gpus if uuid is not None and gpu.uuid == uuid), None)


def card_of(pci_id: str, memory: int | None) -> str | None:
    """The card of the catalogue with this PCI id; where several share it, the one with about this VRAM (MiB)."""
    known = [card for card in catalog.load().values() if pci_id in card.pci]
    if memory is not None:
        known = [card for card in known if alike(card.memory, memory)]
    return known[0].id if len(known) == 1 else None


def alike(expected: int, memory: int) -> bool:
    """Whether two figures of VRAM can be of one card."""
    return abs(expected - memory) <= expected * TOLERANCE


def in_order(gpus: Iterable[FoundGpu]) -> tuple[FoundGpu, ...]:
    """GPUs by their PCI addresses, whose digits are hexadecimal and of fixed width."""
    return tuple(sorted(gpus, key=lambda gpu: gpu.pci))
