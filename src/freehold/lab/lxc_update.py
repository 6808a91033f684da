"""Changes of a container's configuration (part of a stand-in of Proxmox VE, for development).

A port of ``PVE::LXC::Config``: ``update_pct_config``, ``vmconfig_hotplug_pending``, ``vmconfig_apply_pending``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from freehold.lab.answers import bad_parameters, failed
from freehold.lab.backend import BackendError, Log
from freehold.lab.context import Call, Lab
from freehold.lab.formats import split_list
from freehold.lab.guests import (
    Config,
    format_size,
    is_mount,
    is_unused,
    option_exists,
    parse_mount,
    parse_volume_id,
    print_net,
    properties,
    unique_tags,
)
from freehold.lab.lxc_permissions import check_modify
from freehold.lab.pveschema import parse_property_string

STALE = "detected modified configuration - file changed by other user? Try again."
_FAST = frozenset(
    ["description", "onboot", "startup", "protection", "hostname", "hookscript", "cores", "tags", "lock"]
)
_LIVE = frozenset(["memory", "swap", "cpulimit", "cpuunits"])


def silent(_line: str) -> None:
    """A log for work outside of a task."""


def check_digest(config: Config, digest: str | None) -> None:
    """Raises:
    PveError: 500 when the configuration is not the one that the caller has read.
    """
    if digest and digest != config.digest():
        raise failed(STALE)


def clamp_cpu_shares(value: str) -> str:
    """``PVE::CGroup::clamp_cpu_shares`` of cgroup v1."""
    return str(min(max(int(value), 2), 262144))


def update(call: Call) -> None:
    """``PUT /nodes/{node}/lxc/{vmid}/config``."""
    lab, vmid = call.lab, call.vmid
    given = {key: str(value) for key, value in call.params.items() if key not in ("node", "vmid", "digest")}
    if not given:
        raise failed("no options specified")
    delete, revert = split_list(given.pop("delete", "")), split_list(given.pop("revert", ""))
    for what, names in (("delete", delete), ("revert", revert)):
        for key in names:
            if key in given:
                raise bad_parameters({what: f"you can't use '-{key}' and -{what} {key}' at the same time"})
            if not option_exists(key):
                raise bad_parameters({what: f"unknown option '{key}'"})
    config = lab.guests.load(vmid)
    unprivileged = config.current.get("unprivileged") == "1"
    check_modify(
        lab, call.user, vmid, None, config.current, given, [*delete, *revert], unprivileged=unprivileged
    )
    with lab.guests.locked(vmid):
        config = lab.guests.load(vmid)
        config.check_lock()
        check_digest(config, call.get("digest"))
        running = lab.running(vmid)
        errors = apply_changes(lab, vmid, config, given, delete, revert, running=running)
        lab.guests.save(vmid, config)
        if "arch" not in config.current:
            raise failed("missing 'arch' - internal error at /usr/share/perl5/PVE/LXC.pm line 729.")
        if errors:
            raise bad_parameters(errors)


def apply_changes(
    lab: Lab,
    vmid: int,
    config: Config,
    given: Mapping[str, str],
    delete: Sequence[str] = (),
    revert: Sequence[str] = (),
    *,
    running: bool,
    log: Log = silent,
) -> dict[str, str]:
    """Bring changes into ``config``; what a running guest cannot take at once stays pending.

    Returns:
        Errors of hotplug by key; those changes stay pending.
    """
    for key in revert:
        config.pending.pop(key, None)
        config.delete = [name for name in config.delete if name != key]
    for key in delete:
        _queue_delete(vmid, config, key)
    for key in sorted(given):
        value = _checked(lab, vmid, config, key, given[key])
        config.pending[key] = value
        config.delete = [name for name in config.delete if name != key]
    for key in list(config.pending):
        if config.current.get(key) == config.pending[key] and key not in config.delete:
            del config.pending[key]
    if running:
        return _hotplug(lab, vmid, config, log)
    apply_pending(lab, vmid, config, log)
    return {}


def _queue_delete(vmid: int, config: Config, key: str) -> None:
    if key not in config.current and key not in config.pending:
        return
    if key in ("memory", "rootfs", "ostype"):
        raise failed(f"unable to delete required option '{key}'")
    if (key.startswith("mp") or is_unused(key)) and config.protected():
        raise failed(f"can't remove CT {vmid} drive '{key}' - protection mode enabled")
    if key == "unprivileged":
        raise failed("unable to delete read-only option: 'unprivileged'")
    if key not in config.delete:
        config.delete.append(key)


def _checked(lab: Lab, vmid: int, config: Config, key: str, value: str) -> str:
    """The value that is stored for a key."""
    if is_mount(key):
        if config.protected() and key in config.current:
            raise failed(f"can't update CT {vmid} drive '{key}' - protection mode enabled")
        mount = parse_mount(key, value)
        if mount.kind == "volume":
            storage = parse_volume_id(mount.volume)[0]
            if not lab.storages.holds(storage, "rootdir"):
                raise failed(f"storage '{storage}' does not allow content type 'rootdir' (Container)")
    elif key == "hookscript":
        if not lab.storages.path(value).is_file():
            raise failed(f"script '{value}' does not exist")
    elif key == "unprivileged":
        raise failed("unable to modify read-only option: 'unprivileged'")
    elif key == "tags":
        return unique_tags(value)
    elif key == "description":
        lines = value.rstrip("\n")
        return lines + "\n" if lines else ""
    elif key == "cpuunits":
        return clamp_cpu_shares(value)
    elif re.fullmatch(r"dev\d+", key):
        path = parse_property_string(properties()["dev[n]"]["format"], value).get("path")
        if path is None:
            raise failed(f"Path is not defined for passthrough device {key}")
        if not lab.backend.device_exists(path):
            raise failed(f"Device {path} does not exist")
    return value


def _set(config: Config, key: str, value: str) -> None:
    config.pending.pop(key, None)
    if key == "description" and not value:
        config.current.pop(key, None)
    else:
        config.current[key] = value


def _drop(config: Config, key: str) -> None:
    config.current.pop(key, None)
    config.delete = [name for name in config.delete if name != key]


def apply_pending(lab: Lab, vmid: int, config: Config, log: Log = silent) -> None:
    """Bring all pending changes into a stopped guest: removals first, then values."""
    for key in sorted(config.delete):
        value = config.current.get(key)
        if value is not None and key.startswith("mp"):
            _release(config, key)
        elif value is not None and is_unused(key):
            _destroy_unused(lab, config, key)
        _drop(config, key)
    for key in sorted(config.pending):
        value = config.pending[key]
        if re.fullmatch(r"mp\d+", key):
            value = _mount_value(lab, vmid, config, key, log)
        elif key.startswith("net"):
            value = print_net(value)
        _set(config, key, value)


def _mount_value(lab: Lab, vmid: int, config: Config, key: str, log: Log) -> str:
    """The value of a changed mount: a new volume is made, a volume that is replaced becomes unused."""
    mount = parse_mount(key, config.pending[key])
    if mount.kind == "volume":
        if made := mount.new_volume:
            volume = lab.storages.allocate(made[0], vmid, made[1], log)
            lab.storages.path(volume).mkdir(parents=True, exist_ok=True)
            mount.parts |= {"volume": volume, "size": format_size(made[1])}
        elif (known := lab.storages.known(mount.volume)) and "size" not in mount.parts:
            mount.parts["size"] = format_size(known["size"])
        for name in [
            name for name, value in config.current.items() if is_unused(name) and value == mount.volume
        ]:
            del config.current[name]
    old = config.current.get(key)
    config.pending[key] = mount.text() if mount.kind == "volume" else config.pending[key]
    if old is not None and parse_mount(key, old).volume != mount.volume:
        _release(config, key)
    return config.pending[key]


def _release(config: Config, key: str) -> None:
    mount = parse_mount(key, config.current[key])
    if mount.kind == "volume" and not config.uses(mount.volume, but=(key,)):
        config.add_unused(mount.volume)


def _destroy_unused(lab: Lab, config: Config, key: str) -> None:
    volume = config.current[key]
    if not config.uses(volume, but=(key,)):
        lab.storages.free(volume)


def _hotplug(lab: Lab, vmid: int, config: Config, log: Log) -> dict[str, str]:
    errors: dict[str, str] = {}
    hot: set[str] = set()
    for key in sorted(config.delete):
        if key in config.pending:
            continue
        if key in _FAST or key in ("swap", "cpulimit", "cpuunits") or key.startswith("net"):
            hot.add(key)
        elif is_unused(key):
            _destroy_unused(lab, config, key)
        else:
            continue
        _drop(config, key)
    for key in sorted(config.pending):
        value = config.pending[key]
        if key in config.delete:
            continue
        if key in _FAST or key in _LIVE:
            _set(config, key, value)
        elif re.fullmatch(r"net\d+", key):
            _set(config, key, print_net(value))
        elif re.fullmatch(r"mp\d+", key) and key not in config.current:
            _set(config, key, _mount_value(lab, vmid, config, key, log))
        elif re.fullmatch(r"dev\d+", key) and key not in config.current:
            _set(config, key, value)
        else:
            continue
        hot.add(key)
    hot -= _FAST - {"cores", "hostname"}
    for key in sorted(hot):
        try:
            lab.backend.apply(lab.guest(vmid, config), frozenset({key}), log)
        except BackendError as error:
            errors[key] = f"unable to hotplug {key}: {error}\n"
            if key in config.current and re.fullmatch(r"(?:mp|dev|net)\d+", key):
                config.pending[key] = config.current.pop(key)
    return errors
