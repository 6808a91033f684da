"""``freehold driver upgrade`` and ``rollback``: another NVIDIA driver on nodes, and all containers on their GPUs along.

Nothing is remembered between two runs (:mod:`freehold.run.driver`): what was cut off, or stopped for a reboot, is continued by
the same command.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from freehold import ssh
from freehold.catalog import versions
from freehold.errors import BadInputError, FreeholdError
from freehold.events import Stage, Status
from freehold.layout.types import Host, NodeAccess
from freehold.nvidia import CACHE, NodeDriver, Release, troubles
from freehold.proxmox.lock import client_lock
from freehold.run import driver
from freehold.run.context import Client
from freehold.run.folder import RunFolder
from freehold.run.stages import Run, Sink
from freehold.run.summary import Summary
from freehold.schema.problems import StackError

_SHUTDOWN = 120
"""Seconds that a container is given to end by itself, before it is stopped."""
_BOOTED = 'echo "$(cat /proc/sys/kernel/random/boot_id) $(cut -d " " -f 22 /proc/1/stat)"'
"""Prints what differs from boot to boot, also where the kernel is shared: a node may be a container."""
_BOOT = 1200
"""Seconds that a node may take to boot: servers test their memory for minutes."""


class SharedNodeError(BadInputError):
    """Others use the node's GPUs, and this controller does not know them."""


class ObstacleError(BadInputError):
    """Something stands in the way of a driver on a node."""


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
    managed = driver.nodes(client, managed=True)
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
        state = driver.look(client, access)
        locked = driver.wanted(client)
        release = state.former(locked.version) if rollback else locked
        if release is None:
            raise BadInputError(
                f"The node {access.name} has no driver to go back to: its cache holds {state.installed or 'nothing'} alone",
                where=f"{access.name}:{CACHE}",
                remedy=f"Lock the version that you want ({client.directory / versions.OVERLAY}: nvidia-driver), and run: "
                f"freehold driver upgrade {client.stack.client}",
            )
        node = NodePlan(access, state, release, driver.nvidia_hosts(client, access.name))
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
        driver.install(run, access, node.release, replace=True)
        state = driver.look(client, access)
        if not state.waits_for_reboot:
            break
        if not options.reboot:
            break
        _reboot(run, access)
    driver.gate(client, access, state)


def _stop(run: Run, node: NodeAccess, vmid: int, words: str) -> None:
    step, doing = f"Stop {words}", f"stopping container {vmid}"
    answer = driver.on(
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
    before = driver.on(client, node, f"sh -c {shlex.quote(_BOOTED)}", driver.LOOK, doing).strip()
    run.say(Stage.NODE, Status.PROGRESS, f"Rebooting {node.name}: all its guests restart", node.name)
    driver.on(client, node, "systemd-run --on-active=2 systemctl reboot", driver.LOOK, doing)
    ssh.disconnect(client.ssh(), node.name)
    # the API answers and guests were started once this unit is active
    ready = f"sh -c {shlex.quote(f'systemctl is-active --quiet pve-guests && {_BOOTED}')}"

    def back() -> bool:
        return driver.on(client, node, ready, driver.LOOK, doing, *fresh).strip() not in {"", before}

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
