"""``freehold up``: from a stack file to proven containers. Each stage finds out itself what is left to do."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from freehold import ssh
from freehold.catalog.models import LOCK
from freehold.errors import FreeholdError
from freehold.events import Event, Stage, Status
from freehold.layout.types import Host, Layout
from freehold.proxmox.changes import Action, Phase, Plan
from freehold.proxmox.lock import client_lock
from freehold.run import (
    check,
    drift,
    driver,
    firewall,
    gpus,
    models_lock,
    plan,
    proof,
    roots,
    served,
    templates,
)
from freehold.run.context import TOKEN_SECRET, Client
from freehold.run.folder import RunFolder
from freehold.run.offline import findings as missing_offline
from freehold.run.stages import Run, Sink, failure
from freehold.run.summary import Summary, summarise

_AT_ONCE = 8
"""Hosts that are waited for at once."""


@dataclass(frozen=True)
class Options:
    """What a user may choose of a run."""

    full: bool = False
    """Run every role, whether or not its host differs."""
    prune: bool = False
    """Destroy the client's containers that the stack no longer names."""
    offline: bool = False
    """Take everything from the client's mirror; refuse to begin while it lacks something."""
    prove: bool = True
    """Prove the hosts at the end."""
    until: Stage | None = None
    """Stop after this stage."""
    verbosity: int = 0


def up(client: Client, sink: Sink, options: Options | None = None) -> Summary:
    """Bring the client's hosts to what the stack wants, and prove them.

    Raises:
        BadInputError: The stack, the node or the secrets do not allow it; nothing was touched.
        FreeholdError: A stage failed. The same call goes on where it stopped.
    """
    options = options or Options()
    began = time.monotonic()
    with client_lock(client.stack.client):
        run = Run(client, RunFolder(client.directory, "up"), sink, options.verbosity)
        _lock(run)
        made = client.ensure_secrets()
        _check(run, made, offline=options.offline)
        _node(run)
        changes = _plan(run, options)
        for stage in (_containers, _root_steps, _start):
            stage(run, changes)
        if options.until is not Stage.START:
            _base(run)
        if options.until not in {Stage.START, Stage.BASE}:
            _services(run, options)
            served.note(client)
        proving = options.prove and options.until is None
        proven = proof.prove(run, offline=options.offline) if proving else None
        return summarise(run, proven, seconds=time.monotonic() - began, firewall=firewall.state(client))


def _lock(run: Run) -> None:
    learned, error = models_lock.before_a_run(run.client)
    if learned:
        _tell_locked(run, Stage.CHECK, learned)
    if error:
        told = f"{error.message}; the node asks the hub itself"
        run.say(Stage.CHECK, Status.PROGRESS, "Weights are not locked yet", message=told)


def _tell_locked(run: Run, stage: Stage, learned: list[str]) -> None:
    where = run.client.directory / LOCK
    run.say(
        stage,
        Status.PROGRESS,
        "Locked what was learned of weights",
        message=f"{', '.join(learned)} in {where}",
    )


def _check(run: Run, made: list[str], *, offline: bool) -> None:
    with run.stage(Stage.CHECK, "Checking what the run needs"):
        if made:
            run.say(
                Stage.CHECK,
                Status.PROGRESS,
                f"Made {len(made)} secret{'s' * (len(made) != 1)}",
                message=", ".join(made),
            )
        findings = check.check(run.client)
        if offline:
            findings += missing_offline(run.client)
        run.folder.write("check.json", {"findings": [finding.as_dict() for finding in findings]})
        check.require(findings)


def _node(run: Run) -> None:
    layout = run.client.layout
    with run.stage(Stage.NODE, "Preparing the nodes"):
        reachable = {node.name for node in layout.nodes if node.address}
        driver.prepare(run)
        gpus.settle(run.client)
        if reachable:
            run.pyinfra(
                "node",
                Stage.NODE,
                layout=_on_nodes(run.client).model_dump(mode="json"),
                ssh_config=str(run.client.ssh().config),
                scrape_hash=run.client.scrape_hash,
            )
        storage = run.client.stack.proxmox.template_storage
        for node, os in sorted({(host.node, host.os) for host in layout.hosts if host.node not in reachable}):
            if templates.find(run.client.api, node, storage, os) is None:
                mirrored = run.client.template_at_mirror(os)
                volume = templates.download(run.client.api, node, storage, os, mirrored)
                run.say(Stage.NODE, Status.CHANGED, "Template", node, message=volume)


def _on_nodes(client: Client) -> Layout:
    """The layout with all hosts that have devices, and their engines: what ``--only`` leaves out keeps them."""
    whole, chosen = client.whole_layout, {host.name for host in client.layout.hosts}
    hosts = tuple(host for host in whole.hosts if host.name in chosen or host.devices)
    names = {host.name for host in hosts}
    services = tuple(service for service in whole.services if service.host in names)
    return client.layout.model_copy(update={"hosts": hosts, "services": services, "models": whole.models})


def _plan(run: Run, options: Options) -> Plan:
    with run.stage(Stage.PLAN, "Comparing containers with the stack"):
        made, _ = plan.plan(run.client, prune=options.prune)
        run.folder.write("plan.json", made.model_dump(mode="json"))
        guests = len({change.vmid for change in made.changes if change.actionable})
        run.say(
            Stage.PLAN, Status.PROGRESS, f"Containers to change: {guests}" if guests else "Nothing to change"
        )
        for note in made.notes:
            run.say(Stage.PLAN, Status.PROGRESS, note)
        plan.refuse_impossible(made)
    _forget_keys(run.client, made)
    return made


