"""Detection over recorded outputs of real machines."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from freehold.gpus import listed, probe
from freehold.gpus.found import FoundGpu, card_of

from .recorded import DATA, MACHINES, api, found, probed, tree

NVIDIA: dict[str, Any] = {"vendor": "nvidia", "driver": "nvidia"}
RTX_4090 = NVIDIA | {
    "id": "10de:2684", "name": "NVIDIA GeForce RTX 4090", "card": "rtx-4090", "memory": 24564, "driver_version": "580.126.20"
}  # fmt: skip
RTX_3090 = NVIDIA | {
    "id": "10de:2204", "name": "NVIDIA GeForce RTX 3090", "card": "rtx-3090", "memory": 24576, "driver_version": "590.48.01"
}  # fmt: skip
A100 = NVIDIA | {"id": "10de:20b2", "driver_version": "535.129.03"}

EXPECTED: dict[str, list[dict[str, Any]]] = {
    "rtx-4090-twice": [
        RTX_4090 | {"pci": "0000:3b:00.0", "uuid": "GPU-33f5f413-57a2-5cf8-5aa0-7d60d5ee907a", "device": "/dev/nvidia0"},
        RTX_4090 | {"pci": "0000:86:00.0", "uuid": "GPU-9bd37703-4d1f-1565-6e12-6630229223e5", "device": "/dev/nvidia1"},
    ],
    # what nvidia-smi cannot tell of a lost GPU, the driver's own files still do
    "rtx-4090-fallen": [
        RTX_4090 | {"pci": "0000:3b:00.0", "uuid": "GPU-33f5f413-57a2-5cf8-5aa0-7d60d5ee907a", "device": "/dev/nvidia0", "memory": None},
        RTX_4090 | {"pci": "0000:86:00.0", "uuid": "GPU-9bd37703-4d1f-1565-6e12-6630229223e5", "device": "/dev/nvidia1"},
    ],
    "rtx-3090-swapped": [
        RTX_3090 | {"pci": "0000:05:00.0", "uuid": "GPU-e1924eea-b9bb-d537-39f2-b345087fa145", "device": "/dev/nvidia1"},
        RTX_3090 | {"pci": "0000:0a:00.0", "uuid": "GPU-899c71bf-27be-b6a0-ae8f-d8afe5ba0f85", "device": "/dev/nvidia0"},
    ],
    "a100-eight": [
        A100 | {"pci": f"0000:{bus}:00.0", "device": f"/dev/nvidia{minor}", "card": "a100-80-sxm"}
        for bus, minor in zip(("07", "0b", "48", "4c", "88", "8b", "c8", "cb"), (2, 3, 0, 1, 6, 7, 4, 5), strict=True)
    ],
    # neither the display chip of the board, nor the render node of NVIDIA's card
    "pve-mixed": [
        RTX_3090 | {"pci": "0000:01:00.0", "uuid": "GPU-eaf23aa1-4d3d-596c-da66-b86b0e5db584", "device": "/dev/nvidia0"},
        {"pci": "0000:09:00.0", "vendor": "amd", "id": "1002:1638", "driver": "amdgpu", "device": "/dev/dri/renderD128", "card": None},
    ],
    "h200-mig": [
        NVIDIA | {"pci": "0000:2a:00.0", "id": "10de:2335", "name": "NVIDIA H200", "card": "h200", "memory": 143771,
                  "uuid": "GPU-b2acda36-db78-a209-f9ef-d07b4336c449", "device": "/dev/nvidia0", "driver_version": "570.86.15"},
    ],
    "gtx-1080-vfio": [
        {"pci": "0000:09:00.0", "vendor": "nvidia", "id": "10de:1b80", "driver": "vfio-pci", "card": None, "device": None, "uuid": None,
         "name": "NVIDIA Corporation GP104 [GeForce GTX 1080]", "driver_version": None, "memory": None},
    ],
    "rtx-3080-nouveau": [
        {"pci": "0000:09:00.0", "vendor": "nvidia", "id": "10de:2206", "driver": "nouveau", "device": None, "uuid": None},
    ],
    "rx-7900-xtx": [
        {"pci": "0000:03:00.0", "vendor": "amd", "id": "1002:744c", "driver": "amdgpu", "memory": 24560,
         "uuid": "GPU-3d4595974090853c", "device": "/dev/dri/renderD128"},
    ],
    "arc-a770": [
        {"pci": "0000:09:00.0", "vendor": "intel", "id": "8086:56a0", "driver": "i915", "device": "/dev/dri/renderD129", "iommu_group": 19},
    ],
}  # fmt: skip


def test_every_recorded_machine_has_its_expectation() -> None:
    assert sorted(EXPECTED) == MACHINES


@pytest.mark.parametrize("machine", MACHINES)
def test_the_machine_itself_tells(machine: str, tmp_path: Path) -> None:
    there = found(machine, tmp_path)
    assert there.asked
    shown = [
        {key: gpu.as_dict()[key] for key in wanted}
        for gpu, wanted in zip(there.gpus, EXPECTED[machine], strict=True)
    ]
    assert shown == EXPECTED[machine]


@pytest.mark.parametrize("machine", MACHINES)
def test_the_api_alone_tells_where_which_gpus_are(machine: str) -> None:
    there = listed.listed(api(machine))
    assert not there.asked
    same = ("pci", "vendor", "id")
    assert [tuple(gpu.as_dict()[key] for key in same) for gpu in there.gpus] == [
        tuple(wanted[key] for key in same) for wanted in EXPECTED[machine]
    ]
    assert {gpu.driver for gpu in there.gpus} == {None}


def test_a_lost_gpu_is_complained_of(tmp_path: Path) -> None:
    (complaint,) = found("rtx-4090-fallen", tmp_path).complaints
    assert complaint.startswith("Unable to determine the device handle")
    assert found("rtx-4090-twice", tmp_path / "other").complaints == ()


def test_uuids_are_those_that_nvidia_smi_lists(tmp_path: Path) -> None:
    """And instances of a divided GPU are no GPUs."""
    for machine in ("rtx-4090-twice", "rtx-3090-swapped", "h200-mig"):
        lines = (DATA / machine / "nvidia-smi-L.txt").read_text()
        uuids = re.findall(r"^GPU \d+: .*UUID: (\S+)\)", lines, re.MULTILINE)
        assert [gpu.uuid for gpu in found(machine, tmp_path / machine).gpus] == uuids


def test_amd_s_own_tool_says_the_same(tmp_path: Path) -> None:
    (card,) = json.loads((DATA / "rx-7900-xtx/rocm-smi.json").read_text()).values()
    (gpu,) = found("rx-7900-xtx", tmp_path).gpus
    assert gpu.pci == card["PCI Bus"].lower()
    assert gpu.uuid == f"GPU-{card['Unique ID'].removeprefix('0x')}"
    assert gpu.memory == int(card["VRAM Total Memory (B)"]) // 2**20


def test_without_a_driver_s_tools_the_rest_is_known(tmp_path: Path) -> None:
    root = tree("rtx-3090-swapped", tmp_path)
    for command in ("nvidia-smi", "lspci"):
        (root / "bin" / command).unlink()
    there = probe.parse(probed(root))
    assert there is not None
    assert [(gpu.device, gpu.name, gpu.memory) for gpu in there.gpus] == [
        ("/dev/nvidia1", "NVIDIA GeForce RTX 3090", None),
        ("/dev/nvidia0", "NVIDIA GeForce RTX 3090", None),
    ]
    assert [gpu.uuid for gpu in there.gpus] == ["GPU-e1924eea-b9bb-d537-39f2-b345087fa145", None]


def test_a_machine_without_gpus(tmp_path: Path) -> None:
    (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    there = probe.parse(probed(tmp_path))
    assert there is not None
    assert there.gpus == ()


@pytest.mark.parametrize(
    "output", ["", "bash: nvidia-smi: command not found", "== devices\n0000:01:00.0|0x10de"]
)
def test_output_that_was_cut_off_is_none(output: str) -> None:
    assert probe.parse(output) is None


def test_a_driver_that_does_not_fit_its_library_complains(tmp_path: Path) -> None:
    root = tree("rtx-4090-twice", tmp_path)
    (root / "bin/nvidia-smi").write_text(
        "#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n"
    )
    there = probe.parse(probed(root))
    assert there is not None
    assert "Driver/library version mismatch" in there.complaints[0]
    assert [gpu.device for gpu in there.gpus] == ["/dev/nvidia0", "/dev/nvidia1"]


def test_what_cannot_be_asked_is_guessed_for_nvidia_alone() -> None:
    (nvidia, amd) = listed.with_guessed_nodes(listed.listed(api("pve-mixed"))).gpus
    assert (nvidia.device, amd.device) == ("/dev/nvidia0", None)


def test_find() -> None:
    there = listed.listed(api("pve-mixed"))
    assert there.find("0000:01:00.0", "GPU-of-another") == there.gpus[0]
    assert there.find("0000:02:00.0", None) is None
    assert there.find(None, None) is None


def test_a_card_is_known_by_its_pci_id_and_its_memory() -> None:
    assert card_of("10de:2684", None) == "rtx-4090"
    assert card_of("10de:2684", 24564) == "rtx-4090"
    assert card_of("10de:2684", 49140) is None, "a card with more memory soldered on is another card"
    assert card_of("10de:ffff", 24564) is None


def test_titles() -> None:
    gpu = FoundGpu(pci="0000:01:00.0", vendor="nvidia", id="10de:2684", name="NVIDIA GeForce RTX 4090")
    assert gpu.title == "0000:01:00.0 (NVIDIA GeForce RTX 4090)"
    assert not gpu.computes
