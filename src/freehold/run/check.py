"""Can it work? Everything that ``up`` will need, looked at before anything is touched.

Each look is one call of the API or of SSH; nothing is changed.
"""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from freehold.catalog import models, versions
from freehold.catalog import services as catalog
from freehold.errors import BadInputError, FreeholdError
from freehold.layout import artifacts, licence_gate, network, trial
from freehold.layout.types import WEIGHTS_OWNER, Layout, NodeAccess
from freehold.run import (
    driver,
    firewall,
    given,
    gpus,
    own_certificate,
    plan,
    route_names,
    served,
    templates,
)
from freehold.run.context import Client
from freehold.run.finding import Finding as Finding
from freehold.schema.stack import Use

MINIMUM_VERSION = (8, 2)
"""Device passthrough for containers (``devN``) is in the web interface and stable since Proxmox VE 8.2."""
NODE_RESERVE = 2048
"""MiB of memory that a node keeps for itself."""
_SSH_TIMEOUT = 60


class CheckFailedError(BadInputError):
    """Something that ``up`` needs is missing."""

    def __init__(self, findings: list[Finding]) -> None:
        problems = [finding for finding in findings if finding.status == "problem"]
        super().__init__(
            problems[0].detail if len(problems) == 1 else f"{len(problems)} things are missing",
            doing="checking what the run needs",
            answer=None if len(problems) == 1 else "\n".join(f"- {p.about}: {p.detail}" for p in problems),
            remedy="\n".join(dict.fromkeys(p.remedy for p in problems if p.remedy)),
            where=problems[0].about if len(problems) == 1 else None,
        )
        self.findings = findings


def check(client: Client) -> list[Finding]:
    """All findings, in an order in which the first problem explains the later ones.

    Raises:
        FreeholdError: The API cannot be asked at all (unreachable, wrong certificate, wrong token).
    """
    return list(_findings(client))


def require(findings: list[Finding]) -> None:
    """Stop unless everything is there.

    Raises:
        CheckFailedError: At least one finding is a problem.
    """
    if any(finding.status == "problem" for finding in findings):
        raise CheckFailedError(findings)


def _findings(client: Client) -> Iterator[Finding]:
    layout = client.layout
    yield Finding("stack file", "ok", _hosts(layout))
    yield from _engines(layout)
    yield from _artifacts(layout)
    yield from _licences(client)
    lacking = given.missing(client)
    for name in lacking:
        yield Finding(
            f"secret {name}",
            "problem",
            f"the stack needs the secret {name}, which only you have",
            f"Run: {given.command(client.stack.client, name)}",
        )
    if file := given.missing_authorities(client):
        yield Finding(
            "authorities of providers",
            "problem",
            f"there is no certificate (PEM) in {client.directory / file}",
            "Put the certificate of the provider's authority there.",
        )
    yield from own_certificate.findings(client)
    yield from _guarded("names that count as sensitive", partial(_names, client))
    yield from _controller(client)
    yield _version(client)
    privileges = _privileges(client)
    yield privileges
    if privileges.status == "problem":
        return
    reached = {node.name: _ssh(client, node) for node in _over_ssh(client)}
    open_ = all(finding.status != "problem" for finding in reached.values())
    sound = open_ and not lacking  # what a plan needs of a node is asked over SSH
    for node in sorted({host.node for host in layout.hosts}):
        for finding in _guarded(f"node {node}", partial(_node, client, node, ask=open_)):
            sound = sound and finding.status != "problem"
            yield finding
    if sound:
        yield from _guarded("containers", partial(_containers, client))
    for node, finding in reached.items():
        yield finding
        if finding.status == "ok":
            yield from _guarded(f"NVIDIA driver of {node}", partial(_driver, client, node))
    yield from _root_steps(client)
    yield from _old_models(client)


def _names(client: Client) -> Iterator[Finding]:
    """A list of names that counts as sensitive and is empty: nobody's name would hold a conversation back."""
    routing = client.stack.routing
    if routing and routing.cloud and routing.sensitive.names and not route_names.load(client):
        yield Finding(
            "names that count as sensitive",
            "warning",
            f"{route_names.FILE} has no name, so conversations with names of your own clients may go to a cloud provider",
            f"Run: freehold route names add {client.stack.client} FILE. Or say routing.sensitive.names: false in the stack file.",
        )


