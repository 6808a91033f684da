"""Which device nodes the GPUs of a layout really have: positions in a stack file are no promise, minor numbers move."""

from __future__ import annotations

from collections.abc import Mapping

from freehold.gpus.found import Found
from freehold.layout.gpus import full_pci
from freehold.layout.types import AssignedGpu, Host, Layout, NodeAccess
from freehold.schema.stack import Stack


def resolve(layout: Layout, stack: Stack, found: Mapping[str, Found]) -> Layout:
    """The layout with what was found: device nodes, and of each GPU its address, UUID, card and VRAM.

    Args:
        layout: As the stack file alone makes it.
        stack: The stack, which may name GPUs that no host has.
        found: The GPUs by node. What is not found stays as it was: ``run.gpus.findings`` says so.
    """
    hosts = (_host(host, found[host.node]) if host.node in found else host for host in layout.hosts)
    nodes = (_node(node, stack, found[node.name]) if node.name in found else node for node in layout.nodes)
    return layout.model_copy(update={"hosts": tuple(hosts), "nodes": tuple(nodes)})


def _host(host: Host, found: Found) -> Host:
    there = {gpu.key: found.find(gpu.pci, gpu.uuid) for gpu in host.gpus}
    paths = {key: gpu.device for key, gpu in there.items() if gpu and gpu.device}
    devices = (
        device.model_copy(update={"path": paths[device.gpu]}) if device.gpu in paths else device
        for device in host.devices
    )
    gpus = (_assigned(gpu, found) for gpu in host.gpus)
    return host.model_copy(update={"devices": tuple(devices), "gpus": tuple(gpus)})


def _assigned(gpu: AssignedGpu, found: Found) -> AssignedGpu:
    there = found.find(gpu.pci, gpu.uuid)
    if there is None:
        return gpu
    known = {
        "pci": there.pci,
        "uuid": there.uuid or gpu.uuid,
        "card": gpu.card or there.card,
        "memory": gpu.memory or there.memory,
    }
    return gpu.model_copy(update=known)


def _node(node: NodeAccess, stack: Stack, found: Found) -> NodeAccess:
    """With the addresses of the NVIDIA GPUs that the stack names by UUID alone: who watches them knows addresses."""
    declared = stack.nodes[node.name].gpus if node.name in stack.nodes else ()
    ours = (
        found.find(full_pci(gpu.pci) if gpu.pci else None, gpu.uuid)
        for gpu in declared
        if gpu.vendor == "nvidia"
    )
    addresses = dict.fromkeys((*node.gpus, *(gpu.pci for gpu in ours if gpu)))
    return node.model_copy(update={"gpus": tuple(addresses)})
