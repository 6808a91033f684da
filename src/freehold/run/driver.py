"""The NVIDIA driver of nodes and its user space in containers, in lockstep: looked at, checked, installed.

How it is upgraded and taken back: :mod:`freehold.run.driver_upgrade`.

Nothing is remembered between two runs: each begins with what the node itself says (:mod:`freehold.nvidia`), and goes on from
there. So a run that was cut off, or that stopped for a reboot, is continued by the same command.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from freehold import ssh
from freehold.catalog import versions
from freehold.catalog.drivers import ARTIFACT
from freehold.errors import FreeholdError
from freehold.events import Stage
from freehold.layout.types import Host, NodeAccess
from freehold.nvidia import MARKER, PROBE, NodeDriver, Release, troubles
from freehold.run.context import Client
from freehold.run.finding import Finding
from freehold.run.stages import Run

LOOK = 60
"""Seconds that one look at a node may take: ``dkms status`` and ``modinfo`` of each kernel are the slow part."""


class RebootNeededError(FreeholdError):
    """A node must be rebooted before the run can go on."""


class NoDriverError(FreeholdError):
    """A node has no driver that can be used."""


def nvidia_hosts(client: Client, node: str) -> list[Host]:
    """The client's hosts with NVIDIA devices on a node (with ``--only``: of those that were asked for)."""
    return [
        host
        for host in client.layout.hosts
        if host.node == node and any(device.path.startswith("/dev/nvidia") for device in host.devices)
    ]


def nodes(client: Client, *, managed: bool = False) -> list[NodeAccess]:
    """Nodes that are reached over SSH and whose NVIDIA GPUs the client uses.

    Args:
        client: The client.
        managed: Only those whose driver Freehold installs.
    """
    return [
        access
        for access in client.layout.nodes
        if access.address
        and nvidia_hosts(client, access.name)
        and (access.driver == "managed" or not managed)
    ]


def wanted(client: Client) -> Release:
    """The release that the client's lock names, from its mirror where it has one."""
    return Release.model_validate(versions.artifact(ARTIFACT, client.directory, client.stack.sources.mirror))


def look(client: Client, node: NodeAccess) -> NodeDriver:
    """What a node has of the driver, in one round trip.

    Raises:
        FreeholdError: The node does not answer.
    """
    return NodeDriver.parse(on(client, node, f"sh -c {shlex.quote(PROBE)}", LOOK, "looking at its driver"))


def on(client: Client, node: NodeAccess, command: str, timeout: float, doing: str, *fresh: str) -> str:
    """What a command of root on a node prints."""
    words = command if node.ssh_user == "root" else f"sudo -n {command}"
    config = ["-F", str(client.ssh().config), "-o", "BatchMode=yes", *fresh]
    answer = ssh.run(["ssh", *config, node.name, words], timeout=timeout, doing=doing)
    if answer.returncode:
        raise FreeholdError(
            f"The node {node.name} did not do what was asked",
            doing=doing,
            where=node.name,
            answer=(answer.stderr.strip() or answer.stdout.strip())[-500:]
            or f"exit code {answer.returncode}",
            remedy=f"Run: freehold check {client.stack.client}",
        )
    return answer.stdout


# --- what `check` says ------------------------------------------------------------------------------------------------


def findings(client: Client, node: NodeAccess) -> Iterator[Finding]:
    """What ``check`` says of a node's driver; nothing where the client uses no NVIDIA GPU of it.

    Raises:
        FreeholdError: The node does not answer.
    """
    if not nvidia_hosts(client, node.name):
        return
    about, state, release = f"NVIDIA driver of {node.name}", look(client, node), wanted(client)
    managed = node.driver == "managed"
    installs = managed and state.settled is None
    # cards that are kept for virtual machines are found one by one with the other things of a card (run/gpus.py)
    for each in troubles(state, release, client=client.stack.client, cards=(), installs=installs):
        yield Finding(about, "problem" if each.blocks and managed else "warning", each.detail, each.remedy)
    yield from _use(client, node, state, release, about, managed=managed)
    if (
        state.settled
        and (state.modules or state.dkms)
        and state.modules.get(state.next_boot) != state.settled
    ):
        yield Finding(
            about,
            "warning",
            f"The next boot starts the kernel {state.next_boot}, which has no module of the driver {state.settled}: the node "
            "would come back without GPUs, and containers on them would not start",
            f"Before the next reboot, run: freehold up {client.stack.client}"
            if managed
            else f"Before the next reboot, install its headers and run: dkms install -m nvidia -v {state.settled} -k {state.next_boot}",
        )


def _use(
    client: Client, node: NodeAccess, state: NodeDriver, release: Release, about: str, *, managed: bool
) -> Iterator[Finding]:
    """Whether the driver can be used now, and whether containers can be given what fits it."""
    upgrade = f"Run: freehold driver upgrade {client.stack.client}"
    if reason := state.waits_for_reboot:
        yield Finding(
            about,
            "warning",
            f"The node waits for a reboot: {reason}",
            f"Reboot it, then run: freehold up {client.stack.client}. Or: freehold driver upgrade {client.stack.client} --reboot",
        )
    elif state.loaded is None:
        if managed:
            detail = (
                f"{release.version} is going to be installed"
                if state.settled is None
                else "is going to be loaded"
            )
            yield Finding(about, "ok", detail)
        else:
            yield Finding(
                about,
                "warning",
                "No driver is loaded, and its administrator takes care of it: containers get no user space, and engines no GPU",
                f"Install one, or let Freehold do it (nodes.{node.name}.driver: managed).",
            )
    elif _release(state, release) is None:
        yield Finding(
            about,
            "problem" if managed else "warning",
            f"The node has {state.loaded}, the lock names {release.version}: of {state.loaded} no checksum is known, so that "
            "containers are not given the same user space",
            upgrade
            if managed
            else f"Name it in {client.directory / versions.OVERLAY} (nvidia-driver with version {state.loaded}, url and sha256), "
            "or see to the user space of containers on its GPUs yourself.",
        )
    elif state.loaded != release.version:
        yield Finding(
            about,
            "warning",
            f"The node has {state.loaded}, the lock names {release.version}; containers get {state.loaded}",
            upgrade if managed else f"The node's administrator may bring {release.version}.",
        )
    else:
        yield Finding(about, "ok", f"{state.loaded}, kernel {state.running}")


