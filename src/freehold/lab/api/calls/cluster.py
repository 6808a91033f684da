"""Cluster: resources, free ids, status (part of a stand-in of Proxmox VE, for development)."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from freehold.lab.answers import bad_parameters
from freehold.lab.api.calls.lxc import status_of
from freehold.lab.api.routes import endpoint
from freehold.lab.context import Call, Lab
from freehold.lab.guests import Config
from freehold.lab.state import VERSION

_INDEX = [
    "acme",
    "backup",
    "backup-info",
    "bulk-action",
    "ceph",
    "config",
    "firewall",
    "ha",
    "jobs",
    "log",
    "mapping",
    "metrics",
    "notifications",
    "nextid",
    "options",
    "qemu",
    "replication",
    "resources",
    "status",
    "tasks",
    "sdn",
]
_COUNTERS = [
    "cpu",
    "mem",
    "disk",
    "netin",
    "netout",
    "diskread",
    "diskwrite",
    "uptime",
    "maxmem",
    "maxdisk",
    "name",
    "status",
]


@endpoint("GET /version")
def version(_call: Call) -> Any:
    """The release whose answers were recorded."""
    return VERSION


@endpoint("GET /cluster")
def index(_call: Call) -> Any:
    """The directory of the calls below ``/cluster``."""
    return [{"name": name} for name in _INDEX]


@endpoint("GET /cluster/nextid")
def nextid(call: Call) -> Any:
    """The first free id as text; guests that the caller cannot see count."""
    asked = call.get("vmid")
    if asked is not None:
        if call.lab.guests.exists(int(asked)):
            raise bad_parameters({"vmid": f"VM {asked} already exists"})
        return asked
    taken = set(call.lab.guests.ids())
    return str(next(vmid for vmid in range(100, 1000000) if vmid not in taken))


@endpoint("GET /cluster/status")
def status(call: Call) -> Any:
    """One node, no cluster."""
    node = call.lab.state.node
    base = {"id": f"node/{node.name}", "name": node.name, "type": "node", "ip": node.address}
    return [{**base, "local": 1, "online": 1, "nodeid": 0, "level": ""}]


@endpoint("GET /cluster/options")
def options(call: Call) -> Any:
    """Options of the datacenter; those without Sys.Audit see tags only."""
    answer: dict[str, Any] = {"allowed-tags": []}
    if call.lab.access.has(call.user, "/", "Sys.Audit"):
        answer |= {"mac_prefix": "BC:24:11", "description": ""}
    return answer


def node_figures(lab: Lab) -> dict[str, Any]:
    """Load of the machine as the node's own."""
    usage = shutil.disk_usage(lab.state.directory)
    free = _available_memory()
    return {
        "maxcpu": lab.state.node.cores,
        "cpu": 0.0,
        "maxmem": lab.state.node.memory,
        "mem": max(0, lab.state.node.memory - free),
        "maxdisk": usage.total,
        "disk": usage.used,
        "uptime": int(time.clock_gettime(time.CLOCK_BOOTTIME)),
    }


def _available_memory() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return int(found["MemAvailable"].split()[0]) * 1024


def _refresh_broadcast(lab: Lab) -> None:
    """Figures of guests come from a broadcast every ten seconds, so new guests have none for a while."""
    now = time.monotonic()
    if now - lab.broadcast_at < lab.state.broadcast_interval:
        return
    lab.broadcast_at = now
    lab.broadcast = {}
    for vmid, config in lab.guests.all().items():
        found = status_of(lab, vmid, config)
        kept = {key: found[key] for key in _COUNTERS}
        lab.broadcast[vmid] = {
            **kept,
            "maxcpu": found["cpus"],
            "memhost": 0,
            "template": found.get("template", 0),
        }


def guest_resource(lab: Lab, vmid: int, guest: Config) -> dict[str, Any]:
    """A container as ``cluster/resources`` shows it."""
    _refresh_broadcast(lab)
    base: dict[str, Any] = {"id": f"lxc/{vmid}", "type": "lxc", "vmid": vmid, "node": lab.state.node.name}
    base |= lab.broadcast.get(vmid, {"status": "unknown"})
    config = guest.current
    base |= {key: config[key] for key in ("tags", "lock") if key in config}
    pool = next((name for name, content in lab.state.data["pools"].items() if vmid in content["vms"]), None)
    return {**base, **({"pool": pool} if pool else {})}


def storage_resource(lab: Lab, name: str) -> dict[str, Any]:
    """A storage as ``cluster/resources`` shows it."""
    found = lab.storages.status(name)
    return {
        "id": f"storage/{lab.state.node.name}/{name}",
        "type": "storage",
        "storage": name,
        "node": lab.state.node.name,
        "plugintype": found["type"],
        "content": found["content"],
        "shared": 0,
        "status": "available" if found["active"] else "unknown",
        "disk": found["used"],
        "maxdisk": found["total"],
    }


@endpoint("GET /cluster/resources")
def resources(call: Call) -> Any:
    """Guests, storages, the node, pools and the network zone, as far as the caller may see them."""
    lab, access, kind = call.lab, call.lab.access, call.get("type")
    answer: list[dict[str, Any]] = []
    node = lab.state.node.name
    if kind is None:
        for pool in lab.state.data["pools"]:
            if access.has(call.user, f"/pool/{pool}", "Pool.Audit"):
                answer.append({"id": f"/pool/{pool}", "type": "pool", "pool": pool})
    if kind in (None, "vm"):
        for vmid, config in lab.guests.all().items():
            if access.has(call.user, f"/vms/{vmid}", "VM.Audit"):
                answer.append(guest_resource(lab, vmid, config))
    if kind in (None, "node"):
        entry: dict[str, Any] = {
            "id": f"node/{node}",
            "type": "node",
            "node": node,
            "status": "online",
            "level": "",
        }
        entry["cgroup-mode"] = 1
        if access.has(call.user, f"/nodes/{node}", "Sys.Audit"):
            entry |= node_figures(lab)
        answer.append(entry)
    if kind in (None, "storage"):
        for name in lab.state.data["storages"]:
            if access.has(
                call.user, f"/storage/{name}", "Datastore.Audit", "Datastore.AllocateSpace", any_of=True
            ):
                answer.append(storage_resource(lab, name))
    if kind is None and access.has(call.user, "/sdn/zones/localnetwork", "SDN.Audit"):
        zone = {
            "network": "localnetwork",
            "network-type": "zone",
            "type": "network",
            "node": node,
            "status": "ok",
        }
        answer.append({"id": f"network/{node}/zone/localnetwork", **zone})
    return answer
