"""Which GPUs the nodes really have: asked before anything is planned, and held against what the stack says."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from freehold import ssh
from freehold.catalog import gpus as catalog
from freehold.errors import FreeholdError
from freehold.gpus import listed, probe
from freehold.gpus.found import Found, FoundGpu, alike
from freehold.layout.gpus import NodeGpu, full_pci, of_node
from freehold.layout.types import NodeAccess
from freehold.run.context import Client
from freehold.run.finding import Finding
from freehold.schema.stack import Gpu

_TIMEOUT = 60 + probe.SMI_TIMEOUT
"""Seconds that a node may take to answer."""


class NoGpuError(FreeholdError):
    """A GPU that a host is given has no device node, so its container could not start."""


def look(client: Client, *, again: bool = False) -> None:
    """Ask the nodes for their GPUs, once, so that the client's layout has the device nodes that they really have.

    Only nodes whose GPUs the stack lists are asked. Over SSH where the client gives it, else through the API, which
    knows no numbers of device nodes: those are the stack's (``minor``) or, for NVIDIA, the order of addresses.

    Raises:
        FreeholdError: A node does not answer.
    """
    if client.gpus is None or again:
        client.know_gpus({node: at(client, node) for node, part in client.stack.nodes.items() if part.gpus})


def at(client: Client, node: str) -> Found:
    """The GPUs of one node.

    Raises:
        FreeholdError: It does not answer.
    """
    access = _access(client, node)
    if access.address:
        return _over_ssh(client, access)
    devices = client.api.get(f"/nodes/{node}/hardware/pci", doing=f"listing the PCI devices of node {node}")
    return _as_the_stack_numbers(client, node, listed.with_guessed_nodes(listed.listed(devices)))


def _access(client: Client, node: str) -> NodeAccess:
    return next((each for each in client.whole_layout.nodes if each.name == node), NodeAccess(name=node))


def _over_ssh(client: Client, node: NodeAccess) -> Found:
    client.ensure_secrets()
    doing = f"asking node {node.name} for its GPUs"
    command = ["ssh", "-F", str(client.ssh().config), "-o", "BatchMode=yes", node.name]
    answer = ssh.run([*command, f"sh -c {shlex.quote(probe.SCRIPT)}"], timeout=_TIMEOUT, doing=doing)
    found = probe.parse(answer.stdout)
    if found is None:
        said = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
        raise FreeholdError(
            f"Node {node.name} did not say which GPUs it has",
            doing=doing,
            where=f"{node.ssh_user}@{node.address}",
            answer=said[-1] if said else f"exit code {answer.returncode}, no output",
            remedy=f"`freehold check {client.stack.client}` says whether SSH to the node works.",
        )
    return found


def _as_the_stack_numbers(client: Client, node: str, found: Found) -> Found:
    said = {each.name: each.device for each in of_node(client.stack, node) if each.gpu.minor is not None}
    return replace(
        found, gpus=tuple(replace(gpu, device=said.get(gpu.pci, gpu.device)) for gpu in found.gpus)
    )


def waiting(client: Client) -> list[str]:
    """GPUs of hosts that have no device node yet, each with its host: a driver must come first."""
    return [
        f"{gpu.key} of {host.name}"
        for host in client.layout.hosts
        for gpu in host.gpus
        if (there := _there(client, host.node, gpu.pci, gpu.uuid))
        and _on_ssh(client, host.node)
        and not there.device
    ]


def settle(client: Client) -> None:
    """Ask again where a GPU of a host had no device node: with its driver come the node, and the node's number.

    Raises:
        NoGpuError: It still has none.
        FreeholdError: A node does not answer.
    """
    if not waiting(client):
        return
    look(client, again=True)
    if missing := waiting(client):
        raise NoGpuError(
            f"{len(missing)} GPUs have no device node" if len(missing) > 1 else "A GPU has no device node",
            doing="passing GPUs to containers",
            answer="\n".join(missing),
            remedy=f"`freehold show gpus {client.stack.client}` shows what the node says of them.",
        )


def _on_ssh(client: Client, node: str) -> bool:
    return bool(client.gpus and node in client.gpus and client.gpus[node].asked)


def _there(client: Client, node: str, pci: str | None, uuid: str | None) -> FoundGpu | None:
    found = (client.gpus or {}).get(node)
    return found.find(pci, uuid) if found else None


# --- what is shown of them


@dataclass(frozen=True)
class Row:
    """One GPU of a node, and what the stack makes of it."""

    node: str
    gpu: FoundGpu
    listed: bool
    """Whether the stack lists it."""
    hosts: tuple[str, ...]
    """Hosts that get it, with their share where they do not get all of it."""
    asked: bool
    """Whether the node itself told of it; else driver and UUID are unknown."""

    def as_dict(self) -> dict[str, Any]:
        """The row as plain data."""
        return {
            "node": self.node,
            **self.gpu.as_dict(),
            "listed": self.listed,
            "hosts": list(self.hosts),
            "asked": self.asked,
        }


def rows(client: Client) -> list[Row]:
    """All GPUs of all nodes of the client.

    Raises:
        FreeholdError: A node does not answer.
    """
    client.know_gpus({node.name: at(client, node.name) for node in client.whole_layout.nodes})
    return [
        Row(
            node=node,
            gpu=gpu,
            listed=any(
                found.find(full_pci(each.gpu.pci) if each.gpu.pci else None, each.gpu.uuid) == gpu
                for each in of_node(client.stack, node)
            ),
            hosts=tuple(
                host.name + (f" ({given.share:.0%})" if given.share < 1 else "")
                for host in client.whole_layout.hosts
                for given in host.gpus
                if host.node == node and found.find(given.pci, given.uuid) == gpu
            ),
            asked=found.asked,
        )
        for node, found in (client.gpus or {}).items()
        for gpu in found.gpus
    ]


def complaints(client: Client) -> list[str]:
    """What tools of drivers said instead of an answer."""
    return [f"{node}: {text}" for node, found in (client.gpus or {}).items() for text in found.complaints]


# --- what is said of them before anything is touched


def findings(client: Client, node: str) -> Iterator[Finding]:
    """One finding for each GPU that the stack lists at a node, and one for each complaint of the driver's tools."""
    found = (client.gpus or {}).get(node)
    if found is None:
        return
    takers: dict[str, list[str]] = {}
    for host in client.whole_layout.hosts:
        for gpu in host.gpus if host.node == node else ():
            takers.setdefault(_key(gpu.pci, gpu.uuid, found), []).append(host.name)
    seen: dict[str, str] = {}
    for each in of_node(client.stack, node):
        key = _key(full_pci(each.gpu.pci) if each.gpu.pci else None, each.gpu.uuid, found)
        if key in seen:
            yield _same(node, each, seen[key], key)
        else:
            yield _Look(client, node, found, each, takers.get(key, [])).finding()
        seen.setdefault(key, each.name)
    if found.complaints and takers:
        yield _complaint(client, node, found)


