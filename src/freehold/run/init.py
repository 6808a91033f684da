"""``freehold init``: from an address to a stack file. Asks what cannot be guessed, and the node for the rest."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import yaml
from pydantic import TypeAdapter, ValidationError

from freehold import ssh
from freehold.catalog import gpus as catalog_of_gpus
from freehold.catalog import licences, services
from freehold.catalog import models as catalog_of_models
from freehold.errors import BadInputError, FreeholdError
from freehold.gpus.found import FoundGpu
from freehold.gpus.listed import listed
from freehold.layout import placement, sizing
from freehold.layout.json_schema import stack_json_schema
from freehold.layout.models import CONTEXT
from freehold.proxmox import tls
from freehold.proxmox.client import Password, PveClient
from freehold.proxmox.prepare import pvesh
from freehold.render import render
from freehold.run.context import Client
from freehold.run.prepare import prepare
from freehold.run.roots import printed_password
from freehold.schema.explain import explain
from freehold.schema.load import inventory
from freehold.schema.problems import Problem, StackError, display
from freehold.schema.stack import Name, Stack

_BLOCK = 100
"""VMIDs and addresses that belong to one client."""
_USERS = 5
"""Conversations at once for which a language model is proposed."""
_FREE = {"Apache-2.0", "MIT"}
"""Licences (SPDX) that limit neither use, nor users, nor regions."""
_MEMORY_STEP = 512
"""MiB to whose multiples memory is rounded down."""
_SSH_TIMEOUT = 60
"""Seconds that one question to the node may take."""


class Ask(Protocol):
    """Whoever answers questions; see ``cli.ask``."""

    def say(self, text: str) -> None: ...
    def text(self, question: str, default: str | None = None, *, option: str) -> str: ...
    def secret(self, question: str) -> str: ...
    def trust(self, question: str) -> bool: ...
    def choose(self, question: str, among: Sequence[str], default: str, *, option: str) -> str: ...


@dataclass(frozen=True)
class Wishes:
    """What the command line already says."""

    client: str
    endpoint: str | None = None
    domain: str | None = None
    fingerprint: str | None = None
    root: str | None = None
    ssh_host: str | None = None
    ssh_key: Path | None = None
    password_command: str | None = None
    node: str | None = None
    storage: str | None = None
    bridge: str | None = None
    subnet: str | None = None


def init(wishes: Wishes, ask: Ask) -> Path:
    """Write ``inventory/<client>/stack.yml`` and make the client's API token; the file's path.

    Raises:
        BadInputError: The client exists, an answer is wrong, or a key was not trusted. Nothing was written.
        FreeholdError: The node does not answer as it must.
    """
    try:
        TypeAdapter(Name).validate_python(wishes.client)
    except ValidationError as error:
        raise BadInputError(
            f"{wishes.client!r} cannot be the name of a client",
            remedy="Use 2 to 32 lower-case letters, digits and hyphens, such as acme or example-law-firm.",
        ) from error
    path = inventory() / wishes.client / "stack.yml"
    if path.exists():
        raise BadInputError(
            f"The client {wishes.client} exists already",
            where=str(path),
            remedy=f"Change the file, or remove it to begin anew. To renew its token: freehold prepare {wishes.client}",
        )
    endpoint = _endpoint(wishes.endpoint or ask.text("Address of the Proxmox VE node", option="--endpoint"))
    fingerprint = wishes.fingerprint or _fingerprint(endpoint, ask)
    domain = wishes.domain or ask.text(
        "Domain of the applications", f"{wishes.client}.internal", option="--domain"
    )
    known: dict[str, Any] = {
        "client": wishes.client,
        "domain": domain,
        "endpoint": endpoint,
        "fingerprint": fingerprint,
        "ca_file": None,
        "password_command": wishes.password_command,
        "ssh_address": None,
        "ssh_key": None,
        "host_key": None,
    }
    way = wishes.root or ("password" if wishes.password_command else None)
    way = way or ask.choose("Root access, once", ("ssh", "password"), "ssh", option="--root")
    _among("way to become root", way, ("ssh", "password"), "--root")
    password = None
    if way == "ssh":
        known |= _node_key(wishes, urlsplit(endpoint).hostname or "", ask)
    elif wishes.password_command is None:
        password = ask.secret("Password of root@pam")
    else:
        password = printed_password(wishes.password_command, "--password-command")
    probed = _probe(wishes, known, password, ask)
    values = known | probed
    _write(path, _render(values | {"engine_memory": _engine_memory(values)}))
    schema = json.dumps(stack_json_schema(), indent=2) + "\n"
    (inventory() / "stack.schema.json").write_text(schema, encoding="utf-8")
    try:
        client = Client.open(path)
        done = prepare(client, password=password)
        for step in done.steps:
            ask.say(f"  {step.what}")
        client.api.get("/version", doing="trying the new token")
    except FreeholdError as error:
        # Whatever it was: a file was written, so that this is no longer bad input that touched nothing.
        raise FreeholdError(
            error.message,
            doing=error.doing,
            answer=error.answer,
            where=error.where,
            remedy=f"{error.remedy or ''}\n{display(path)} is written. When the cause is gone: freehold prepare {wishes.client}".strip(),
        ) from error
    return path


def _endpoint(given: str) -> str:
    text = given if "://" in given else f"https://{given}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port or 8006
    except ValueError:
        host = None
    if host is None or parts.scheme != "https":
        raise BadInputError(
            f"{given} is no address of a node",
            remedy="Such as 192.168.10.5 or https://pve.acme.internal:8006.",
        )
    return f"https://{f'[{host}]' if ':' in host else host}:{port}"


def _fingerprint(endpoint: str, ask: Ask) -> str:
    parts = urlsplit(endpoint)
    shown = tls.shown_fingerprint(parts.hostname or "", parts.port or 8006, 10.0)
    if shown is None:
        raise BadInputError(
            f"No Proxmox VE API answers at {endpoint}",
            where=endpoint,
            remedy="Check the address, the port (8006) and the network.",
        )
    ask.say(f"The API shows the certificate\n  {shown}")
    if not ask.trust(
        "Is it the one that `pvenode cert info` shows on the node (or the web interface, under System > Certificates)?"
    ):
        raise BadInputError("The certificate was not trusted", remedy="Compare again, on the node itself.")
    return shown


def _node_key(wishes: Wishes, host: str, ask: Ask) -> dict[str, Any]:
    address = wishes.ssh_host or host
    command = ["ssh-keyscan", "-T", "5", "-t", "ed25519", address]
    scan = ssh.run(command, timeout=_SSH_TIMEOUT, doing="asking for the node's host key")
    keys = [line.split(" ", 1)[1] for line in scan.stdout.splitlines() if line and not line.startswith("#")]
    if not keys:
        raise BadInputError(
            f"No SSH server answers at {address}",
            where=address,
            remedy="Give --ssh-host, or use the password of root@pam instead: --root password",
        )
    ask.say(f"The node shows the SSH host key\n  {ssh.fingerprint(keys[0].split()[1])}")
    if not ask.trust(
        "Is it the one that `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows on the node?"
    ):
        raise BadInputError("The host key was not trusted", remedy="Compare again, on the node itself.")
    return {"ssh_address": address, "ssh_key": wishes.ssh_key, "host_key": keys[0]}


def _probe(wishes: Wishes, known: dict[str, Any], password: str | None, ask: Ask) -> dict[str, Any]:
    """What the node says of itself, as root: there is no token yet."""
    api = _Prober(known, password)
    nodes = sorted(entry["node"] for entry in api.get("/nodes"))
    if not nodes:
        raise FreeholdError("The API shows no node", where=known["endpoint"])
    node = wishes.node or ask.choose("Node that takes the containers", nodes, nodes[0], option="--node")
    _among("node", node, nodes, "--node")
    status = api.get(f"/nodes/{node}/status")
    storages = api.get(f"/nodes/{node}/storage")
    disks = sorted(_holding(storages, "rootdir"), key=lambda entry: -int(entry.get("avail", 0)))
    templates = [entry["storage"] for entry in _holding(storages, "vztmpl")]
    if not disks or not templates:
        raise FreeholdError(
            f"Node {node} has no active storage for {'containers' if not disks else 'templates'}",
            remedy="Enable the content type in the web interface: Datacenter > Storage > Edit > Content.",
        )
    names = [entry["storage"] for entry in disks]
    storage = wishes.storage or ask.choose("Storage of root disks", names, names[0], option="--storage")
    _among("storage for containers", storage, names, "--storage")
    networks = api.get(f"/nodes/{node}/network")
    bridges = [entry for entry in networks if entry.get("type") in {"bridge", "OVSBridge"}]
    bridge, subnet, gateway = _network(wishes, bridges, ask)
    taken = {int(entry["vmid"]) for entry in api.get("/cluster/resources", {"type": "vm"})}
    gpus = _gpus(api.get(f"/nodes/{node}/hardware/pci"))
    return {
        "node": node,
        "cores": int(status["cpuinfo"]["cpus"]),
        "memory": int(status["memory"]["total"]) // 2**20,
        "storage": storage,
        "other_storages": [name for name in names if name != storage],
        "template_storage": "local" if "local" in templates else templates[0],
        "bridges": sorted(entry["iface"] for entry in bridges),
        "bridge": bridge,
        "subnet": subnet,
        "gateway": gateway,
        "first": _free_block(subnet, gateway, _addresses_in_use(api, taken)),
        "vmid": _free_vmids(taken),
        "gpus": gpus,
        "model": _model(gpus),
        "users": _USERS,
    }


class _Prober:
    """Read calls as root: by ``pvesh`` over SSH, or by a session of root@pam."""

    def __init__(self, known: dict[str, Any], password: str | None) -> None:
        self._known = known
        self._session: PveClient | None = None
        if password is not None:
            self._session = PveClient(
                known["endpoint"], Password("root@pam", password), fingerprint=known["fingerprint"]
            )

    def get(self, path: str, params: dict[str, str | int] | None = None) -> Any:
        if self._session is not None:
            return self._session.get(path, params, doing="asking the node")
        return self._over_ssh(path, params or {})

    def _over_ssh(self, path: str, params: dict[str, str | int]) -> Any:
        address = self._known["ssh_address"]
        with tempfile.NamedTemporaryFile("w", suffix=".known_hosts") as hosts:
            hosts.write(f"{address} {self._known['host_key']}\n")
            hosts.flush()
            key = ["-i", str(self._known["ssh_key"])] if self._known["ssh_key"] else []
            answer = ssh.run(
                ["ssh", *key, "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", f"UserKnownHostsFile={hosts.name}", "-o", "StrictHostKeyChecking=yes",
                 f"root@{address}", shlex.join(pvesh("GET", path, params))],
                timeout=_SSH_TIMEOUT, doing=f"asking for {path}",
            )  # fmt: skip
        if answer.returncode:
            raise FreeholdError(
                "The node does not answer over SSH as root"
                if answer.returncode == 255
                else "The node refused a question",
                doing=f"asking for {path}",
                where=f"root@{address}",
                answer=answer.stderr.strip(),
                remedy=f"Let your key in: ssh-copy-id root@{address}. Or use the password of root@pam: --root password",
            )
        return json.loads(answer.stdout)


def _among(what: str, given: str, known: Sequence[str], option: str) -> None:
    if given not in known:
        raise BadInputError(f"{given} is no {what}", where=option, remedy=f"Give one of: {', '.join(known)}.")


def _holding(storages: list[dict[str, Any]], content: str) -> list[dict[str, Any]]:
    return [
        entry
        for entry in storages
        if entry.get("active") and content in str(entry.get("content", "")).split(",")
    ]


def _network(
    wishes: Wishes, bridges: list[dict[str, Any]], ask: Ask
) -> tuple[str, IPv4Network, IPv4Address | None]:
    if not bridges:
        raise FreeholdError(
            "The node has no bridge", remedy="Make one in the web interface: node > System > Network."
        )
    names = sorted(entry["iface"] for entry in bridges)
    bridge = wishes.bridge or ask.choose("Bridge of the containers", names, names[0], option="--bridge")
    _among("bridge", bridge, names, "--bridge")
    entry = next(entry for entry in bridges if entry["iface"] == bridge)
    cidr = str(entry.get("cidr") or "")
    found = str(IPv4Interface(cidr).network) if cidr else None
    text = wishes.subnet or ask.text("Network of the containers", found, option="--subnet")
    try:
        subnet = IPv4Network(text)
    except ValueError as error:
        raise BadInputError(f"{text} is no network: {error}", remedy="Such as 192.168.10.0/24.") from error
    gateway = entry.get("gateway")
    if gateway is None and cidr and IPv4Interface(cidr).ip in subnet:
        gateway = IPv4Interface(cidr).ip  # a bridge of the node's own, routed by the node
    return bridge, subnet, IPv4Address(gateway) if gateway else None


def _addresses_in_use(api: _Prober, taken: set[int]) -> set[IPv4Address]:
    used: set[IPv4Address] = set()
    for entry in api.get("/cluster/resources", {"type": "vm"}):
        if entry["type"] != "lxc" or int(entry["vmid"]) not in taken:
            continue
        try:
            config = api.get(f"/nodes/{entry['node']}/lxc/{entry['vmid']}/config")
        except FreeholdError:
            continue
        for key, value in config.items():
            if key.startswith("net"):
                address = dict(part.partition("=")[::2] for part in str(value).split(",")).get("ip", "")
                if "/" in address:
                    used.add(IPv4Interface(address).ip)
    return used


def _free_block(subnet: IPv4Network, gateway: IPv4Address | None, used: set[IPv4Address]) -> IPv4Address:
    """First of the hundred addresses that hold the fewest known others, from the one hundredth on where it exists."""
    last = int(subnet.broadcast_address) - 1
    starts = [int(subnet.network_address) + offset for offset in (100, 50, 10, 150, 1)]
    starts += list(range(int(subnet.network_address) + 200, last, _BLOCK))
    fitting = [start for start in starts if start + _BLOCK - 1 <= last] or [int(subnet.network_address) + 1]
    others = used | ({gateway} if gateway else set())
    return IPv4Address(min(fitting, key=lambda s: sum(s <= int(address) < s + _BLOCK for address in others)))


def _free_vmids(taken: set[int]) -> int:
    first = 1000
    while any(first <= vmid < first + _BLOCK for vmid in taken):
        first += _BLOCK
    return first


def _gpus(devices: list[dict[str, Any]]) -> list[FoundGpu]:
    """Cards that compute, NVIDIA's first: others only where the catalogue knows them, since boards have graphics too."""
    found = listed(devices).gpus
    ours = [gpu for gpu in found if gpu.vendor == "nvidia"]
    return ours + [gpu for gpu in found if gpu.vendor != "nvidia" and gpu.card]


