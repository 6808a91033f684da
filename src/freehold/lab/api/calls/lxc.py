"""Containers (part of a stand-in of Proxmox VE, for development)."""

from __future__ import annotations

from typing import Any

from freehold.lab import lxc_create, lxc_power, lxc_update, lxc_volumes
from freehold.lab.answers import failed
from freehold.lab.api.routes import endpoint
from freehold.lab.backend import BackendError, GuestStatus, Log
from freehold.lab.context import Call, Lab
from freehold.lab.guests import DEFAULT_SIZE, MIB, Config, parse_mount, parse_size, typed

_BASE = "/nodes/{node}/lxc/{vmid}"
_SUBDIRS = [
    "config",
    "pending",
    "status",
    "vncproxy",
    "termproxy",
    "vncwebsocket",
    "spiceproxy",
    "migrate",
    "clone",
    "rrd",
    "rrddata",
    "firewall",
    "snapshot",
    "resize",
    "interfaces",
]
_PRESSURE = tuple(f"pressure{what}{kind}" for what in ("cpu", "io", "memory") for kind in ("some", "full"))


def status_of(lab: Lab, vmid: int, config: Config, status: GuestStatus | None = None) -> dict[str, Any]:
    """What ``PVE::LXC::vmstatus`` tells of a container."""
    now = status or lab.backend.status(vmid)
    values = config.current
    size = (
        parse_size(parse_mount("rootfs", values["rootfs"]).parts.get("size", ""))
        if "rootfs" in values
        else None
    )
    answer: dict[str, Any] = {
        "vmid": vmid,
        "type": "lxc",
        "name": values.get("hostname", f"CT{vmid}"),
        "status": "running" if now.running else "stopped",
        "cpus": int(float(values.get("cores") or values.get("cpulimit") or 0)) or lab.state.node.cores,
        "maxmem": int(values.get("memory", 512)) * MIB,
        "maxswap": int(values.get("swap", 0)) * MIB,
        "maxdisk": size or DEFAULT_SIZE,
        "cpu": now.cpu,
        "mem": now.mem,
        "swap": now.swap,
        "disk": now.disk,
        "netin": now.netin,
        "netout": now.netout,
        "diskread": now.diskread,
        "diskwrite": now.diskwrite,
        "uptime": now.uptime,
    }
    if now.running:
        answer |= {"pid": now.pid, **dict.fromkeys(_PRESSURE)}
    answer |= {key: values[key] for key in ("lock", "tags") if key in values}
    if values.get("template") == "1":
        answer["template"] = 1
    return answer


@endpoint("GET /nodes/{node}/lxc")
def guests(call: Call) -> Any:
    """All containers that the caller may see."""
    lab = call.lab
    return [
        status_of(lab, vmid, config)
        for vmid, config in lab.guests.all().items()
        if lab.access.has(call.user, f"/vms/{vmid}", "VM.Audit")
    ]


@endpoint("POST /nodes/{node}/lxc")
def create(call: Call) -> Any:
    """Make a container."""
    return lxc_create.create(call)


@endpoint("GET " + _BASE)
def index(call: Call) -> Any:
    """The directory of a container's calls."""
    call.lab.guests.load(call.vmid)
    return [{"subdir": name} for name in _SUBDIRS]


@endpoint("DELETE " + _BASE)
def destroy(call: Call) -> Any:
    """Remove a container."""
    return lxc_power.destroy(call)


@endpoint("GET " + _BASE + "/config")
def config(call: Call) -> Any:
    """The configuration, with the values that wait for a restart unless ``current`` is set."""
    stored = call.lab.guests.load(call.vmid)
    if snapshot := call.get("snapshot"):
        raise failed(f"snapshot '{snapshot}' does not exist")
    values = stored.current if call.flag("current") else stored.with_pending()
    return {**{key: typed(key, value) for key, value in values.items()}, "digest": stored.digest()}


@endpoint("GET " + _BASE + "/pending")
def pending(call: Call) -> Any:
    """Each key with its value in force, the one that waits, and whether it is going to be removed."""
    stored = call.lab.guests.load(call.vmid)
    answer: list[dict[str, Any]] = []
    for key in sorted({*stored.current, *stored.pending}):
        entry: dict[str, Any] = {"key": key}
        if key in stored.current:
            entry["value"] = typed(key, stored.current[key])
        if key in stored.pending:
            entry["pending"] = typed(key, stored.pending[key])
        if key in stored.delete:
            entry["delete"] = 1
        answer.append(entry)
    return [*answer, {"key": "digest", "value": stored.digest()}]