def _key(pci: str | None, uuid: str | None, found: Found) -> str:
    there = found.find(pci, uuid)
    return there.pci if there else str(pci or uuid)


def _same(node: str, each: NodeGpu, other: str, key: str) -> Finding:
    return Finding(
        f"GPU {each.gpu.pci or each.gpu.uuid}",
        "problem",
        f"{other} and {each.name} are one card of node {node}, the one at {key}",
        f"The cards may have changed places. Correct nodes.{node}.gpus in the stack file: name both by UUID, or both by address.",
    )


def _complaint(client: Client, node: str, found: Found) -> Finding:
    managed = _access(client, node).driver == "managed"
    mismatch = any("version mismatch" in text for text in found.complaints)
    remedy = (
        "The driver was renewed and its old module is still loaded: reboot the node."
        if mismatch
        else "Look at `dmesg | grep -i -e nvrm -e xid` on the node; a GPU that fell off its bus comes back with a cold start of the machine."
    )
    return Finding(
        f"nvidia-smi on {node}",
        "warning" if managed and mismatch else "problem",
        f"nvidia-smi says: {'; '.join(found.complaints)}",
        remedy,
    )


class _Look:
    """One GPU of the stack beside what is in the node."""

    def __init__(self, client: Client, node: str, found: Found, each: NodeGpu, hosts: list[str]) -> None:
        self._client, self._node, self._found, self._hosts = client, node, found, hosts
        self._gpu: Gpu = each.gpu
        self._named = each
        self._about = f"GPU {each.gpu.pci or each.gpu.uuid}"
        self._key = f"nodes.{node}.gpus"

    def finding(self) -> Finding:
        """What is to be said of it: the first thing that is wrong, else what it is and who has it."""
        pci = full_pci(self._gpu.pci) if self._gpu.pci else None
        there = self._found.find(pci, self._gpu.uuid)
        if there is None:
            return self._absent()
        wrong = self._other_card(there) or self._other_number(there)
        if wrong is None and self._hosts:
            wrong = self._unusable(there)
        return wrong or self._fine(there)

    def _problem(self, detail: str, remedy: str) -> Finding:
        return Finding(self._about, "problem", detail, remedy)

    def _absent(self) -> Finding:
        if not self._gpu.pci and not self._found.asked:
            return self._problem(
                f"Without SSH to node {self._node}, a GPU cannot be found by its UUID",
                f"Name it by its address ({self._key}: pci), or give SSH to the node (nodes.{self._node}.address).",
            )
        known = ", ".join(gpu.title for gpu in self._found.gpus) or "none"
        where = f"at {self._gpu.pci}" if self._gpu.pci else f"with the UUID {self._gpu.uuid}"
        return self._problem(
            f"Node {self._node} has no GPU {where}; it has {known}",
            f"Correct {self._key} in the stack file; `freehold show gpus {self._client.stack.client}` or"
            " `lspci -D | grep -iE 'vga|3d'` on the node shows the addresses.",
        )

    def _other_card(self, there: FoundGpu) -> Finding | None:
        what = there.name + (f", {there.uuid}" if there.uuid else "")
        correct = f"The cards may have changed places. Correct {self._key} in the stack file: "
        if self._gpu.pci and self._gpu.uuid and there.uuid not in {None, self._gpu.uuid}:
            moved = self._found.find(None, self._gpu.uuid)
            where = f"; {self._gpu.uuid} is at {moved.pci}" if moved else ""
            return self._problem(
                f"At {there.pci} is another card than the stack says: {what}{where}",
                correct + "give the UUID alone where the card counts, the address alone where the slot does.",
            )
        card = catalog.load().get(self._gpu.card or "")
        expected = self._gpu.memory or (card.memory if card else None)
        if card and card.pci and there.id not in card.pci:
            return self._problem(
                f"At {there.pci} is another card than {self._gpu.card}: {what} ({there.id})",
                correct
                + (f"card: {there.card}." if there.card else "leave card out, and give its memory in MiB."),
            )
        if expected and there.memory and not alike(expected, there.memory):
            return self._problem(
                f"{there.title} has {there.memory} MiB of VRAM; the stack says {expected}",
                f"Correct card or memory under {self._key}: what fits is computed from it.",
            )
        return None

    def _other_number(self, there: FoundGpu) -> Finding | None:
        if self._gpu.minor is None or not self._found.asked or there.device in {None, self._named.device}:
            return None
        return self._problem(
            f"The device node of {there.title} is {there.device}, and the stack says minor: {self._gpu.minor}",
            f"Leave minor out ({self._key}): the node is asked.",
        )

    def _unusable(self, there: FoundGpu) -> Finding | None:
        if not self._found.asked:
            return None
        hosts = f"for {', '.join(self._hosts)}"
        if there.driver == "vfio-pci":
            return self._problem(
                f"{there.title}, wanted {hosts}, is kept for virtual machines: it is bound to vfio-pci",
                "Give the host another GPU. Or free this one on the node: take its ids out of `options vfio-pci ids=...` in"
                " /etc/modprobe.d and of vfio-pci.ids on the kernel's command line, run `update-initramfs -u -k all`, reboot.",
            )
        managed = _access(self._client, self._node).driver == "managed" and there.vendor == "nvidia"
        if not there.computes and not managed:
            bound = f"it is bound to {there.driver}" if there.driver else "no driver is bound to it"
            ways = {
                "nvidia": "Install NVIDIA's driver on the node"
                + (", after nouveau was put on the blacklist" if there.driver == "nouveau" else "")
                + f"; or let Freehold do it (nodes.{self._node}.driver: managed).",
                "amd": "Load amdgpu on the node: `modprobe amdgpu`, and see `dmesg | grep amdgpu`.",
                "intel": "Load i915 or xe on the node, and see `dmesg | grep -e i915 -e xe`.",
            }
            return self._problem(
                f"{there.title}, wanted {hosts}, cannot compute: {bound}", ways[there.vendor]
            )
        if there.computes and there.device is None:
            return self._problem(
                f"{there.title}, wanted {hosts}, has no device node though {there.driver} is bound to it",
                "See what `dmesg` on the node says of it; the driver may be too old for this card.",
            )
        return None

    def _fine(self, there: FoundGpu) -> Finding:
        parts = [there.name]
        if there.memory:
            parts.append(f"{there.memory} MiB")
        if there.driver and there.computes:
            parts.append(f"driver {there.driver_version or there.driver}")
        elif self._found.asked:
            parts.append(f"bound to {there.driver}" if there.driver else "without a driver")
        if there.device and self._found.asked:
            parts.append(there.device)
        if self._hosts:
            parts.append(f"for {', '.join(self._hosts)}")
        return Finding(self._about, "ok", ", ".join(parts))
