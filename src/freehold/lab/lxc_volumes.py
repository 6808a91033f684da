"""Clone, resize and template conversion of containers (part of a stand-in of Proxmox VE, for development)."""

from __future__ import annotations

import re

from freehold.lab.answers import PveError, failed
from freehold.lab.backend import BackendError, Log
from freehold.lab.context import Call, Lab
from freehold.lab.guests import (
    Config,
    Mount,
    format_size,
    is_mount,
    is_unused,
    new_mac,
    parse_mount,
    parse_net,
    parse_size,
    parse_volume_id,
    print_net,
)
from freehold.lab.lxc_create import check_free, check_pool
from freehold.lab.lxc_permissions import check_bridge, check_modify
from freehold.lab.lxc_update import check_digest


def resize(call: Call) -> str:
    """``PUT /nodes/{node}/lxc/{vmid}/resize``."""
    lab, vmid = call.lab, call.vmid
    key, asked = str(call.params["disk"]), str(call.params["size"])
    config = lab.guests.load(vmid)
    asks = {"disk": key, "size": asked}
    check_modify(lab, call.user, vmid, None, config.current, asks, unprivileged=True)
    with lab.guests.locked(vmid):
        config = lab.guests.load(vmid)
        config.check_lock()
        check_digest(config, call.get("digest"))
        mount, size = _grown(lab, call.user, vmid, config, key, asked)

    def work(log: Log) -> None:
        with lab.guests.locked(vmid):
            config = lab.guests.load(vmid)
            config.check_lock()
            known = lab.storages.known(mount.volume)
            if known is None or known["format"] == "subvol":
                raise failed("can't resize this image format")
            old = config.current[key]
            changed = parse_mount(key, old)
            changed.parts["size"] = format_size(size)
            config.current[key] = changed.text()
            lab.guests.save(vmid, config)
            lab.storages.resize(mount.volume, size)
            try:
                lab.backend.resize(lab.guest(vmid, config), key, size, log)
            except BackendError:
                config.current[key] = old
                lab.guests.save(vmid, config)
                lab.storages.resize(mount.volume, known["size"])
                raise

    return lab.tasks.start("resize", str(vmid), call.user, work)


def _grown(lab: Lab, user: str, vmid: int, config: Config, key: str, asked: str) -> tuple[Mount, int]:
    mount = parse_mount(key, config.current.get(key, ""))
    storage = parse_volume_id(mount.volume)[0]
    if re.match(r"[^:]+:(\d+)/", mount.volume) and f":{vmid}/" not in mount.volume:
        raise failed("can't resize mount point owned by another VM")
    lab.access.check(user, f"/storage/{storage}", "Datastore.AllocateSpace")
    known = lab.storages.known(mount.volume)
    now = int(known["size"]) if known else 0
    step = parse_size(asked.lstrip("+")) or 0
    size = now + step if asked.startswith("+") else step
    if size < now:
        raise failed("unable to shrink disk size")
    if size == now:
        raise failed("disk is already at specified size")
    return mount, size


def clone(call: Call) -> str:
    """``POST /nodes/{node}/lxc/{vmid}/clone``."""
    lab, vmid, user = call.lab, call.vmid, call.user
    new, pool, storage = int(call.params["newid"]), call.get("pool"), call.get("storage")
    check_pool(lab, pool)
    if storage:
        lab.storages.usable(storage)
    with lab.guests.locked(vmid):
        source = lab.guests.load(vmid)
        source.check_lock()
        check_free(lab, new)
        if snapshot := call.get("snapname"):
            raise failed(f"snapshot '{snapshot}' does not exist")
        is_template = source.current.get("template") == "1"
        full = call.flag("full", default=not is_template)
        mounts = _check_sources(source, full)
        if lab.running(vmid):
            raise failed("Full clone of a running container is only possible from a snapshot")
        for mount in mounts.values():
            target = storage or parse_volume_id(mount.volume)[0]
            lab.access.check(user, f"/storage/{target}", "Datastore.AllocateSpace")
        for key, value in source.current.items():
            if key.startswith("net") and user != "root@pam":
                check_bridge(lab, user, value)
        with lab.state.change():
            lab.guests.save(new, Config({"lock": "create"}))
            source.current["lock"] = "disk"
            lab.guests.save(vmid, source)

    def work(log: Log) -> None:
        log(f"creating a clone of container {vmid} with ID {new}")
        made: list[str] = []
        try:
            with lab.guests.locked(new):
                config = _copy(call, source, new, storage, made, log)
                lab.guests.save(new, config)
        except (PveError, BackendError) as error:
            for volume in made:
                lab.storages.free(volume)
            lab.guests.remove(new)
            text = error.task_text() if isinstance(error, PveError) else str(error)
            raise BackendError(f"clone failed: {text}") from error
        finally:
            _unlock(lab, vmid)
        if pool:
            with lab.state.change() as data:
                data["pools"][pool]["vms"].append(new)

    return lab.tasks.start("vzclone", str(vmid), user, work)


