"""Facts and operations on a Proxmox VE node, over SSH as root, with the node's own tools."""

# mypy: allow-subclassing-any, allow-untyped-decorators
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from pyinfra import host
from pyinfra.api import FactBase, QuoteString, StringCommand, operation
from typing_extensions import override

from freehold.proxmox.changes import RootStep
from freehold.proxmox.spec import client_tag
from freehold.proxmox.templates import newest
from freehold.pyinfra.facts import PathStates
from freehold.pyinfra.system import fail

_DOWNLOAD = 1800


class Templates(FactBase[list[str]]):
    """Volume ids of the container templates in a storage (``pveam list``)."""

    default = list

    @override
    def command(self, storage: str) -> StringCommand:
        return StringCommand("pveam", "list", QuoteString(storage))

    @override
    def process(self, output: list[str]) -> list[str]:
        return [line.split()[0] for line in output if ":vztmpl/" in line]


class AvailableTemplates(FactBase[list[str]]):
    """File names of the templates that Proxmox offers, as the node last heard (``pveam available``)."""

    default = list

    @override
    def command(self) -> StringCommand:
        return StringCommand("pveam", "available", "--section", "system")

    @override
    def process(self, output: list[str]) -> list[str]:
        return [line.split()[1] for line in output if len(line.split()) == 2]


class ConfigDigest(FactBase[str]):
    """Digest of a container's configuration now."""

    default = str

    @override
    def command(self, node: str, vmid: int) -> StringCommand:
        return StringCommand("pvesh", "get", f"/nodes/{node}/lxc/{vmid}/config", "--output-format", "json")

    @override
    def process(self, output: list[str]) -> str:
        found = re.search(r'"digest"\s*:\s*"([0-9a-f]+)"', "\n".join(output))
        return found.group(1) if found else ""


class WithDevices(FactBase[set[int]]):
    """VMIDs of a client's containers on this node to which device nodes are passed."""

    default = set

    @override
    def command(self, client: str) -> StringCommand:
        tagged = rf"^tags:.*\b{client_tag(client)}\(;\|$\)"
        return StringCommand(
            "grep",
            "-ls",
            QuoteString(tagged),
            "/etc/pve/lxc/*.conf",
            "| xargs -r grep -l '^dev[0-9]' || true",
        )

    @override
    def process(self, output: list[str]) -> set[int]:
        return {int(line.rsplit("/", 1)[-1].removesuffix(".conf")) for line in output if line}


@operation()
def template(storage: str, system: str) -> Iterator[StringCommand]:
    """Download the newest standard template of a system, unless the storage has one of it.

    + storage: storage that takes container templates
    + system: ``debian-12`` or ``debian-13``

    ``pveam`` checks what it downloads: the list of templates is signed and holds the SHA-512 of each.
    """
    if newest(host.get_fact(Templates, storage=storage), system):
        host.noop(f"a template of {system} is there")
        return
    found = newest(host.get_fact(AvailableTemplates), system)
    if found is None:
        yield StringCommand("pveam", "update", _timeout=120)
        found = newest(host.get_fact(AvailableTemplates), system)
    if found is None:
        yield fail(f"Proxmox offers no standard template of {system} to this node: see `pveam available`.")
        return
    yield StringCommand(
        "pveam", "download", QuoteString(storage), QuoteString(found), ">&2", _timeout=_DOWNLOAD
    )


@operation()
def root_steps(steps: Sequence[RootStep]) -> Iterator[StringCommand]:
    """Do with ``pct`` what no API token may do: pass devices, bind directories, set features.

    + steps: the plan's root steps for this node

    Each step carries the digest that the configuration has right before it, so that it never overwrites what
    somebody changed in between.
    """
    for step in steps:
        digest = host.get_fact(ConfigDigest, node=step.node, vmid=step.vmid)
        yield StringCommand(*map(QuoteString, step.argv(digest or None)))


@operation()
def no_gpu_unit(unit: str, client: str, vmids: Sequence[int]) -> Iterator[StringCommand]:
    """Stop and remove the unit for GPU device nodes, unless a container that the stack left out still has devices.

    + unit: name of the unit below ``/etc/systemd/system``
    + client: name of the client
    + vmids: containers of the stack; none of them has devices from now on
    """
    path = f"/etc/systemd/system/{unit}"
    if path not in host.get_fact(PathStates, paths=[path]):
        host.noop(f"there is no {unit}")
    elif left := host.get_fact(WithDevices, client=client) - set(vmids):
        host.noop(f"{unit} stays for {', '.join(map(str, sorted(left)))}")
    else:
        yield StringCommand(
            f"systemctl disable --now {unit} 2>&1; rm -f {path} && systemctl daemon-reload"
            f" && {{ systemctl reset-failed {unit} 2>/dev/null || true; }}"
        )


def nvidia_minors(devices: Iterable[str]) -> list[int]:
    """Minor numbers of the NVIDIA GPUs among device paths."""
    return sorted(
        {int(match.group(1)) for path in devices if (match := re.fullmatch(r"/dev/nvidia(\d+)", path))}
    )
