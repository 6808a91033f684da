"""The lab's stand-ins of GPUs: the probe reads them as it reads a real node, before and after two of them change places."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from freehold.gpus import probe
from freehold.lab.machine import node

FILES = Path(node.__file__).parent / "node_files"
FIRST, SECOND = "0000:41:00.0", "0000:42:00.0"


class Node:
    """The stand-ins' scripts over files in a folder. Nothing is mounted: the tree is read where it is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / "gpus").write_text((FILES / "gpus_standin.txt").read_text())
        (folder / "driver").write_text("580.105.08\n")
        for name, script in (("freehold-lab-gpus", "gpus_standin.sh"), ("nvidia-smi", "nvidia_standin.sh")):
            text = (FILES / script).read_text().replace("/opt/freehold-lab", str(folder))
            text = text.replace("/run/freehold-lab-gpus", str(folder / "run"))
            text = text.replace("/dev/nvidia", f"{folder}/dev-nvidia").replace("[ -c ", "[ -n ")
            self._command(name, text)
        self._command("mountpoint", "#!/bin/sh\n")

    def _command(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(words, env={"PATH": path}, capture_output=True, text=True, timeout=30)

    def gpus(self) -> dict[str, tuple[str | None, str | None, int | None]]:
        script = probe.SCRIPT.replace("/sys/bus/pci/devices", f"{self.folder}/run/pci")
        found = probe.parse(
            self.run("sh", "-c", script.replace("/proc/driver", f"{self.folder}/run/driver")).stdout
        )
        assert found is not None
        assert found.complaints == ()
        return {gpu.pci: (gpu.uuid, gpu.device, gpu.memory) for gpu in found.gpus}


@pytest.fixture
def there(tmp_path: Path) -> Node:
    made = Node(tmp_path)
    assert made.run("freehold-lab-gpus", "boot").returncode == 0
    return made


def uuid(number: int) -> str:
    return f"GPU-00000000-0000-4000-8000-00000000000{number}"


def test_the_api_and_the_node_tell_of_the_same_gpus(there: Node) -> None:
    assert [gpu["id"] for gpu in node.gpus()] == list(there.gpus())
    assert there.gpus() == {
        "0000:01:00.0": (uuid(0), "/dev/nvidia0", 24564),
        "0000:02:00.0": (uuid(1), "/dev/nvidia1", 24564),
        FIRST: (uuid(2), "/dev/nvidia2", 24576),
        SECOND: (uuid(3), "/dev/nvidia3", 24576),
    }


def test_the_driver_counts_two_cards_in_another_order(there: Node) -> None:
    assert there.run("freehold-lab-gpus", "swap-minors", FIRST, SECOND).returncode == 0
    gpus = there.gpus()
    assert gpus[FIRST] == (uuid(2), "/dev/nvidia3", 24576)
    assert gpus[SECOND] == (uuid(3), "/dev/nvidia2", 24576)


def test_two_cards_change_places(there: Node) -> None:
    assert there.run("freehold-lab-gpus", "swap-slots", FIRST, "0000:01:00.0").returncode == 0
    gpus = there.gpus()
    assert gpus[FIRST] == (uuid(0), "/dev/nvidia2", 24564)
    assert gpus["0000:01:00.0"] == (uuid(2), "/dev/nvidia0", 24576)


def test_only_gpus_change_places(there: Node) -> None:
    before = there.gpus()
    done = there.run("freehold-lab-gpus", "swap-slots", FIRST, "0000:99:00.0")
    assert done.returncode == 1
    assert "no two GPUs" in done.stderr
    assert there.gpus() == before


def test_nvidia_smi_lists_cards_by_address(there: Node) -> None:
    there.run("freehold-lab-gpus", "swap-minors", FIRST, SECOND)
    lines = there.run("nvidia-smi", "-L").stdout.splitlines()
    assert [line.split("UUID: ")[1] for line in lines] == [f"{uuid(number)})" for number in range(4)]
    wrong = there.run("nvidia-smi", "--query-gpu=pci.bus_id,price", "--format=csv,noheader,nounits")
    assert wrong.returncode == 2
    assert '"price" is not a valid field' in wrong.stdout