def _unlock(lab: Lab, vmid: int) -> None:
    with lab.state.change():
        config = lab.guests.load(vmid)
        config.current.pop("lock", None)
        lab.guests.save(vmid, config)


def _check_sources(source: Config, full: bool) -> dict[str, Mount]:
    mounts = {key: parse_mount(key, value) for key, value in source.current.items() if is_mount(key)}
    for key, mount in mounts.items():
        if mount.kind != "volume":
            raise failed(f"unable to clone mountpoint '{key}' (type {mount.kind})")
        if not full:
            raise failed(f"Linked clone feature for '{mount.volume}' is not available")
    return mounts


def _copy(call: Call, source: Config, new: int, storage: str | None, made: list[str], log: Log) -> Config:
    lab, vmid = call.lab, call.vmid
    left = ("lock", "template", "protection")
    config = Config({k: v for k, v in source.current.items() if k not in left and not is_unused(k)})
    for key in [key for key in config.current if is_mount(key)]:
        mount = parse_mount(key, config.current[key])
        log(f"create full clone of mountpoint {key} ({mount.volume})")
        target = storage or parse_volume_id(mount.volume)[0]
        if not lab.storages.holds(target, "rootdir"):
            raise failed(f"content type 'rootdir' is not available or configured on storage '{target}'")
        known = lab.storages.known(mount.volume)
        volume = lab.storages.allocate(target, new, int(known["size"]) if known else 0, log)
        made.append(volume)
        mount.parts["volume"] = volume
        config.current[key] = mount.text()
    for key in [key for key in config.current if re.fullmatch(r"net\d+", key)]:
        parts = {**parse_net(config.current[key]), "hwaddr": new_mac()}
        config.current[key] = print_net(",".join(f"{name}={value}" for name, value in parts.items()))
    if hostname := call.get("hostname"):
        config.current["hostname"] = hostname
    if (description := call.get("description")) is not None:
        config.current["description"] = description.rstrip("\n") + "\n"
    lab.backend.clone(lab.guest(vmid, source), lab.guest(new, config), log)
    return config


def convert(call: Call) -> None:
    """``POST /nodes/{node}/lxc/{vmid}/template``: answers nothing; a task does the work."""
    lab, vmid = call.lab, call.vmid
    _check_convert(lab, vmid)

    def work(_log: Log) -> None:
        with lab.guests.locked(vmid):
            config = _check_convert(lab, vmid)
            for key, mount in config.volumes().items():
                known = lab.storages.known(mount.volume)
                if known and known["format"] == "raw" and is_mount(key):
                    new = mount.volume.replace("/vm-", "/base-")
                    lab.storages.rename(mount.volume, new)
                    mount.parts["volume"] = new
                    config.current[key] = mount.text()
            config.current["template"] = "1"
            lab.guests.save(vmid, config)

    lab.tasks.start("vztemplate", str(vmid), call.user, work)


def _check_convert(lab: Lab, vmid: int) -> Config:
    config = lab.guests.load(vmid)
    config.check_lock()
    if config.current.get("template") == "1":
        raise failed("you can't convert a template to a template")
    if lab.running(vmid):
        raise failed("you can't convert a CT to template if the CT is running")
    return config
