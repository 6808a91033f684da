"""``freehold down``: remove a client's containers, and nothing that Freehold did not make."""

from __future__ import annotations

from freehold import ssh
from freehold.errors import BadInputError
from freehold.events import Stage, Status
from freehold.layout.compute import services_of
from freehold.proxmox.apply import apply
from freehold.proxmox.changes import Change, Phase, Plan
from freehold.proxmox.lock import client_lock
from freehold.proxmox.observe import observe
from freehold.proxmox.plan import plan_down
from freehold.run import roots
from freehold.run.context import Client
from freehold.run.folder import RunFolder
from freehold.run.stages import Run, Sink


class NotConfirmedError(BadInputError):
    """The client's name was not given back."""


def what_goes(client: Client) -> Plan:
    """What would be destroyed: all of the client's containers, or with ``--only`` the hosts of those services."""
    nodes = {client.stack.proxmox.node, *client.stack.nodes}
    observed = observe(client.api, [], owner=client.stack.client, pool=client.stack.pool, nodes=sorted(nodes))
    if client.only is None:
        return plan_down(observed)
    # What the services need may serve others: only they themselves go.
    named = set(services_of(client.only))
    own = [host.vmid for host in client.layout.hosts if named & set(host.services)]
    return plan_down(observed, own)


def down(client: Client, sink: Sink, made: Plan) -> int:
    """Destroy what the plan names; the number of containers that went.

    Raises:
        PveError: A container could not be removed; the others were.
    """
    with client_lock(client.stack.client, doing="removing containers"):
        run = Run(client, RunFolder(client.directory, "down"), sink)
        run.folder.write("plan.json", made.model_dump(mode="json"))
        names = {host.vmid: host.name for host in client.whole_layout.hosts}

        def report(change: Change, text: str) -> None:
            status = {"started": Status.STARTED, "done": Status.CHANGED, "failed": Status.FAILED}.get(
                text, Status.PROGRESS
            )
            step = f"{change.action.value} {change.host} ({change.vmid})"
            run.say(
                Stage.CONTAINERS,
                status,
                step,
                names.get(change.vmid, change.host),
                "" if status is not Status.PROGRESS else text,
            )

        with run.stage(Stage.CONTAINERS, "Removing containers"):
            roots.run_steps(run, made, Phase.UNLOCK, Stage.CONTAINERS)
            apply(client.api, made, (Phase.CONFIGURE, Phase.POWER), report=report)
        left_behind = client.layout.monitor or any(host.devices for host in client.layout.hosts)
        if client.only is None and left_behind and any(node.address for node in client.layout.nodes):
            with run.stage(Stage.NODE, "Leaving the nodes"):
                none: dict[str, object] = {"hosts": (), "services": (), "models": (), "monitor": None}
                nothing = client.layout.model_copy(update=none)
                run.pyinfra(
                    "node",
                    Stage.NODE,
                    layout=nothing.model_dump(mode="json"),
                    ssh_config=str(client.ssh().config),
                )
        pins = client.directory / "known_hosts"
        gone = {change.vmid for change in made.changes}
        for host in client.whole_layout.hosts:
            if host.vmid in gone:
                ssh.unpin(pins, str(host.address))
        return len(gone)
