"""The NVIDIA driver of nodes and its user space in containers, in lockstep: looked at, installed, upgraded, taken back.

Nothing is remembered between two runs: each begins with what the node itself says (:mod:`freehold.nvidia`), and goes on from
there. So a run that was cut off, or that stopped for a reboot, is continued by the same command.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from freehold import ssh
from freehold.catalog import versions
from freehold.errors import BadInputError, FreeholdError
from freehold.events import Stage, Status
from freehold.layout.types import Host, NodeAccess
from freehold.nvidia import ARTIFACT, CACHE, MARKER, PROBE, NodeDriver, Release, troubles
from freehold.proxmox.lock import client_lock
from freehold.run.context import Client
from freehold.run.finding import Finding
from freehold.run.folder import RunFolder
from freehold.run.stages import Run, Sink
from freehold.run.summary import Summary
from freehold.schema.problems import StackError

_LOOK = 60
"""Seconds that one look at a node may take: ``dkms status`` and ``modinfo`` of each kernel are the slow part."""
_SHUTDOWN = 120
"""Seconds that a container is given to end by itself, before it is stopped."""
_BOOTED = 'echo "$(cat /proc/sys/kernel/random/boot_id) $(cut -d " " -f 22 /proc/1/stat)"'
"""Prints what differs from boot to boot, also where the kernel is shared: a node may be a container."""
_BOOT = 1200
"""Seconds that a node may take to boot: servers test their memory for minutes."""


class RebootNeededError(FreeholdError):
    """A node must be rebooted before the run can go on."""


class NoDriverError(FreeholdError):
    """A node has no driver that can be used."""


class SharedNodeError(BadInputError):
    """Others use the node's GPUs, and this controller does not know them."""


class ObstacleError(BadInputError):
    """Something stands in the way of a driver on a node."""


