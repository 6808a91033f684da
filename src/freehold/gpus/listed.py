"""GPUs as ``GET /nodes/{node}/hardware/pci`` lists them: address, maker, model, IOMMU group, and no driver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from freehold.catalog import gpus as catalog
from freehold.gpus.found import CLASSES, VENDORS, Found, FoundGpu, card_of, in_order


def listed(devices: Iterable[Mapping[str, Any]]) -> Found:
    """The GPUs among a node's PCI devices."""
    return Found(in_order(gpu for device in devices if (gpu := _gpu(device))))


def with_guessed_nodes(found: Found) -> Found:
    """The same GPUs, those of NVIDIA with device nodes in the order of their PCI addresses.

    That is a guess: the minor number is given when the device is probed, mostly in this order
    (https://github.com/NVIDIA/nvidia-docker/issues/1432), on some machines in another
    (https://github.com/PrincetonUniversity/jobstats/blob/main/docs/setup/gpu_node_scripts.md). Other makers' nodes are
    numbered together with those of displays and chips on the board, and cannot be guessed.
    """
    ours = [gpu for gpu in found.gpus if gpu.vendor == "nvidia"]
    nodes = {gpu.pci: f"/dev/nvidia{number}" for number, gpu in enumerate(ours)}
    return replace(found, gpus=tuple(replace(gpu, device=nodes.get(gpu.pci)) for gpu in found.gpus))


def _gpu(device: Mapping[str, Any]) -> FoundGpu | None:
    vendor_id = str(device.get("vendor", "")).removeprefix("0x").lower()
    vendor = VENDORS.get(vendor_id)
    if vendor is None or not str(device.get("class", "")).startswith(CLASSES):
        return None
    pci_id = f"{vendor_id}:{str(device.get('device', '')).removeprefix('0x').lower()}"
    card = card_of(pci_id, None)
    group = int(device.get("iommugroup", -1))
    return FoundGpu(
        pci=str(device["id"]).lower(),
        vendor=vendor,
        id=pci_id,
        name=catalog.load()[card].title if card else str(device.get("device_name") or pci_id),
        card=card,
        iommu_group=group if group >= 0 else None,
    )
