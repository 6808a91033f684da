"""GPUs as a node itself tells of them: one small shell script, and what its output means.

It reads what every kernel has (``/sys``), and more where NVIDIA's driver is loaded: ``/proc/driver/nvidia`` for the
number of each device node, ``nvidia-smi`` for UUIDs and VRAM. It works where no driver is installed, and changes nothing
(but that ``nvidia-smi``, called by root, makes device nodes which are missing).

Sources: Documentation/ABI/testing/sysfs-bus-pci and Documentation/gpu/amdgpu/driver-misc.rst of Linux; README of NVIDIA's
driver, chapter "The /proc File System Interface"; ``nvidia-smi --help-query-gpu``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from freehold.catalog import gpus as catalog
from freehold.gpus.found import VENDORS, Found, FoundGpu, card_of, in_order

SMI_TIMEOUT = 30
"""Seconds after which ``nvidia-smi`` is given up: a GPU that fell off its bus can let it hang."""

SCRIPT = rf"""
LC_ALL=C; export LC_ALL
value() {{ [ -r "$1" ] && {{ read -r text < "$1" || [ -n "$text" ]; }} && echo "$text"; }}
base() {{ [ -L "$1" ] && basename "$(readlink "$1")"; }}
echo '== devices'
for slot in /sys/bus/pci/devices/*; do
    case "$(value "$slot/class")" in 0x0300*|0x0302*|0x0380*) ;; *) continue ;; esac
    render=; for node in "$slot"/drm/renderD*; do [ -e "$node" ] && render="${{node##*/}}"; done
    printf '%s|%s|%s|%s|%s|%s|%s|%s|%s\n' "${{slot##*/}}" "$(value "$slot/vendor")" "$(value "$slot/device")" \
        "$(base "$slot/driver")" "$(base "$slot/iommu_group")" "$(value "$slot/numa_node")" "$render" \
        "$(value "$slot/mem_info_vram_total")" "$(value "$slot/unique_id")"
done
echo '== names'
command -v lspci >/dev/null 2>&1 && lspci -Dnn | grep -E '\[03(00|02|80)\]:'
echo '== version'
cat /proc/driver/nvidia/version 2>/dev/null
for file in /proc/driver/nvidia/gpus/*/information; do
    [ -r "$file" ] || continue
    slot="${{file%/information}}"; echo "== information ${{slot##*/}}"; cat "$file"
done
if [ -d /proc/driver/nvidia ] && command -v nvidia-smi >/dev/null 2>&1; then
    echo '== smi'
    timeout {SMI_TIMEOUT} nvidia-smi --query-gpu=pci.bus_id,uuid,name,memory.total,driver_version \
        --format=csv,noheader,nounits 2>&1 || echo "nvidia-smi ended with $?"
fi
echo '== end'
"""
"""What is run on the node; POSIX sh."""

_SECTION = re.compile(r"== (\w+) ?(\S*)")
_NAME = re.compile(r"(\S+) [^\[]*\[[0-9a-f]{4}\]: (.+?) \[[0-9a-f]{4}:[0-9a-f]{4}\]")
_VERSION = re.compile(r"NVRM version: .*?\s(\d+\.\d+(?:\.\d+)?)\s")
_UUID = re.compile(r"GPU-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass
class _Told:
    """The script's output by section."""

    lines: dict[str, list[str]] = field(default_factory=dict)
    information: dict[str, dict[str, str]] = field(default_factory=dict)


def parse(output: str) -> Found | None:
    """The GPUs that the script found; none where it did not come to its end."""
    told = _sections(output)
    if "end" not in told.lines:
        return None
    names = {
        m.group(1).lower(): m.group(2) for line in told.lines.get("names", []) if (m := _NAME.match(line))
    }
    smi, complaints = _smi(told.lines.get("smi", []))
    version = next((m.group(1) for line in told.lines["version"] if (m := _VERSION.search(line + " "))), None)
    gpus = (
        _gpu(line.split("|"), names, told.information, smi, version)
        for line in told.lines.get("devices", [])
        if line.split("|")[1].removeprefix("0x") in VENDORS
    )
    return Found(in_order(gpus), complaints=tuple(complaints), asked=True)


def _sections(output: str) -> _Told:
    told = _Told()
    here: list[str] = []
    for line in output.splitlines():
        if match := _SECTION.fullmatch(line.rstrip()):
            here = told.lines.setdefault(" ".join(filter(None, match.groups())), [])
        elif line.strip():
            here.append(line)
    for name, lines in told.lines.items():
        if name.startswith("information "):
            pairs = (line.partition(":") for line in lines)
            told.information[_address(name.partition(" ")[2])] = {k.strip(): v.strip() for k, _, v in pairs}
    return told


def _smi(lines: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Answers of ``nvidia-smi`` by PCI address, and lines that are none."""
    answers: dict[str, list[str]] = {}
    complaints: list[str] = []
    for line in lines:
        fields = [text.strip() for text in line.split(",")]
        if len(fields) == 5 and fields[0].count(":") == 2:
            answers[_address(fields[0])] = fields[1:]
        else:
            complaints.append(line.strip())
    return answers, complaints


def _address(text: str) -> str:
    """A PCI address as the kernel writes it; ``nvidia-smi`` writes eight digits for the domain, and capitals."""
    domain, _, rest = text.lower().partition(":")
    return f"{domain[-4:]:0>4}:{rest}"


def _gpu(
    fields: list[str],
    names: Mapping[str, str],
    information: Mapping[str, Mapping[str, str]],
    smi: Mapping[str, list[str]],
    version: str | None,
) -> FoundGpu:
    pci, vendor_id, device_id, driver, group, numa, render, vram, unique = fields
    vendor_id, device_id = vendor_id.removeprefix("0x"), device_id.removeprefix("0x")
    vendor, pci_id = VENDORS[vendor_id], f"{vendor_id}:{device_id}"
    told = information.get(pci, {}) if driver == "nvidia" else {}
    uuid, name, memory, smi_version = smi.get(pci, ["", "", "", ""])
    mib = int(memory) if memory.isdecimal() else int(vram) // 2**20 if vram.isdecimal() else None
    card = card_of(pci_id, mib)
    return FoundGpu(
        pci=pci,
        vendor=vendor,
        id=pci_id,
        name=name or told.get("Model") or (catalog.load()[card].title if card else names.get(pci, pci_id)),
        card=card,
        memory=mib,
        uuid=next(_uuids(uuid, told.get("GPU UUID", ""), f"GPU-{unique}" if vendor == "amd" else ""), None),
        driver=driver or None,
        driver_version=(smi_version or version) if driver == "nvidia" else None,
        device=_device(vendor, driver, told, render),
        iommu_group=int(group) if group.isdecimal() else None,
        numa_node=int(numa) if numa.isdecimal() else None,
    )


def _uuids(*texts: str) -> Iterator[str]:
    """What is a UUID: before a GPU was used for the first time, the driver writes question marks for it."""
    for text in texts:
        # AMD's is its unique id, as rocminfo writes it (16 digits)
        if _UUID.fullmatch(text) or re.fullmatch(r"GPU-[0-9a-f]{16}", text):
            yield text


def _device(vendor: str, driver: str, told: Mapping[str, str], render: str) -> str | None:
    if vendor == "nvidia":
        minor = told.get("Device Minor", "")
        return f"/dev/nvidia{minor}" if minor.isdecimal() else None
    return f"/dev/dri/{render}" if render and driver != "vfio-pci" else None
