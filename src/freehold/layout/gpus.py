"""GPUs of nodes and the device nodes that a host with a GPU gets (Proxmox VE ``devN``).

Each container gets the device nodes of its own GPUs and no others, owned by the group ``gpu`` inside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from freehold.layout.placement import Seat
from freehold.layout.types import Device
from freehold.schema.problems import KeyPath, Problem
from freehold.schema.stack import Gpu, Stack

GPU_GID = 2107
"""Group ``gpu`` in every container: one number of our own, since render groups differ between distributions."""

_FIRST_RENDER_NODE = 128
_SHARED = {
    "nvidia": ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"),
    "amd": ("/dev/kfd",),
    "intel": (),
}


@dataclass(frozen=True)
class NodeGpu:
    """One GPU of a node with its device node."""

    gpu: Gpu
    device: str
    key: KeyPath


def full_pci(address: str) -> str:
    """The PCI address with domain and function: ``01:00`` is ``0000:01:00.0``."""
    address = address if address.count(":") == 2 else f"0000:{address}"
    return address if "." in address else f"{address}.0"


def of_node(stack: Stack, node: str) -> list[NodeGpu]:
    """The GPUs of a node in the order of the stack file."""
    counts: dict[str, int] = {}
    found = []
    for position, gpu in enumerate(stack.nodes[node].gpus if node in stack.nodes else ()):
        count = counts.setdefault(gpu.vendor, 0)
        counts[gpu.vendor] += 1
        if gpu.vendor == "nvidia":
            device = f"/dev/nvidia{count if gpu.minor is None else gpu.minor}"
        else:
            device = f"/dev/dri/renderD{_FIRST_RENDER_NODE + count if gpu.minor is None else gpu.minor}"
        found.append(NodeGpu(gpu, device, ("nodes", node, "gpus", position)))
    return found


def assign(stack: Stack, seats: Iterable[Seat], problems: list[Problem]) -> dict[str, list[NodeGpu]]:
    """The GPUs of each host; what does not exist or is given twice is added to ``problems``."""
    problems += _twice_in_a_node(stack)
    owners: dict[tuple[str, str], str] = {}
    given: dict[str, list[NodeGpu]] = {}
    for seat in seats:
        gpus = of_node(stack, seat.node)
        for position, wanted in enumerate(seat.override.gpus):
            key = ("hosts", seat.name, "gpus", position)
            found = _find(gpus, wanted)
            if found is None:
                known = ", ".join(f"{n} ({full_pci(each.gpu.pci)})" for n, each in enumerate(gpus))
                problems.append(
                    Problem(
                        key,
                        f'there is no such GPU in the node "{seat.node}"',
                        found=wanted,
                        allowed=known or f"none: list the node's GPUs under nodes.{seat.node}.gpus",
                    )
                )
                continue
            owner = owners.setdefault((seat.node, found.device), seat.name)
            if owner != seat.name or found in given.get(seat.name, []):
                problems.append(
                    Problem(key, f'this GPU is given twice: the host "{owner}" has it already', found=wanted)
                )
                continue
            given.setdefault(seat.name, []).append(found)
    return given


def _find(gpus: list[NodeGpu], wanted: str | int) -> NodeGpu | None:
    if isinstance(wanted, int) or wanted.isdecimal():
        return gpus[int(wanted)] if 0 <= int(wanted) < len(gpus) else None
    return next((each for each in gpus if full_pci(each.gpu.pci) == full_pci(wanted.lower())), None)


def _twice_in_a_node(stack: Stack) -> Iterable[Problem]:
    for node in stack.nodes:
        seen: set[str] = set()
        for each in of_node(stack, node):
            for name, text in (("pci", full_pci(each.gpu.pci)), ("minor", each.device)):
                if text in seen:
                    yield Problem((*each.key, name), f'is listed twice in the node "{node}"', found=text)
                seen.add(text)


def devices(gpus: Iterable[NodeGpu]) -> tuple[Device, ...]:
    """The device nodes of a host with these GPUs: each GPU's own, then those that a vendor's driver shares."""
    gpus = list(gpus)
    vendors = dict.fromkeys(each.gpu.vendor for each in gpus)
    paths = [*(each.device for each in gpus), *(path for vendor in vendors for path in _SHARED[vendor])]
    return tuple(Device(path=path, gid=GPU_GID, mode="0660") for path in paths)
