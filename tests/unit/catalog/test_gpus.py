"""The GPUs that Freehold knows: what every entry must hold, and figures that nobody may change by accident."""

from __future__ import annotations

from collections import Counter

import pytest

from freehold.catalog import gpus

KNOWN = gpus.load()
PCI_VENDOR = {"nvidia": "10de", "amd": "1002", "intel": "8086"}


def test_the_gpus_our_users_meet_are_there() -> None:
    asked = {
        "rtx-3090",
        "rtx-4060-ti-16gb",
        "rtx-4090",
        "rtx-5090",
        "rtx-a6000",
        "rtx-6000-ada",
        "rtx-pro-6000",
        "l4",
    }
    asked |= {
        "l40s",
        "a10",
        "a100-40",
        "a100-80",
        "h100-pcie",
        "h100-sxm",
        "h200",
        "b200",
        "rx-7900-xtx",
        "mi300x",
    }
    assert asked <= set(KNOWN)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_an_entry_agrees_with_itself(name: str) -> None:
    gpu = KNOWN[name]
    assert gpu.source
    assert all(pci.startswith(PCI_VENDOR[gpu.vendor]) for pci in gpu.pci)
    assert (gpu.compute_capability is not None) == (gpu.vendor == "nvidia")


def test_a_pci_id_says_which_card_it_is() -> None:
    counted = Counter(pci for gpu in KNOWN.values() for pci in gpu.pci)
    assert [pci for pci, times in counted.items() if times > 1] == []


@pytest.mark.parametrize(
    ("name", "memory", "capability"),
    [
        ("rtx-3060", 12288, 8.6),
        ("rtx-4090", 24564, 8.9),
        ("rtx-5090", 32607, 12.0),
        ("l40s", 46068, 8.9),
        ("a100-80", 81920, 8.0),
        ("h100-sxm", 81559, 9.0),
        ("h200", 143771, 9.0),
        ("b200", 183359, 10.0),
    ],
)
def test_memory_is_what_nvidia_smi_reports(name: str, memory: int, capability: float) -> None:
    assert (KNOWN[name].memory, KNOWN[name].compute_capability) == (memory, capability)