def _model(gpus: Sequence[FoundGpu]) -> str | None:
    """The largest language model that the cards hold, of those whose licence asks nothing of anybody; none where the
    catalogue does not know all cards, or they are not all NVIDIA's."""
    known = [catalog_of_gpus.load().get(gpu.card or "") for gpu in gpus]
    cards = [
        sizing.Card(card.title, card.memory, compute_capability=card.compute_capability)
        for card in known
        if card
    ]
    if not cards or len(cards) < len(known) or any(gpu.vendor != "nvidia" for gpu in gpus):
        return None
    models = {
        name: model
        for name, model in catalog_of_models.load().items()
        if (licence := licences.load().get(model.licence or "")) and licence.spdx in _FREE
    }
    demand = sizing.Demand(context=CONTEXT, users=_USERS)
    fitting = sizing.alternatives(models, "vllm", cards, demand)
    return fitting[0].model if fitting else None


def _engine_memory(values: dict[str, Any]) -> int | None:
    """MiB for the engine's container where its default does not fit beside the others; None where it does, or where
    less than half of it is left, which is for a person to decide."""
    if not values["gpus"]:
        return None  # the engine without a GPU is small already
    stack = Stack.model_validate(yaml.safe_load(_render(values | {"engine_memory": None})))
    roles, problems = services.load(), list[Problem]()
    seats = placement.seats(stack, placement.chosen(stack, roles, problems), roles, problems)
    engine = next(seat for seat in seats if seat.name == "vllm").memory
    left = values["memory"] - placement.NODE_RESERVE - sum(seat.memory for seat in seats) + engine
    return left // _MEMORY_STEP * _MEMORY_STEP if engine // 2 <= left < engine else None


def _render(values: dict[str, Any]) -> str:
    text = render("client/stack.yml.j2", values)
    data = yaml.safe_load(text)
    try:
        Stack.model_validate(data)
    except ValidationError as error:
        raise StackError(explain(error, data), doing="writing the stack file") from error
    return text


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(text)
