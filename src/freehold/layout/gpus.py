"""GPUs of nodes, the hosts that get them, and the device nodes that come with them (Proxmox VE ``devN``).

Each container gets the device nodes of its own GPUs and no others, owned by the group ``gpu`` inside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from freehold.catalog import gpus as catalog
from freehold.layout.placement import Seat
from freehold.layout.types import AssignedGpu, Device
from freehold.schema.problems import KeyPath, Problem, nearest
from freehold.schema.stack import Gpu, GpuShare, Stack

GPU_GID = 2107
"""Group ``gpu`` in every container: one number of our own, since render groups differ between distributions."""

OLLAMA = "ollama"
"""The engine that ``gpu_layout: ollama-only`` is about."""

_FIRST_RENDER_NODE = 128
_SHARED = {
    "nvidia": ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"),
    "amd": ("/dev/kfd",),
    "intel": (),
}


@dataclass(frozen=True)
class NodeGpu:
    """One GPU of a node with its device node, as far as the stack file tells."""

    gpu: Gpu
    device: str
    key: KeyPath

    @property
    def name(self) -> str:
        """PCI address with domain and function, or UUID where the stack names it by that alone."""
        return full_pci(self.gpu.pci) if self.gpu.pci else str(self.gpu.uuid)

    def assigned(self, share: float = 1.0) -> AssignedGpu:
        """The GPU as a host gets it."""
        card = catalog.load().get(self.gpu.card or "")
        return AssignedGpu(
            key=self.name,
            pci=full_pci(self.gpu.pci) if self.gpu.pci else None,
            uuid=self.gpu.uuid,
            vendor=self.gpu.vendor,
            card=self.gpu.card,
            memory=self.gpu.memory or (card.memory if card else None),
            share=share,
        )


@dataclass(frozen=True)
class _Taker:
    """A host that is given a GPU, and where that is written."""

    host: str
    key: KeyPath
    wanted: str | int
    share: float


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


def assign(
    stack: Stack, seats: Sequence[Seat], problems: list[Problem]
) -> dict[str, list[tuple[NodeGpu, AssignedGpu]]]:
    """The GPUs of each host; what does not exist, or is given twice without shares, is added to ``problems``."""
    problems += _wrong_in_a_node(stack)
    layout = _of_layout(stack, seats, problems)
    given: dict[str, list[tuple[NodeGpu, AssignedGpu]]] = {}
    owners: dict[tuple[str, str], list[_Taker]] = {}
    for seat in seats:
        gpus = of_node(stack, seat.node)
        for position, entry in enumerate(seat.override.gpus or layout.get(seat.name, ())):
            key = ("hosts", seat.name, "gpus", position)
            wanted, share = (entry.gpu, entry.share) if isinstance(entry, GpuShare) else (entry, 1.0)
            found = _find(gpus, wanted)
            if found is None:
                known = ", ".join(f"{n} ({each.name})" for n, each in enumerate(gpus))
                problems.append(
                    Problem(
                        key,
                        f'there is no such GPU in the node "{seat.node}"',
                        found=wanted,
                        allowed=known or f"none: list the node's GPUs under nodes.{seat.node}.gpus",
                    )
                )
                continue
            given.setdefault(seat.name, []).append((found, found.assigned(share)))
            owners.setdefault((seat.node, found.device), []).append(_Taker(seat.name, key, wanted, share))
    problems += _given_too_often(owners)
    return given


def _of_layout(
    stack: Stack, seats: Iterable[Seat], problems: list[Problem]
) -> Mapping[str, tuple[str | int | GpuShare, ...]]:
    """What ``gpu_layout`` gives to hosts that name no GPUs, by host."""
    engines = sorted(
        (seat for seat in seats if seat.meta.engine), key=lambda seat: (seat.meta.slot, seat.name)
    )
    if stack.gpu_layout == "ollama-only":
        others = [seat.name for seat in engines if seat.role != OLLAMA]
        if others or not engines:
            problems.append(
                Problem(
                    ("gpu_layout",),
                    f'gives all GPUs to Ollama, beside which there is "{others[0]}"'
                    if others
                    else "gives all GPUs to Ollama, which is not among the services",
                    found=stack.gpu_layout,
                    allowed="ollama alone under services, or another layout",
                )
            )
        engines = engines[:1]
    given: dict[str, tuple[str | int | GpuShare, ...]] = {}
    for node in dict.fromkeys(seat.node for seat in engines):
        here = [seat for seat in engines if seat.node == node]
        positions = range(len(of_node(stack, node)))
        if stack.gpu_layout in {"one-big", "ollama-only"}:
            given[here[0].name] = tuple(positions)
        elif stack.gpu_layout == "one-each":
            given |= {seat.name: (position,) for seat, position in zip(here, positions, strict=False)}
    return given


def _given_too_often(
    owners: Mapping[tuple[str, str], list[_Taker]],
) -> Iterator[Problem]:
    for takers in owners.values():
        if len(takers) == 1:
            continue
        total = round(sum(taker.share for taker in takers), 6)
        first, last = takers[0], takers[-1]
        if len({taker.host for taker in takers}) < len(takers):
            yield Problem(
                last.key, f'this GPU is given twice: the host "{last.host}" has it already', found=last.wanted
            )
        elif total > 1:
            yield Problem(
                last.key,
                f'this GPU is given twice: the host "{first.host}" has it already, and the shares add up to {total:g}',
                found=last.wanted,
                allowed="another GPU, or shares of at most 1 together in all hosts that get it: {gpu: 0, share: 0.5}",
            )


def given_to_another(
    own: Sequence[tuple[Seat, AssignedGpu]], others: Mapping[str, Sequence[tuple[Seat, AssignedGpu]]]
) -> Iterator[Problem]:
    """GPUs of hosts that other clients' hosts get as well, unless the shares of all are at most 1 together.

    Args:
        own: Each GPU of a host of the client.
        others: Those of the other clients of the server, by their names.
    """
    theirs = [(client, *each) for client, given in others.items() for each in given]
    for seat, gpu in own:
        takers = [each for each in theirs if _same(seat, gpu, *each[1:])]
        shares = [each.share for where, each in own if _same(seat, gpu, where, each)]
        if takers and round(sum(shares) + sum(taker.share for _, _, taker in takers), 6) > 1:
            client, first, _ = takers[0]
            yield Problem(
                ("hosts", seat.name, "gpus"),
                f'this GPU is given twice: the host "{first.name}" of the client "{client}" has it already',
                found=gpu.key,
                allowed="another GPU, or shares of at most 1 together in all hosts that get it: {gpu: 0, share: 0.5}",
            )


def _same(seat: Seat, gpu: AssignedGpu, other_seat: Seat, other: AssignedGpu) -> bool:
    names = {gpu.pci, gpu.uuid} & {other.pci, other.uuid}
    return seat.node == other_seat.node and bool(names - {None})


def _find(gpus: list[NodeGpu], wanted: str | int) -> NodeGpu | None:
    if isinstance(wanted, int) or wanted.isdecimal():
        return gpus[int(wanted)] if 0 <= int(wanted) < len(gpus) else None
    if wanted.startswith("GPU-"):
        return next((each for each in gpus if each.gpu.uuid == wanted), None)
    return next(
        (each for each in gpus if each.gpu.pci and full_pci(each.gpu.pci) == full_pci(wanted.lower())), None
    )


def _wrong_in_a_node(stack: Stack) -> Iterator[Problem]:
    for node in stack.nodes:
        seen: set[str] = set()
        for each in of_node(stack, node):
            names = (("pci" if each.gpu.pci else "uuid", each.name), ("uuid", each.gpu.uuid))
            for name, text in (*dict.fromkeys(names), ("minor", each.device)):
                if text and text in seen:
                    yield Problem((*each.key, name), f'is listed twice in the node "{node}"', found=text)
                seen.add(str(text))
            yield from _wrong_card(each)


def _wrong_card(each: NodeGpu) -> Iterator[Problem]:
    name, known = each.gpu.card, catalog.load()
    if name and name not in known:
        yield Problem(
            (*each.key, "card"),
            "unknown GPU",
            found=name,
            nearest=nearest(name, known),
            allowed=f"{', '.join(sorted(known))}; or leave it out and give its memory in MiB",
        )
    elif name and known[name].vendor != each.gpu.vendor:
        yield Problem(
            (*each.key, "vendor"),
            f"is not the maker of {known[name].title}",
            found=each.gpu.vendor,
            allowed=known[name].vendor,
        )


def devices(given: Iterable[tuple[NodeGpu, AssignedGpu]]) -> tuple[Device, ...]:
    """The device nodes of a host with these GPUs: each GPU's own, then those that a vendor's driver shares."""
    found = [each for each, _ in given]
    own = [Device(path=each.device, gid=GPU_GID, mode="0660", gpu=each.name) for each in found]
    vendors = dict.fromkeys(each.gpu.vendor for each in found)
    shared = [path for vendor in vendors for path in _SHARED[vendor]]
    return (*own, *(Device(path=path, gid=GPU_GID, mode="0660") for path in shared))
