"""What is there: the client's own containers with their configuration, and who else stands in the way.

Calls: one for the cluster, one per node, and one per owned container (``GET .../pending`` holds the configuration,
its pending part and the digest at once); two more for the firewall of a container that is to have one, since nothing
shorter tells whether its rules are still there. ``/cluster/resources`` lags behind by seconds, so it is asked only for
what it alone knows: VMIDs of virtual machines and of other nodes, and pools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_interface
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from freehold.proxmox import errors, propstrings
from freehold.proxmox.client import PARALLEL, Progress, PveClient
from freehold.proxmox.spec import OWNER_TAG, ContainerSpec, client_tag

_Result = TypeVar("_Result")

_LOOKS = 3
"""How often a container in the middle of a task of ours is waited for and looked at again."""

_LOCK_TASKS = {"create": "vzcreate", "destroyed": "vzdestroy"}
"""The task that sets a lock."""
_MAKERS = frozenset({"vzcreate", "vzdestroy", "vzrestore", "vzclone"})


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ObservedFirewall(_Value):
    """The firewall of a container as it is; nothing here says that it is in force."""

    options: dict[str, str] = {}
    options_digest: str = ""
    rules: tuple[dict[str, str], ...] = ()
    """In their order, each with the properties that it has."""
    rules_digest: str = ""


class ObservedGuest(_Value):
    """One container as it is."""

    node: str
    vmid: int
    name: str
    running: bool
    pool: str | None = None
    lock: str | None = None
    digest: str = ""
    config: dict[str, str] = {}
    """Options with their pending changes: what will be in force after the next start."""
    current: dict[str, str] = {}
    """Options in force."""
    pending: tuple[str, ...] = ()
    """Options whose change waits for a restart."""
    firewall: ObservedFirewall | None = None
    """None where nobody asked for it."""

    @property
    def tags(self) -> frozenset[str]:
        """Tags of the container."""
        return split_tags(self.config.get("tags", ""))


class Observed(_Value):
    """What belongs to a client."""

    client: str
    guests: dict[int, ObservedGuest] = {}
    """By VMID."""
    unfinished: dict[int, ObservedGuest] = {}
    """Containers whose creation or destruction by this client was cut off: locked, and no task works on them."""


class _Listed(_Value):
    """A guest of any kind, as the lists show it."""

    node: str
    vmid: int
    kind: str
    name: str = ""
    running: bool = False
    pool: str | None = None
    lock: str | None = None
    tags: frozenset[str] = frozenset()

    def label(self) -> str:
        what = "container" if self.kind == "lxc" else "virtual machine"
        return f"{what} {self.vmid} ({self.name or 'without a name'}) on node {self.node}"


def split_tags(text: str) -> frozenset[str]:
    """Tags of an option; no tags are stored as one blank."""
    return frozenset(text.replace(",", ";").replace(" ", ";").split(";")) - {""}


def observe(
    client: PveClient,
    specs: Sequence[ContainerSpec],
    *,
    owner: str,
    pool: str | None = None,
    nodes: Iterable[str] = (),
    progress: Progress | None = None,
) -> Observed:
    """Look at the nodes, and refuse where a foreign guest holds what is wanted.

    Containers carry their ownership: the tags ``freehold`` and ``client-<owner>``, and the pool. Where a task of
    this session still creates or destroys a wanted container (an earlier run was cut off), it is waited for.

    Args:
        client: The session.
        specs: What is wanted.
        owner: Name of the client.
        pool: The client's resource pool.
        nodes: Nodes to look at besides those of ``specs``.
        progress: Called with a short text while a task is waited for.

    Raises:
        ForeignGuestError: A guest that is not the client's holds a wanted VMID, name or address.
        PveError: The API refused a call.
    """
    wanted = {spec.vmid: spec for spec in specs}
    names = sorted({*nodes, *(spec.node for spec in specs)})
    for _ in range(_LOOKS):
        listed = _list(client, names)
        owned = {vmid: guest for vmid, guest in listed.items() if _is_owned(guest, owner, pool)}
        locked = [
            guest
            for vmid, guest in listed.items()
            if guest.lock in _LOCK_TASKS and (vmid in owned or vmid in wanted)
        ]
        tasks = {guest.vmid: _own_task(client, guest) for guest in locked}
        running = {vmid: upid for vmid, (upid, active) in tasks.items() if upid and active}
        if not running:
            break
        for upid in running.values():
            _wait(client, upid, progress)
    else:
        raise errors.AmbiguousStateError(
            "Tasks of Freehold keep coming on the containers of this client.",
            doing="looking at the containers",
            remedy="Wait until the node's task list is quiet, and run the command again.",
        )
    unfinished = {guest.vmid: guest for guest in locked if tasks[guest.vmid][0]}
    owned = {vmid: guest for vmid, guest in owned.items() if vmid not in unfinished}
    guests = {guest.vmid: guest for guest in _parallel(lambda g: _read(client, g), owned.values())}
    watched = [guest for vmid, guest in owned.items() if vmid in wanted and wanted[vmid].firewall]
    for guest, firewall in zip(watched, _parallel(lambda g: _firewall(client, g), watched), strict=True):
        guests[guest.vmid] = guests[guest.vmid].model_copy(update={"firewall": firewall})
    others = [guest for vmid, guest in listed.items() if vmid not in guests and vmid not in unfinished]
    _refuse_conflicts(client, wanted, guests, others, owner, pool)
    return Observed(
        client=owner,
        guests=dict(sorted(guests.items())),
        unfinished={
            vmid: ObservedGuest(node=guest.node, vmid=vmid, name=guest.name, running=False, lock=guest.lock)
            for vmid, guest in sorted(unfinished.items())
        },
    )


def _parallel(work: Callable[[_Listed], _Result], items: Iterable[_Listed]) -> list[_Result]:
    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(work, items))


def _list(client: PveClient, nodes: Sequence[str]) -> dict[int, _Listed]:
    doing = "listing the guests"
    guests: dict[int, _Listed] = {}
    for entry in client.get("/cluster/resources", {"type": "vm"}, doing=doing):
        vmid = int(entry["vmid"])
        guests[vmid] = _Listed(
            node=entry["node"],
            vmid=vmid,
            kind=entry["type"],
            name=entry.get("name", "") if entry["node"] not in nodes or entry["type"] != "lxc" else "",
            pool=entry.get("pool"),
            tags=split_tags(entry.get("tags", "")),
        )
    for node in nodes:
        for entry in client.get(f"/nodes/{node}/lxc", doing=doing):
            vmid = int(entry["vmid"])
            known = guests.get(vmid)
            guests[vmid] = _Listed(
                node=node,
                vmid=vmid,
                kind="lxc",
                name=entry.get("name", ""),
                running=entry.get("status") == "running",
                pool=known.pool if known else None,
                lock=entry.get("lock") or None,
                tags=split_tags(entry.get("tags", "")),
            )
    return guests


def _is_owned(guest: _Listed, owner: str, pool: str | None) -> bool:
    tagged = guest.kind == "lxc" and {OWNER_TAG, client_tag(owner)} <= guest.tags
    return tagged and (pool is None or guest.pool in {None, pool})


def _own_task(client: PveClient, guest: _Listed) -> tuple[str | None, bool]:
    """The latest create or destroy task on a guest, if this session started it, and whether it still runs."""
    entries = client.get(
        f"/nodes/{guest.node}/tasks",
        {"source": "all", "vmid": guest.vmid, "limit": 20},
        doing=f"looking for the task that locks {guest.vmid}",
    )
    for entry in sorted(entries, key=lambda entry: int(entry.get("starttime", 0)), reverse=True):
        kind = entry.get("type")
        if kind in _MAKERS:
            upid = str(entry["upid"])
            mine = upid.split(":")[7] == client.user and kind == _LOCK_TASKS[guest.lock or ""]
            return (upid if mine else None), not entry.get("endtime")
    return None, False


def _wait(client: PveClient, upid: str, progress: Progress | None) -> None:
    try:
        client.wait(upid, progress=progress, doing="waiting for the task of an earlier run")
    except errors.TaskTimeoutError:
        raise
    except errors.PveError:
        return  # what a failed task left behind is seen at the next look


def _read(client: PveClient, guest: _Listed) -> ObservedGuest:
    entries = client.get(
        f"/nodes/{guest.node}/lxc/{guest.vmid}/pending",
        doing=f"reading the configuration of {guest.vmid}",
    )
    current: dict[str, str] = {}
    config: dict[str, str] = {}
    pending: list[str] = []
    for entry in entries:
        key = str(entry["key"])
        if "value" in entry:
            current[key] = str(entry["value"])
        if "pending" in entry:
            # A pending value beside a pending removal wins at the next start.
            config[key] = str(entry["pending"])
        elif "value" in entry and not entry.get("delete"):
            config[key] = str(entry["value"])
        if "pending" in entry or entry.get("delete"):
            pending.append(key)
    digest = current.pop("digest", "")
    config.pop("digest", None)
    return ObservedGuest(
        node=guest.node,
        vmid=guest.vmid,
        name=guest.name,
        running=guest.running,
        pool=guest.pool,
        lock=config.get("lock"),
        digest=digest,
        config=config,
        current=current,
        pending=tuple(sorted(pending)),
    )


def _firewall(client: PveClient, guest: _Listed) -> ObservedFirewall:
    base = f"/nodes/{guest.node}/lxc/{guest.vmid}/firewall"
    doing = f"reading the firewall of {guest.vmid}"
    options = {key: str(value) for key, value in client.get(f"{base}/options", doing=doing).items()}
    rules = [
        {key: str(value) for key, value in rule.items()}
        for rule in sorted(client.get(f"{base}/rules", doing=doing), key=lambda rule: int(rule["pos"]))
    ]
    return ObservedFirewall(
        options_digest=options.pop("digest", ""),
        options=options,
        rules_digest=rules[0]["digest"] if rules else "",
        rules=tuple({k: v for k, v in rule.items() if k not in {"digest", "pos"}} for rule in rules),
    )


def _addresses(config: Mapping[str, str]) -> set[tuple[str, str, str]]:
    """(bridge, VLAN tag, address) of every interface with a fixed address."""
    found = set()
    for option, text in propstrings.numbered(config, "net").items():
        properties = propstrings.parse(option, text)
        address = properties.get("ip", "")
        if "/" in address:
            ip = str(ip_interface(address).ip)
            found.add((properties.get("bridge", ""), properties.get("tag", ""), ip))
    return found


def _wanted_addresses(spec: ContainerSpec) -> set[tuple[str, str, str]]:
    return {
        (net.bridge, str(net.vlan or ""), str(ip_interface(net.address).ip))
        for net in spec.interfaces
        if "/" in net.address
    }


def _refuse_conflicts(
    client: PveClient,
    wanted: Mapping[int, ContainerSpec],
    guests: Mapping[int, ObservedGuest],
    others: Sequence[_Listed],
    owner: str,
    pool: str | None,
) -> None:
    conflicts: list[str] = []
    for guest in others:
        if guest.vmid in wanted:
            why = ""
            if {OWNER_TAG, client_tag(owner)} <= guest.tags:
                why = f"; it carries the client's tags, but is in pool {guest.pool!r} instead of {pool!r}"
            elif guest.kind == "lxc" and guest.name == wanted[guest.vmid].hostname:
                why = (
                    "; if it is this client's and only its tags were lost, give them back on the node:"
                    f" `pct set {guest.vmid} --tags '{OWNER_TAG};{client_tag(owner)}'`"
                )
            conflicts.append(f"VMID {guest.vmid} is held by {guest.label()}{why}")
    by_name = {spec.hostname: spec.vmid for spec in wanted.values()}
    for guest in others:
        if guest.name in by_name and guest.vmid != by_name[guest.name]:
            conflicts.append(f"the name {guest.name} is held by {guest.label()}")
    for own in guests.values():
        if own.vmid not in wanted and own.name in by_name:
            conflicts.append(
                f"the name {own.name} is held by container {own.vmid} of this client, which the stack now wants"
                f" at VMID {by_name[own.name]}"
            )
    conflicts += _address_conflicts(client, wanted, guests, others)
    if conflicts:
        raise errors.ForeignGuestError(
            "Something else holds what the stack wants: " + "; ".join(sorted(set(conflicts))) + ".",
            doing="looking at the nodes; nothing was touched",
            remedy="Choose other VMIDs (vmids.first) or addresses (network.first, hosts.<name>.address) in the stack"
            " file, or remove what stands in the way yourself. Freehold changes nothing that it did not create.",
        )


def _address_conflicts(
    client: PveClient,
    wanted: Mapping[int, ContainerSpec],
    guests: Mapping[int, ObservedGuest],
    others: Sequence[_Listed],
) -> list[str]:
    new = {
        address: vmid
        for vmid, spec in wanted.items()
        for address in _wanted_addresses(spec)
        if vmid not in guests or address not in _addresses(guests[vmid].config)
    }
    if not new:
        return []
    held = [
        (f"container {own.vmid} ({own.name}) of this client", own.vmid, own.config)
        for own in guests.values()
        if own.vmid not in wanted
    ]
    foreign = [guest for guest in others if guest.kind == "lxc" and guest.vmid not in wanted]
    configs = _parallel(lambda guest: _config(client, guest), foreign)
    held += [(guest.label(), guest.vmid, config) for guest, config in zip(foreign, configs, strict=True)]
    return [
        f"the address {address[2]} is held by {label}"
        for label, vmid, config in held
        for address in _addresses(config)
        if address in new and new[address] != vmid
    ]


def _config(client: PveClient, guest: _Listed) -> dict[str, str]:
    try:
        answer = client.get(
            f"/nodes/{guest.node}/lxc/{guest.vmid}/config", doing=f"reading the addresses of {guest.vmid}"
        )
    except errors.NoSuchGuestError:
        return {}
    return {key: str(value) for key, value in answer.items()}