def _controller(client: Client) -> Iterator[Finding]:
    """Whether containers will let this controller in by SSH; in the middle of a run, there would only be no answer."""
    layout = client.layout
    told = {_source(str(host.address)) for host in layout.hosts} - {None}
    for address in sorted(map(IPv4Address, filter(None, told))):
        if any(address in each for each in network.admins(client.stack)):
            continue
        # Nothing between here and the containers gives it another address.
        certain = address in client.stack.network.subnet
        yield Finding(
            "this controller",
            "problem" if certain else "warning",
            f"it comes from {address}, and containers let in SSH from "
            f"{', '.join(map(str, network.admins(client.stack)))} alone: they will not answer it"
            + ("" if certain else ", unless something on the way gives it another address"),
            "Add its network to network.admins in the stack file.",
        )


def _source(address: str) -> str | None:
    """The address from which this machine would ask another; nothing is sent. None where no way leads there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        try:
            door.connect((address, 22))
        except OSError:
            return None
        return str(door.getsockname()[0])


def _old_models(client: Client) -> Iterator[Finding]:
    """A reminder of language models that have been served for as long as the stack allows."""
    if running := trial.load(client.directory):
        yield Finding(
            "trial",
            "warning",
            f"{running.model} stands in for {running.instead} until {running.until:%Y-%m-%d %H:%M}",
            f"If nothing tries it any more, end it: freehold models back {client.stack.client}",
        )
    for old in served.reminders(client):
        yield Finding(
            f"language model {old.name}",
            "warning",
            old.text,
            f"See what there is (freehold models list {client.stack.client}), and try one: freehold models try {client.stack.client} ID",
        )


def _hosts(layout: Layout) -> str:
    names = ", ".join(service.name for service in layout.services)
    return f"1 host: {names}" if len(layout.hosts) == 1 else f"{len(layout.hosts)} hosts: {names}"


def _engines(layout: Layout) -> Iterator[Finding]:
    """Services that compute on a GPU, by their option ``device`` or as engines without such an option, and have none."""
    known = catalog.load()
    for service in layout.services:
        key = f"{service.role.replace('-', '_')}_device"
        option = catalog.argument_specs(service.role).get(key)
        default = option.get("default") if option else "cuda" if known[service.role].engine else None
        if service.variables.get(key, default) == "cuda" and not layout.host(service.host).devices:
            otherwise = f"let it compute without one (services.{service.name}.device: cpu)"
            yield Finding(
                f"GPU for {service.name}",
                "problem",
                f"{service.title} computes on a GPU, and the host {service.host} is given none",
                f"List the node's GPUs (nodes.<name>.gpus) and give one to the host (hosts.{service.host}.gpus: [0]), "
                f"or {otherwise if option else 'leave the service out'}.",
            )


def _artifacts(layout: Layout) -> Iterator[Finding]:
    lock = versions.load(Path(layout.directory))
    for service in layout.services:
        for name, artifact in artifacts.of(service, lock).items():
            if not artifact.pinned:
                yield Finding(
                    f"versions.yml: {name}",
                    "problem",
                    f"{name} {artifact.version} has no checksum in the lock, so {service.title} is not installed",
                    f"Where {artifact.upstream} can be reached, run: freehold versions lock {name}",
                )


def _licences(client: Client) -> Iterator[Finding]:
    """What licences leave to a person to judge; what they forbid was refused with the stack file."""
    stack, layout = client.stack, client.layout
    lock, known = versions.load(Path(layout.directory)), models.load(Path(layout.directory))
    installed = {service.name: [*artifacts.of(service, lock).values()] for service in layout.services}
    yield Finding("licences", "ok", _use(stack.use))
    for verdict in licence_gate.verdicts(stack, known, installed, layout):
        if not verdict.refused:
            yield Finding(f"licence of {verdict.title}", "warning", verdict.text, verdict.remedy)


def _use(use: Use) -> str:
    kind = "commercial" if use.commercial else "not commercial"
    whom = "customers" if use.customers else "the client's own people"
    return f"nothing forbids use in {use.region}, {kind}, for {whom}"


def _guarded(about: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a look; what it cannot see is a finding too."""
    try:
        yield from look()
    except FreeholdError as error:
        detail = ": ".join(part for part in (error.message, error.answer) if part)
        yield Finding(about, "problem", detail, error.remedy or "")


def _version(client: Client) -> Finding:
    version = str(client.api.get("/version", doing="asking for the version")["version"])
    number = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if number < MINIMUM_VERSION:
        return Finding(
            "Proxmox VE",
            "problem",
            f"The node runs Proxmox VE {version}; Freehold needs 8.2 or newer",
            "Upgrade the node.",
        )
    return Finding("Proxmox VE", "ok", f"version {version} at {client.stack.proxmox.endpoint}")


def _privileges(client: Client) -> Finding:
    from freehold.proxmox.privileges import missing_privileges
    from freehold.run.prepare import needs

    missing = missing_privileges(client.api, needs(client))
    if missing:
        text = "; ".join(f"{item.privilege} on {item.path} (to {item.why})" for item in missing)
        return Finding(
            "API token",
            "problem",
            f"The token {client.stack.proxmox.token} lacks {text}",
            f"Run: freehold prepare {client.stack.client}. Where a path names what is not there, correct the stack file.",
        )
    return Finding("API token", "ok", f"{client.stack.proxmox.token} has every privilege that Freehold needs")