def _forget_keys(client: Client, made: Plan) -> None:
    """Unpin the host keys of containers that are made anew, and of addresses that pass from one to another."""
    hosts = {host.vmid: host for host in client.whole_layout.hosts}
    before = {
        change.vmid: str(diff.old) for change in made.changes for diff in change.diffs if diff.field == "net0"
    }

    def held_by_another(host: Host) -> bool:
        return any(f"ip={host.address}/" in old for vmid, old in before.items() if vmid != host.vmid)

    pins = client.directory / "known_hosts"
    for change in made.changes:
        host = hosts.get(change.vmid)
        anew = change.action in {Action.CREATE, Action.DESTROY}
        if host and (anew or (change.vmid in before and held_by_another(host))):
            ssh.unpin(pins, str(host.address))


def _api_secrets(client: Client) -> dict[str, dict[str, str]]:
    return {"proxmox": {"token": client.secrets.get(TOKEN_SECRET)}}


def _containers(run: Run, made: Plan) -> None:
    with run.stage(Stage.CONTAINERS, "Creating and changing containers"):
        roots.run_steps(run, made, Phase.UNLOCK, Stage.CONTAINERS)
        if made.select(Phase.CONFIGURE):
            run.pyinfra(
                "container",
                Stage.CONTAINERS,
                plan=made.model_dump(mode="json"),
                secrets=_api_secrets(run.client),
            )


def _root_steps(run: Run, made: Plan) -> None:
    with run.stage(Stage.ROOT_STEPS, "Passing devices and directories as root"):
        roots.run_steps(run, made, Phase.ROOT, Stage.ROOT_STEPS)


def _start(run: Run, made: Plan) -> None:
    with run.stage(Stage.START, "Starting containers"):
        if made.select(Phase.POWER):
            run.pyinfra(
                "power", Stage.START, plan=made.model_dump(mode="json"), secrets=_api_secrets(run.client)
            )
        _reach(run, {change.vmid for change in made.select(Phase.POWER) if change.action is not Action.STOP})


def _reach(run: Run, started: set[int]) -> None:
    """Wait for the SSH servers of hosts that were just started, and pin host keys that are not pinned yet."""
    client = run.client
    pins, access = client.directory / "known_hosts", client.ssh()
    new = {host.name for host in client.layout.hosts if not ssh.pinned(pins, str(host.address))}

    def reach(host: Host) -> FreeholdError | None:
        try:
            ssh.disconnect(access, host.name)
            if host.name in new:
                ssh.pin(pins, host.name, str(host.address), _fingerprints(client, host))
            else:
                ssh.wait_until_answering(host.name, str(host.address))
        except FreeholdError as error:
            return error
        return None

    hosts = [host for host in client.layout.hosts if host.name in new or host.vmid in started]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        errors = dict(zip((host.name for host in hosts), pool.map(reach, hosts), strict=True))
    failed = []
    for name, error in errors.items():
        if error is not None:
            event = Event(
                stage=Stage.START,
                status=Status.FAILED,
                step="SSH",
                host=name,
                message=error.message,
                data={"error": error.as_dict()},
            )
            failed.append(event)
            run(event)
        elif name in new:
            run.say(Stage.START, Status.PROGRESS, "Pinned the SSH host key", name)
    if failed:
        raise failure(Stage.START, failed, log=str(pins))


def _fingerprints(client: Client, host: Host) -> set[str]:
    """Fingerprints that Proxmox VE printed when it made the container: log of the last ``vzcreate`` task."""
    tasks = client.api.get(
        f"/nodes/{host.node}/tasks",
        {"vmid": host.vmid, "typefilter": "vzcreate", "limit": 5},
        doing=f"looking for the task that made {host.name}",
    )
    for task in sorted(tasks, key=lambda task: int(task["starttime"]), reverse=True):
        found = ssh.fingerprints(client.api.task_log(task["upid"]))
        if found:
            return found
    raise ssh.HostKeyError(
        f"No SSH host key is pinned for {host.name}, and Proxmox VE's log of its creation is gone",
        where=str(client.directory / "known_hosts"),
        remedy=f"On the node: pct exec {host.vmid} -- cat /etc/ssh/ssh_host_ed25519_key.pub; write `{host.address} "
        "<that key>` into the file.",
    )


def _base(run: Run) -> None:
    with run.stage(Stage.BASE, "Giving hosts their base system"):
        releases = driver.user_space(run.client)
        run.pyinfra(
            "base",
            Stage.BASE,
            ssh_config=str(run.client.ssh().config),
            scrape_hash=run.client.scrape_hash,
            user_space={node: release.model_dump() for node, release in releases.items()},
        )


def _services(run: Run, options: Options) -> None:
    client = run.client
    config = str(client.ssh().config)
    with run.stage(Stage.SERVICES, "Configuring services"):
        found = drift.manifests(run.pyinfra("facts", Stage.SERVICES, ssh_config=config))
        differing = (
            {service.host: {service.name: "--full"} for service in client.layout.services}
            if options.full
            else drift.stale(client, found)
        )
        for host, services in differing.items():
            for name, reason in services.items():
                run.say(Stage.SERVICES, Status.STARTED, name, host, message=reason)
        if differing:
            run.ansible(
                Stage.SERVICES,
                stack=str(client.loaded.path),
                secrets=client.secrets.document(),
                ssh_config=config,
                hosts=sorted(differing),
                services=sorted({name for services in differing.values() for name in services}),
                verbosity=options.verbosity,
            )
        if learned := models_lock.learn(client):
            _tell_locked(run, Stage.SERVICES, learned)
