"""Pools (part of a stand-in of Proxmox VE, for development)."""

from __future__ import annotations

from typing import Any

from freehold.lab.answers import PveError, failed
from freehold.lab.api.calls.cluster import guest_resource, storage_resource
from freehold.lab.api.routes import endpoint
from freehold.lab.context import Call
from freehold.lab.formats import split_list


def _pool(call: Call, doing: str = "") -> dict[str, Any]:
    name = str(call.params["poolid"])
    entry: dict[str, Any] | None = call.lab.state.data["pools"].get(name)
    if entry is None:
        raise failed(f"{doing}pool '{name}' does not exist")
    return entry


def _comment(entry: dict[str, Any]) -> dict[str, Any]:
    return {"comment": entry["comment"]} if entry.get("comment") is not None else {}


def _members(call: Call, entry: dict[str, Any]) -> list[dict[str, Any]]:
    kind = call.get("type")
    found: list[dict[str, Any]] = []
    if kind in (None, "lxc"):
        guests = call.lab.guests.all()
        for vmid in (vmid for vmid in entry["vms"] if vmid in guests):
            resource = guest_resource(call.lab, vmid, guests[vmid])
            found.append({key: value for key, value in resource.items() if key not in ("pool", "tags")})
    if kind in (None, "storage"):
        found += [storage_resource(call.lab, storage) for storage in entry["storage"]]
    return found


@endpoint("GET /pools")
def pools(call: Call) -> Any:
    """The pools that the caller may see, or one with its members."""
    if name := call.get("poolid"):
        entry = _pool(call)
        return [{"poolid": name, **_comment(entry), "members": _members(call, entry)}]
    access = call.lab.access
    return [
        {"poolid": name, **_comment(entry)}
        for name, entry in sorted(call.lab.state.data["pools"].items())
        if access.has(call.user, f"/pool/{name}", "Pool.Audit")
    ]


@endpoint("GET /pools/{poolid}")
def pool(call: Call) -> Any:
    """One pool with its members (older form)."""
    entry = _pool(call)
    return {"poolid": call.params["poolid"], **_comment(entry), "members": _members(call, entry)}


@endpoint("POST /pools")
def create(call: Call) -> Any:
    """A new pool; the parent of a nested one must exist."""
    name = str(call.params["poolid"])
    with call.lab.state.change() as data:
        if name in data["pools"]:
            raise failed(f"create pool failed: pool '{name}' already exists")
        parent = name.rpartition("/")[0]
        if parent and parent not in data["pools"]:
            raise failed(f"create pool failed: parent '{parent}' of pool '{name}' does not exist")
        data["pools"][name] = {"comment": call.get("comment"), "vms": [], "storage": []}


@endpoint("PUT /pools")
def update(call: Call) -> Any:
    """Change the comment or the members of a pool."""
    with call.lab.state.change():
        entry = _pool(call, "update pools failed: ")
        if call.get("comment") is not None:
            entry["comment"] = call.get("comment")
        try:
            for vmid in split_list(call.get("vms") or ""):
                _change_guest(call, entry, int(vmid))
            for storage in split_list(call.get("storage") or ""):
                _change_storage(call, entry, storage)
        except PveError as error:
            # the real code catches it and puts the status into the text
            prefix = f"{error.status} " if error.status != 500 else ""
            raise failed(f"update pools failed: {prefix}{error.message}") from error


def _change_guest(call: Call, entry: dict[str, Any], vmid: int) -> None:
    call.lab.access.check_modify(call.user, f"/vms/{vmid}")
    pools = call.lab.state.data["pools"]
    name = str(call.params["poolid"])
    if call.flag("delete"):
        if vmid not in entry["vms"]:
            raise failed(f"VM {vmid} is not a pool member")
        entry["vms"].remove(vmid)
        return
    if vmid in entry["vms"]:
        raise failed(f"VM {vmid} is already a pool member")
    holder = next(
        (other for other, content in pools.items() if vmid in content["vms"] and other != name), None
    )
    if holder:
        if not call.flag("allow-move"):
            raise failed(f"VM {vmid} belongs already to pool '{holder}' and 'allow-move' is not set")
        pools[holder]["vms"].remove(vmid)
    entry["vms"].append(vmid)


def _change_storage(call: Call, entry: dict[str, Any], storage: str) -> None:
    call.lab.access.check_modify(call.user, f"/storage/{storage}")
    member = storage in entry["storage"]
    if call.flag("delete"):
        if not member:
            raise failed(f"Storage '{storage}' is not a pool member")
        entry["storage"].remove(storage)
        return
    if member:
        raise failed(f"Storage '{storage}' is already a pool member")
    entry["storage"].append(storage)


@endpoint("PUT /pools/{poolid}")
def update_older(call: Call) -> Any:
    """Change a pool (older form)."""
    return update(call)


@endpoint("DELETE /pools")
def delete(call: Call) -> Any:
    """Remove an empty pool."""
    name = str(call.params["poolid"])
    with call.lab.state.change() as data:
        entry = _pool(call, "delete pool failed: ")
        inside = next(
            (f"pool '{other}'" for other in sorted(data["pools"]) if other.startswith(name + "/")), None
        )
        inside = inside or next((f"VM {vmid}" for vmid in entry["vms"] if call.lab.guests.exists(vmid)), None)
        inside = inside or next((f"storage '{storage}'" for storage in entry["storage"]), None)
        if inside:
            raise failed(f"delete pool failed: pool '{name}' is not empty (contains {inside})")
        del data["pools"][name]
        data["acl"] = [acl for acl in data["acl"] if acl["path"] != f"/pool/{name}"]


@endpoint("DELETE /pools/{poolid}")
def delete_older(call: Call) -> Any:
    """Remove an empty pool (older form)."""
    return delete(call)