def nvidia_hosts(client: Client, node: str) -> list[Host]:
    """The client's hosts with NVIDIA devices on a node, whatever ``--only`` says."""
    return [
        host
        for host in client.whole_layout.hosts
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
        for access in client.whole_layout.nodes
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
    return NodeDriver.parse(_on(client, node, f"sh -c {shlex.quote(PROBE)}", _LOOK, "looking at its driver"))


def _on(client: Client, node: NodeAccess, command: str, timeout: float, doing: str, *fresh: str) -> str:
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
        _install(run, node, None, replace=False)
        _gate(run.client, node, look(run.client, node))


def user_space(client: Client) -> dict[str, Release]:
    """The release whose user space the containers on each node's GPUs get; nodes without a driver are left out."""
    found = {node.name: _release(look(client, node), wanted(client)) for node in nodes(client)}
    return {name: release for name, release in found.items() if release}


def _install(run: Run, node: NodeAccess, release: Release | None, *, replace: bool) -> None:
    run.pyinfra(
        "gpu",
        Stage.NODE,
        hosts=[node.name],
        ssh_config=str(run.client.ssh().config),
        driver=release and release.model_dump(),
        replace=replace,
    )


def _gate(client: Client, node: NodeAccess, state: NodeDriver) -> None:
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


# --- upgrade and rollback ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """What a user may choose of an upgrade."""

    reboot: bool = False
    """Reboot nodes where that is needed, which restarts all their guests."""
    leave_stopped: bool = False
    """Stop containers of clients that this controller does not know, and leave it to others to bring them back."""
    verbosity: int = 0


@dataclass
class NodePlan:
    """What is to be done on one node, from what it says of itself."""

    access: NodeAccess
    state: NodeDriver
    release: Release
    hosts: list[Host]
    """The client's own containers on its GPUs."""
    clients: list[Client] = field(default_factory=list)
    """Other clients with containers on its GPUs, whose folders are here."""
    strangers: list[str] = field(default_factory=list)
    """Other clients whose folders are not here."""

    @property
    def changes(self) -> bool:
        """Whether the driver is not yet what it should be."""
        return not self.state.settled == self.state.loaded == self.release.version

    def drained(self, client: str) -> list[tuple[int, str]]:
        """Containers that are stopped first, with the words that name them."""
        own = {host.vmid: f"{host.name} of {client}" for host in self.hosts}
        others = {
            guest.vmid: f"{guest.name} of {guest.client}" for guest in self.state.guests if guest.client
        }
        return sorted((others | own).items()) if self.changes else []

    def steps(self, client: str, *, reboot: bool) -> list[str]:
        """The steps in their order, as sentences."""
        node, version = self.access.name, self.release.version
        left = [guest.name for guest in self.state.guests if not guest.client]
        found = [f"Stop {words} (container {vmid})" for vmid, words in self.drained(client)]
        if self.changes and left:
            found.append(f"Left to their owners, not Freehold's: {', '.join(left)}")
        if self.state.settled != version:
            if not self.state.of_cache(version):
                found.append(f"Fetch the driver {version} into {CACHE} of {node}")
            found.append(f"Install the driver {version} on {node} in place of {self.state.settled or 'none'}")
        if self.changes and (self.state.loaded or "nouveau" in self.state.flags):
            found.append(
                f"Reboot {node}: all its guests restart"
                if reboot
                else f"Stop there until {node} was rebooted; the same command goes on"
            )
        if self.changes:
            found.append(f"Make the device nodes of {node}, before any container starts")
        found += [
            f"Bring {name} up: start its containers, give them the user space of {version}, prove them"
            for name in (client, *(other.stack.client for other in self.clients))
        ]
        return found


def plan(client: Client, *, rollback: bool = False) -> list[NodePlan]:
    """What an upgrade to the locked version would do on each node, or a rollback to the version before.

    Raises:
        BadInputError: No node is managed, or there is no version to go back to.
    """
    managed = nodes(client, managed=True)
    if not managed:
        raise BadInputError(
            f"{client.stack.client} has no node whose NVIDIA driver Freehold manages",
            where=f"{client.loaded.path}: nodes",
            remedy="Name the node's GPUs (nodes.<name>.gpus), give SSH to it (nodes.<name>.address), give a GPU to a host "
            "(hosts.<name>.gpus), and do not leave its driver to the administrator (nodes.<name>.driver: managed).",
        )
    client.ensure_secrets()
    made = []
    for access in managed:
        state = look(client, access)
        locked = wanted(client)
        release = state.former(locked.version) if rollback else locked
        if release is None:
            raise BadInputError(
                f"The node {access.name} has no driver to go back to: its cache holds {state.installed or 'nothing'} alone",
                where=f"{access.name}:{CACHE}",
                remedy=f"Lock the version that you want ({client.directory / versions.OVERLAY}: nvidia-driver), and run: "
                f"freehold driver upgrade {client.stack.client}",
            )
        node = NodePlan(access, state, release, nvidia_hosts(client, access.name))
        for name in sorted(state.others(client.stack.client)):
            try:
                node.clients.append(Client.open(name))
            except StackError:
                node.strangers.append(name)
        made.append(node)
    return made


def upgrade(
    client: Client, sink: Sink, options: Options | None = None, *, rollback: bool = False
) -> list[Summary]:
    """Bring nodes to the locked driver (or back to the one before), and every client's containers on them along.

    Stops the containers on the GPUs, changes the node's driver, reboots where asked to, and then runs ``up`` for each client:
    device nodes, containers, user space, services, proof.

    Raises:
        BadInputError: It cannot be; nothing was touched.
        RebootNeededError: A node must be rebooted; the same command goes on after it.
        FreeholdError: A step failed; the same command goes on.
    """
    from freehold.run import up

    options = options or Options()
    with client_lock(client.stack.client, doing="changing the NVIDIA driver"):
        made = plan(client, rollback=rollback)
        _refuse_strangers(client, made, options)
        _refuse_troubles(client, made)
        run = Run(client, RunFolder(client.directory, "driver"), sink, options.verbosity)
        run.folder.write(
            "plan.json",
            {each.access.name: each.steps(client.stack.client, reboot=options.reboot) for each in made},
        )
        for node in made:
            if node.changes:
                with run.stage(Stage.NODE, f"Driver {node.release.version} on {node.access.name}"):
                    _change(run, node, options)
    others = {other.stack.client: other for node in made for other in node.clients}
    return [up.up(each, sink, up.Options(verbosity=options.verbosity)) for each in (client, *others.values())]


def _refuse_strangers(client: Client, made: list[NodePlan], options: Options) -> None:
    for node in made:
        if node.changes and node.strangers and not options.leave_stopped:
            guests = node.state.others(client.stack.client)
            names = ", ".join(f"{guest.name} of {name}" for name in node.strangers for guest in guests[name])
            raise SharedNodeError(
                f"Other clients use the GPUs of {node.access.name}, and their folders are not here: {names}",
                where=node.access.name,
                remedy="Run it where their folders are (they are stopped, updated and proven along), or stop them with "
                "--leave-stopped; `freehold up <client>` by whoever has the folder then brings each back.",
            )


def _refuse_troubles(client: Client, made: list[NodePlan]) -> None:
    """Nobody is stopped for a driver that could not be installed."""
    for node in made:
        found = troubles(
            node.state,
            node.release,
            client=client.stack.client,
            cards=node.access.gpus,
            installs=node.changes,
        )
        if blocking := [each for each in found if each.blocks]:
            raise ObstacleError(
                f"The driver {node.release.version} cannot be brought to {node.access.name}",
                where=node.access.name,
                answer="\n".join(each.detail for each in blocking),
                remedy="\n".join(each.remedy for each in blocking),
            )


def _change(run: Run, node: NodePlan, options: Options) -> None:
    client, access = run.client, node.access
    for vmid, words in node.drained(client.stack.client):
        _stop(run, access, vmid, words)
    for _ in range(3):  # nouveau has to go before the first installation: then there are two reboots at most
        _install(run, access, node.release, replace=True)
        state = look(client, access)
        if not state.waits_for_reboot:
            break
        if not options.reboot:
            break
        _reboot(run, access)
    _gate(client, access, state)


def _stop(run: Run, node: NodeAccess, vmid: int, words: str) -> None:
    step, doing = f"Stop {words}", f"stopping container {vmid}"
    answer = _on(
        run.client,
        node,
        f"sh -c 'pct status {vmid} 2>/dev/null | grep -q running || exit 0;"
        f" pct shutdown {vmid} --timeout {_SHUTDOWN} --forceStop 1 >&2 && echo stopped'",
        _SHUTDOWN + 60,
        doing,
    )
    status = Status.CHANGED if "stopped" in answer else Status.OK
    run.say(Stage.NODE, status, step, node.name, message=f"container {vmid}")


def _reboot(run: Run, node: NodeAccess) -> None:
    client, fresh = run.client, ("-o", "ControlPath=none", "-o", "ConnectTimeout=5")
    doing = "rebooting the node"
    before = _on(client, node, f"sh -c {shlex.quote(_BOOTED)}", _LOOK, doing).strip()
    run.say(Stage.NODE, Status.PROGRESS, f"Rebooting {node.name}: all its guests restart", node.name)
    _on(client, node, "systemd-run --on-active=2 systemctl reboot", _LOOK, doing)
    ssh.disconnect(client.ssh(), node.name)
    # the API answers and guests were started once this unit is active
    ready = f"sh -c {shlex.quote(f'systemctl is-active --quiet pve-guests && {_BOOTED}')}"

    def back() -> bool:
        return _on(client, node, ready, _LOOK, doing, *fresh).strip() not in {"", before}

    _until(back, f"The node {node.name} did not come back within {_BOOT // 60} minutes", node.name)
    run.say(Stage.NODE, Status.CHANGED, f"Rebooted {node.name}", node.name)


def _until(ready: Callable[[], bool], message: str, where: str) -> None:
    deadline = time.monotonic() + _BOOT
    answer = ""
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except FreeholdError as error:
            answer = error.answer or error.message
        time.sleep(5)
    raise FreeholdError(
        message, where=where, answer=answer, remedy="Look at its screen; then run the same command again."
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
            ["ssh", *config, host.name, f"cat {MARKER}"], timeout=_LOOK, doing="reading the user space"
        )
    except FreeholdError:
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