def _release(state: NodeDriver, release: Release) -> Release | None:
    """The release that is loaded, where it is known where its file comes from."""
    if state.loaded == release.version:
        return release
    return state.of_cache(state.loaded) if state.loaded else None


# --- what `up` does ---------------------------------------------------------------------------------------------------


def prepare(run: Run) -> None:
    """Install the driver on nodes that Freehold manages and that have none; the ``NODE`` stage of a run.

    Raises:
        RebootNeededError: A node must be rebooted first; the same command goes on after it.
        FreeholdError: The driver could not be installed.
    """
    for node in nodes(run.client, managed=True):
        install(run, node, None, replace=False)
        gate(run.client, node, look(run.client, node))


def user_space(client: Client) -> dict[str, Release]:
    """The release whose user space the containers on each node's GPUs get; nodes without a driver are left out."""
    found = {node.name: _release(look(client, node), wanted(client)) for node in nodes(client)}
    return {name: release for name, release in found.items() if release}


def install(run: Run, node: NodeAccess, release: Release | None, *, replace: bool) -> None:
    run.pyinfra(
        "gpu",
        Stage.NODE,
        hosts=[node.name],
        ssh_config=str(run.client.ssh().config),
        driver=release and release.model_dump(),
        replace=replace,
    )


def gate(client: Client, node: NodeAccess, state: NodeDriver) -> None:
    if reason := state.waits_for_reboot:
        raise RebootNeededError(
            f"The node {node.name} must be rebooted before the run can go on",
            where=node.name,
            answer=reason,
            remedy="Reboot the node when that suits everybody (all its guests restart), and run the same command again: it goes "
            f"on from there. Or let Freehold do both: freehold driver upgrade {client.stack.client} --reboot",
        )
    if state.loaded is None:
        raise NoDriverError(
            f"The driver of the node {node.name} is installed, and the kernel does not load it",
            where=node.name,
            answer=f"installed: {state.settled}; kernel {state.running}: module {state.modules.get(state.running, 'none')}",
            remedy="On the node, `modprobe nvidia` and `dmesg | grep -iE 'nvidia|nvrm'` say why.",
        )


# --- status -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NodeStatus:
    """The driver of one node and what its containers have of it."""

    node: str
    managed: bool
    locked: str
    state: NodeDriver
    containers: dict[str, str | None]
    """Version of the user space by host; none where there is none or the host does not answer."""
    others: dict[str, list[str]]
    """Containers of other clients on the node's GPUs."""

    @property
    def in_lockstep(self) -> bool:
        """Whether node and containers have one version, and no reboot is due."""
        versions_of = {self.state.settled, self.state.loaded, *self.containers.values()}
        return len(versions_of) == 1 and None not in versions_of

    def as_dict(self) -> dict[str, Any]:
        """The status as plain data."""
        state = self.state
        former = state.former(self.locked)
        return {
            "node": self.node,
            "managed": self.managed,
            "locked": self.locked,
            "installed": state.settled,
            "unfinished": state.unfinished,
            "loaded": state.loaded,
            "former": former and former.version,
            "kernel": state.running,
            "next_boot": state.next_boot,
            "kernels": {
                kernel: {
                    "headers": kernel in state.headers,
                    "module": state.modules.get(kernel),
                    "dkms": state.dkms.get((state.settled or "", kernel)),
                }
                for kernel in state.kernels
            },
            "persistence": "persistenced" in state.flags,
            "next_boot_ready": bool(state.settled) and state.modules.get(state.next_boot) == state.settled,
            "reboot": state.waits_for_reboot,
            "secure_boot": state.secure_boot,
            "others": self.others,
            "containers": self.containers,
            "in_lockstep": self.in_lockstep,
        }


def status(client: Client) -> list[NodeStatus]:
    """The drivers of the client's nodes; changes nothing.

    Raises:
        FreeholdError: A node does not answer.
    """
    client.ensure_secrets()
    return [_status(client, access) for access in nodes(client)]


def _status(client: Client, access: NodeAccess) -> NodeStatus:
    state = look(client, access)
    return NodeStatus(
        access.name,
        access.driver == "managed",
        wanted(client).version,
        state,
        {host.name: _marker(client, host) for host in nvidia_hosts(client, access.name)},
        {
            name: [guest.name for guest in guests]
            for name, guests in state.others(client.stack.client).items()
        },
    )


def _marker(client: Client, host: Host) -> str | None:
    config = ["-F", str(client.ssh().config), "-o", "BatchMode=yes"]
    try:
        answer = ssh.run(
            ["ssh", *config, host.name, f"cat {MARKER}"], timeout=LOOK, doing="reading the user space"
        )
    except FreeholdError:
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
