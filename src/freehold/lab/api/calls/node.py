"""The node: figures, network, hardware, templates on offer (part of a stand-in of Proxmox VE, for development)."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import time
from pathlib import Path
from typing import Any

from freehold.lab.answers import bad_parameters, failed
from freehold.lab.api.calls.cluster import node_figures
from freehold.lab.api.certificate import fingerprint
from freehold.lab.api.routes import endpoint
from freehold.lab.backend import BackendError, Log
from freehold.lab.context import Call
from freehold.lab.state import VERSION

_NODE = "/nodes/{node}"
_INDEX = [
    "aplinfo",
    "apt",
    "capabilities",
    "ceph",
    "certificates",
    "config",
    "disks",
    "dns",
    "firewall",
    "hardware",
    "hosts",
    "journal",
    "lxc",
    "migrateall",
    "netstat",
    "network",
    "qemu",
    "query-oci-repo-tags",
    "query-url-metadata",
    "replication",
    "report",
    "rrd",
    "rrddata",
    "scan",
    "sdn",
    "services",
    "spiceshell",
    "startall",
    "status",
    "stopall",
    "storage",
    "subscription",
    "suspendall",
    "syslog",
    "tasks",
    "termproxy",
    "time",
    "version",
    "vncshell",
    "vzdump",
    "wakeonlan",
]
PACKAGES = {
    "proxmox-ve": "9.2.0",
    "pve-manager": "9.2.11",
    "pve-container": "6.1.10",
    "libpve-storage-perl": "9.1.7",
    "libpve-access-control": "9.1.1",
    "libpve-common-perl": "9.2.1",
    "libpve-http-server-perl": "6.0.5",
    "pve-firewall": "6.0.4",
    "libpve-guest-common-perl": "6.0.2",
    "pve-cluster": "9.1.6",
}
"""The packages whose answers were recorded (``tests/contract/pve``)."""


@endpoint("GET /nodes")
def nodes(call: Call) -> Any:
    """The node, with figures for those who may audit it."""
    name = call.lab.state.node.name
    entry: dict[str, Any] = {
        "node": name,
        "id": f"node/{name}",
        "type": "node",
        "status": "online",
        "level": "",
    }
    entry["ssl_fingerprint"] = fingerprint(call.lab.state.directory)
    if call.lab.access.has(call.user, f"/nodes/{name}", "Sys.Audit"):
        entry |= node_figures(call.lab)
    return [entry]


@endpoint("GET " + _NODE)
def index(_call: Call) -> Any:
    """The directory of the node's calls."""
    return [{"name": name} for name in _INDEX]


@endpoint("GET " + _NODE + "/version")
def version(_call: Call) -> Any:
    """The release of the node."""
    return VERSION


@endpoint("GET " + _NODE + "/status")
def status(call: Call) -> Any:
    """Load, memory and system of the node."""
    figures = node_figures(call.lab)
    usage = shutil.disk_usage(call.lab.state.directory)
    kernel = platform.uname()
    total, used = figures["maxmem"], figures["mem"]
    return {
        "uptime": figures["uptime"],
        "cpu": figures["cpu"],
        "wait": 0,
        "idle": 0,
        "loadavg": [f"{load:.2f}" for load in os.getloadavg()],
        "memory": {"total": total, "used": used, "free": total - used, "available": total - used},
        "swap": {"total": 0, "used": 0, "free": 0},
        "rootfs": {
            "total": usage.total,
            "used": usage.used,
            "free": usage.total - usage.used,
            "avail": usage.free,
        },
        "cpuinfo": _cpu(call.lab.state.node.cores),
        "ksm": {"shared": 0},
        "kversion": f"{kernel.system} {kernel.release} {kernel.version}",
        "current-kernel": {
            "sysname": kernel.system,
            "release": kernel.release,
            "version": kernel.version,
            "machine": kernel.machine,
        },
        "boot-info": {"mode": "legacy-bios"},
        "pveversion": f"pve-manager/{VERSION['version']}/{VERSION['repoid']}",
    }


def _cpu(cores: int) -> dict[str, Any]:
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return {
        "cpus": cores,
        "cores": cores,
        "sockets": 1,
        "user_hz": 100,
        "hvm": "",
        "model": fields.get("model name", ""),
        "vendor": fields.get("vendor_id", ""),
        "family": fields.get("cpu family", ""),
        "mhz": fields.get("cpu MHz", ""),
        "flags": fields.get("flags", ""),
    }


@endpoint("GET " + _NODE + "/time")
def clock(call: Call) -> Any:
    """The time of the node."""
    now = int(time.time())
    return {"time": now, "localtime": now, "timezone": call.lab.state.node.timezone}


@endpoint("GET " + _NODE + "/dns")
def dns(call: Call) -> Any:
    """The name servers of the node."""
    node, changed = call.lab.state.node, call.lab.state.data["dns"]
    servers = {f"dns{number}": server for number, server in enumerate(node.dns[:3], 1)}
    search = changed.get("search", node.search)
    return {
        **servers,
        **{k: v for k, v in changed.items() if k != "search"},
        **({"search": search} if search else {}),
    }