@endpoint("PUT " + _BASE + "/config")
def update(call: Call) -> Any:
    """Change the configuration."""
    lxc_update.update(call)


@endpoint("GET " + _BASE + "/status")
def status_index(_call: Call) -> Any:
    """The directory of the power calls."""
    return [{"subdir": name} for name in ("current", "start", "stop", "shutdown", "reboot", "migrate")]


@endpoint("GET " + _BASE + "/status/current")
def status(call: Call) -> Any:
    """The state of a container."""
    return {**status_of(call.lab, call.vmid, call.lab.guests.load(call.vmid)), "ha": {"managed": 0}}


for _name, _work in (
    ("start", lxc_power.start),
    ("stop", lxc_power.stop),
    ("shutdown", lxc_power.shutdown),
    ("reboot", lxc_power.reboot),
    ("suspend", lxc_power.suspend),
    ("resume", lxc_power.resume),
):
    endpoint(f"POST {_BASE}/status/{_name}")(_work)

endpoint(f"PUT {_BASE}/resize")(lxc_volumes.resize)
endpoint(f"POST {_BASE}/clone")(lxc_volumes.clone)
endpoint(f"POST {_BASE}/template")(lxc_volumes.convert)


@endpoint("GET " + _BASE + "/interfaces")
def interfaces(call: Call) -> Any:
    """The interfaces of a running container."""
    call.lab.guests.load(call.vmid)
    if not call.lab.running(call.vmid):
        return None
    try:
        return [_interface(found) for found in call.lab.backend.interfaces(call.vmid)]
    except BackendError as error:
        raise failed(str(error)) from error


def _interface(found: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {"name": found.name, "hwaddr": found.hwaddr, "hardware-address": found.hwaddr}
    addresses = []
    for kind, values in (("inet", found.inet), ("inet6", found.inet6)):
        if values:
            answer[kind] = values[0]
        for value in values:
            address, _, prefix = value.partition("/")
            addresses.append({"ip-address": address, "ip-address-type": kind, "prefix": prefix})
    return {**answer, "ip-addresses": addresses}


@endpoint("GET " + _BASE + "/feature")
def feature(call: Call) -> Any:
    """Directory storages can copy; they know neither snapshots nor linked clones."""
    call.lab.guests.load(call.vmid)
    return {"hasFeature": int(call.params["feature"] == "copy")}


@endpoint("GET " + _BASE + "/snapshot")
def snapshots(call: Call) -> Any:
    """There is no snapshot but ``current``."""
    digest = call.lab.guests.load(call.vmid).digest()
    running = int(call.lab.running(call.vmid))
    return [{"name": "current", "description": "You are here!", "running": running, "digest": digest}]


@endpoint("POST " + _BASE + "/snapshot")
def snapshot(call: Call) -> Any:
    """Directory storages have no snapshots: the task fails."""
    if call.params["snapname"] == "current":
        raise failed("unable to use snapshot name 'current' (reserved name)")

    def work(_log: Log) -> None:
        call.lab.guests.load(call.vmid).check_lock()
        raise BackendError("snapshot feature is not available")

    return call.lab.tasks.start("vzsnapshot", str(call.vmid), call.user, work)


@endpoint("GET " + _BASE + "/snapshot/{snapname}/config")
def snapshot_config(call: Call) -> Any:
    """There is none."""
    call.lab.guests.load(call.vmid)
    raise failed(f"snapshot '{call.params['snapname']}' does not exist")


def _no_snapshot(call: Call, kind: str) -> str:
    def work(_log: Log) -> None:
        call.lab.guests.load(call.vmid).check_lock()
        raise BackendError(f"snapshot '{call.params['snapname']}' does not exist")

    return call.lab.tasks.start(kind, str(call.vmid), call.user, work)


@endpoint("POST " + _BASE + "/snapshot/{snapname}/rollback")
def rollback(call: Call) -> Any:
    """There is nothing to go back to."""
    return _no_snapshot(call, "vzrollback")


@endpoint("DELETE " + _BASE + "/snapshot/{snapname}")
def delete_snapshot(call: Call) -> Any:
    """There is nothing to remove."""
    return _no_snapshot(call, "vzdelsnapshot")