def _node(client: Client, node: str, *, ask: bool) -> Iterator[Finding]:
    api, layout = client.api, client.layout
    names = [entry["node"] for entry in api.get("/nodes", doing="listing the nodes")]
    if node not in names:
        yield Finding(
            f"node {node}",
            "problem",
            f"There is no node {node}; there is {', '.join(sorted(names))}",
            "Correct proxmox.node in the stack file.",
        )
        return
    hosts = [host for host in layout.hosts if host.node == node]
    status = api.get(f"/nodes/{node}/status", doing=f"asking for the state of node {node}")
    yield _memory(node, sum(host.memory for host in hosts), int(status["memory"]["total"]) // 2**20)
    yield from _storages(client, node)
    bridges = {
        entry["iface"]
        for entry in api.get(f"/nodes/{node}/network", doing="listing bridges")
        if entry.get("type") in {"bridge", "OVSBridge"}
    }
    for bridge in sorted({host.bridge for host in hosts}):
        if bridge in bridges:
            yield Finding(f"bridge {bridge}", "ok", f"on node {node}")
        else:
            yield Finding(
                f"bridge {bridge}",
                "problem",
                f"Node {node} has no bridge {bridge}"
                + (f"; the token may use {', '.join(sorted(bridges))}" if bridges else ""),
                "Correct network.bridge in the stack file; `ip -br link show type bridge` on the node lists them.",
            )
    if ask:
        gpus.look(client)
        yield from gpus.findings(client, node)
    yield from _templates(client, node)


def _memory(node: str, wanted: int, total: int) -> Finding:
    if wanted > total - NODE_RESERVE:
        return Finding(
            f"memory of {node}",
            "problem",
            f"The containers want {wanted} MiB; node {node} has {total} MiB and keeps {NODE_RESERVE} MiB for itself",
            "Give hosts less memory (hosts.<name>.memory), or leave services out.",
        )
    return Finding(f"memory of {node}", "ok", f"{wanted} of {total} MiB")


def _storages(client: Client, node: str) -> Iterator[Finding]:
    pve, layout = client.stack.proxmox, client.layout
    listed = {
        entry["storage"]: entry
        for entry in client.api.get(f"/nodes/{node}/storage", doing=f"listing the storages of node {node}")
    }
    needs: dict[str, int] = {}
    existing = {
        int(entry["vmid"]) for entry in client.api.get(f"/nodes/{node}/lxc", doing="listing containers")
    }
    for host in layout.hosts:
        if host.node == node and host.vmid not in existing:
            size = host.disk + sum(volume.size for volume in host.volumes)
            needs[host.storage] = needs.get(host.storage, 0) + size
    wanted = {host.storage for host in layout.hosts if host.node == node}
    for storage in sorted(wanted):
        yield _storage(listed, storage, "rootdir", "proxmox.storage", needs.get(storage, 0))
    yield _storage(listed, pve.template_storage, "vztmpl", "proxmox.template_storage", 0)


def _storage(listed: dict[str, Any], storage: str, content: str, key: str, need: int) -> Finding:
    entry = listed.get(storage)
    able = [
        name for name, item in sorted(listed.items()) if content in str(item.get("content", "")).split(",")
    ]
    choose = f"Correct {key} in the stack file; " + (
        f"the token may use {', '.join(able)}." if able else "`pvesm status` on the node lists the storages."
    )
    about = f"storage {storage}"
    if entry is None:
        return Finding(about, "problem", f"The node has no storage {storage}", choose)
    if storage not in able:
        return Finding(about, "problem", f"Storage {storage} does not hold {content}", choose)
    if not entry.get("active") or not entry.get("enabled", 1):
        return Finding(
            about, "problem", f"Storage {storage} is not active", f"Enable it on the node. Or: {choose}"
        )
    free = int(entry.get("avail", 0)) / 2**30
    if need > free:
        return Finding(
            about,
            "problem",
            f"Storage {storage} has {free:.0f} GiB free; the containers still to be made want {need} GiB",
            "Make space, choose another storage, or give hosts smaller disks (hosts.<name>.disk).",
        )
    return Finding(about, "ok", f"{free:.0f} GiB free" + (f", {need} GiB wanted" if need else ""))


def _templates(client: Client, node: str) -> Iterator[Finding]:
    if any(access.name == node and access.address for access in client.layout.nodes):
        return  # fetched on the node itself, which renews its index first
    storage = client.stack.proxmox.template_storage
    for os in sorted({host.os for host in client.layout.hosts if host.node == node}):
        name = templates.find(client.api, node, storage, os)
        if name is None and (mirrored := client.template_at_mirror(os)):
            name = f"{mirrored['url']}, for the node to fetch"
        name = name or templates.offered(client.api, node, os)
        if name is None:
            missing = templates.missing(node, storage, os)
            yield Finding(f"template {os}", "problem", missing.message, missing.remedy or "")
        else:
            yield Finding(f"template {os}", "ok", name)


def _containers(client: Client) -> Iterator[Finding]:
    """Guests of others where containers are wanted, and changes that cannot be made in place."""
    made, _ = plan.plan(client)
    plan.refuse_impossible(made)
    count = len({change.vmid for change in made.changes if change.actionable})
    yield Finding("containers", "ok", f"{count} to change" if count else "nothing to change")
    yield firewall.finding(client, made)


def _over_ssh(client: Client) -> list[NodeAccess]:
    """Nodes that are reached over SSH, for root steps or to be asked for their GPUs."""
    wanted = {host.node for host in client.layout.hosts if host.devices or host.mounts}
    wanted |= {name for name, node in client.stack.nodes.items() if node.gpus}
    return [node for node in client.layout.nodes if node.name in wanted and node.address]


def _driver(client: Client, node: str) -> Iterator[Finding]:
    return driver.findings(client, next(each for each in client.layout.nodes if each.name == node))


def _root_steps(client: Client) -> Iterator[Finding]:
    layout = client.layout
    reached = {node.name for node in layout.nodes if node.address}
    for name in sorted({host.node for host in layout.hosts if host.devices or host.mounts} - reached):
        if client.stack.proxmox.root_password_command:
            yield Finding(
                f"root steps on {name}", "ok", "through a root@pam session (proxmox.root_password_command)"
            )
            if any(host.devices for host in layout.hosts if host.node == name):
                yield Finding(
                    f"GPU device nodes of {name}",
                    "warning",
                    "Without SSH to the node, Freehold cannot see to it that they exist when containers start, and takes their numbers from the order of addresses",
                    f"Let the node make them at boot, before pve-guests.service (for NVIDIA: `nvidia-modprobe -c 0` with the number of each GPU, then `nvidia-modprobe -u -c 0`), or give SSH to the node (nodes.{name}.address).",
                )
            place = next((node.weights for node in layout.nodes if node.name == name), None)
            if any(
                mount.source == place for host in layout.hosts for mount in host.mounts if host.node == name
            ):
                yield Finding(
                    f"weights on {name}",
                    "warning",
                    f"Without SSH to the node, Freehold cannot make {place}, and containers that bind it do not start without it",
                    f"On the node, once: install -d -o {WEIGHTS_OWNER} -g {WEIGHTS_OWNER} {place}",
                )
        else:
            yield Finding(
                f"root steps on {name}",
                "problem",
                "GPUs and bind mounts can only be set by root@pam itself, and there is no way to become root on the node",
                f"Give SSH to the node (nodes.{name}.address and host_key) or proxmox.root_password_command in the stack file.",
            )


def _ssh(client: Client, node: NodeAccess) -> Finding:
    client.ensure_secrets()
    access = client.ssh()
    about = f"SSH to node {node.name}"
    try:
        answer = subprocess.run(
            ["ssh", "-F", str(access.config), "-o", "BatchMode=yes", node.name, "pct", "list"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_SSH_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return Finding(
            about,
            "problem",
            f"`pct list` on {node.name} did not end within {_SSH_TIMEOUT} s",
            "Look at the node: its cluster file system (systemctl status pve-cluster) may hang.",
        )
    except FileNotFoundError:
        return Finding(about, "problem", "There is no ssh on this machine", "Install openssh-client.")
    if answer.returncode == 0:
        return Finding(about, "ok", f"{node.ssh_user}@{node.address}, host key pinned")
    text = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
    remedies: list[tuple[str, Callable[[], str]]] = [
        ("Host key verification failed", lambda: f"Write the node's key to nodes.{node.name}.host_key: `ssh-keyscan -t ed25519 {node.address}`, compared with /etc/ssh/ssh_host_ed25519_key.pub on the node."),
        ("Permission denied", lambda: f"Let your key in: `ssh-copy-id {node.ssh_user}@{node.address}`, or name the key under nodes.{node.name}.ssh_key."),
    ]  # fmt: skip
    last = text[-1] if text else "no answer"
    remedy = next(
        (make() for sign, make in remedies if sign in answer.stderr),
        "Check nodes.<name>.address and the network.",
    )
    return Finding(about, "problem", f"ssh {node.ssh_user}@{node.address}: {last}", remedy)