@endpoint("PUT " + _NODE + "/dns")
def change_dns(call: Call) -> Any:
    """Remember other name servers."""
    with call.lab.state.change() as data:
        data["dns"] = {
            key: call.params[key] for key in ("search", "dns1", "dns2", "dns3") if key in call.params
        }


@endpoint("GET " + _NODE + "/network")
def network(call: Call) -> Any:
    """Interfaces: bridges only to those who may use or audit them."""
    kind = call.get("type")
    answer = []
    for interface in call.lab.state.node.interfaces:
        bridge = interface["type"] == "bridge"
        path = f"/sdn/zones/localnetwork/{interface['iface']}"
        if bridge and not call.lab.access.has(call.user, path, "SDN.Audit", "SDN.Use", any_of=True):
            continue
        bridges = kind in ("any_bridge", "any_local_bridge") and bridge
        if kind in (None, "include_sdn", interface["type"]) or bridges:
            answer.append(dict(interface))
    return answer


@endpoint("GET " + _NODE + "/network/{iface}")
def interface(call: Call) -> Any:
    """One interface."""
    for found in call.lab.state.node.interfaces:
        if found["iface"] == call.params["iface"]:
            return {key: value for key, value in found.items() if key != "iface"}
    raise bad_parameters({"iface": "interface does not exist"})


@endpoint("GET " + _NODE + "/hardware")
def hardware(_call: Call) -> Any:
    """The kinds of hardware."""
    return [{"type": "pci"}, {"type": "usb"}]


@endpoint("GET " + _NODE + "/hardware/pci")
def pci(call: Call) -> Any:
    """PCI devices, without memory, bridges and processors unless asked for."""
    hidden = tuple(
        f"0x{kind}" for kind in str(call.params.get("pci-class-blacklist", "05;06;0b")).split(";") if kind
    )
    found = [
        dict(device) for device in call.lab.state.node.pci if not str(device["class"]).startswith(hidden)
    ]
    return found if call.flag("verbose", default=True) else [{"id": device["id"]} for device in found]


@endpoint("GET " + _NODE + "/hardware/usb")
def usb(_call: Call) -> Any:
    """The lab has no USB devices."""
    return []


@endpoint("GET " + _NODE + "/apt/versions")
def packages(_call: Call) -> Any:
    """The packages whose answers were recorded."""
    return [
        {"Package": name, "Version": number, "OldVersion": number, "CurrentState": "Installed", "Arch": "all"}
        for name, number in PACKAGES.items()
    ]


@endpoint("GET " + _NODE + "/qemu")
def machines(_call: Call) -> Any:
    """The lab runs containers only."""
    return []


@endpoint("GET " + _NODE + "/qemu/{vmid}/config")
def machine(call: Call) -> Any:
    """The lab runs containers only."""
    raise failed(
        f"Configuration file 'nodes/{call.lab.state.node.name}/qemu-server/{call.vmid}.conf' does not exist"
    )


@endpoint("GET " + _NODE + "/aplinfo")
def appliances(call: Call) -> Any:
    """Templates on offer, to those who may upload templates somewhere."""
    lab = call.lab
    if not any(
        lab.access.has(call.user, f"/storage/{s}", "Datastore.AllocateTemplate")
        for s in lab.state.data["storages"]
    ):
        return []
    return [
        {
            "template": offer.template,
            "package": offer.package,
            "version": offer.version,
            "os": offer.os,
            "headline": offer.headline,
            "description": offer.headline,
            "section": "system",
            "type": "lxc",
            "architecture": "amd64",
            "source": "lab",
            "location": offer.template,
            "infopage": "https://pve.proxmox.com/wiki/Linux_Container",
            "maintainer": "the lab",
            "sha512sum": offer.sha512,
        }
        for offer in lab.state.appliances
    ]


@endpoint("POST " + _NODE + "/aplinfo")
def download_appliance(call: Call) -> Any:
    """Download a template that is on offer."""
    lab, storage, name = call.lab, str(call.params["storage"]), str(call.params["template"])
    offer = next((offer for offer in lab.state.appliances if offer.template == name), None)
    if offer is None:
        raise bad_parameters({"template": "no such template"})
    lab.storages.usable(storage)
    if not lab.storages.holds(storage, "vztmpl"):
        raise failed(f"cannot download to storage '{storage}' - content type 'vztmpl' is not configured")
    target = lab.storages.target(storage, "vztmpl", name)

    def work(log: Log) -> None:
        log(f"downloading {name} to {lab.storages.shown_target(storage, 'vztmpl', name)}")
        temporary = target.with_suffix(f".{os.getpid()}.tmp")
        try:
            shutil.copyfile(offer.source, temporary)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise BackendError(f"download failed: {error.strerror}") from error
        with temporary.open("rb") as file:
            found = hashlib.file_digest(file, "sha512").hexdigest()
        log("calculating checksum...")
        if found != offer.sha512:
            temporary.unlink()
            raise BackendError(f"checksum mismatch: got '{found}' != expect '{offer.sha512}'")
        temporary.replace(target)
        log(f"download of '{name}' to '{lab.storages.shown_target(storage, 'vztmpl', name)}' finished")

    return lab.tasks.start("download", name, call.user, work)
