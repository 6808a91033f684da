"""Who may set which key of a container (part of a stand-in of Proxmox VE, for development).

A port of ``PVE::LXC::check_ct_modify_config_perm``; the privileges are recorded in ``tests/contract/pve/privileges.json``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from freehold.lab.access import ROOT
from freehold.lab.answers import denied
from freehold.lab.context import Lab
from freehold.lab.guests import is_mount, parse_features, parse_mount, parse_net

_CPU = ("cores", "cpuunits", "cpulimit")
_MEMORY = ("memory", "swap")
_NETWORK = ("nameserver", "searchdomain", "hostname")


def check_modify(
    lab: Lab,
    user: str,
    vmid: int,
    pool: str | None,
    old: Mapping[str, str],
    new: Mapping[str, str],
    delete: Iterable[str] = (),
    *,
    unprivileged: bool,
) -> None:
    """Check each key that a call sets or removes.

    Raises:
        PveError: 403 that names the privilege, or root@pam.
    """
    if user == ROOT:
        return
    for key, removing in [*((key, True) for key in delete), *((key, False) for key in new)]:
        if key in _CPU:
            lab.access.check_guest(user, vmid, pool, "VM.Config.CPU")
        elif is_mount(key):
            lab.access.check_guest(user, vmid, pool, "VM.Config.Disk")
            if not removing:
                _check_mount(lab, user, vmid, key, new[key])
        elif re.fullmatch(r"dev\d+", key):
            raise denied("configuring device passthrough is only allowed for root@pam")
        elif key in _MEMORY:
            lab.access.check_guest(user, vmid, pool, "VM.Config.Memory")
        elif key in _NETWORK or re.fullmatch(r"net\d+", key):
            lab.access.check_guest(user, vmid, pool, "VM.Config.Network")
            for value in (old.get(key), None if removing else new[key]):
                if value and key.startswith("net"):
                    check_bridge(lab, user, value)
        elif key == "features":
            _check_features(lab, user, vmid, pool, old.get(key), None if removing else new[key], unprivileged)
        elif key == "hookscript":
            raise denied("changing the hookscript is only allowed for root@pam")
        else:
            lab.access.check_guest(user, vmid, pool, "VM.Config.Options")


def _check_mount(lab: Lab, user: str, vmid: int, key: str, value: str) -> None:
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return
    mount = parse_mount(key, value)
    if mount.kind != "volume":
        raise denied(f"mount point type {mount.kind} is only allowed for root@pam")
    if made := mount.new_volume:
        lab.storages.entry(made[0])
        lab.access.check(user, f"/storage/{made[0]}", "Datastore.AllocateSpace")
    elif re.match(r"[^:]+:\d+/", mount.volume):
        lab.storages.check_volume_access(lab.access, user, vmid, mount.volume, "rootdir")


def check_bridge(lab: Lab, user: str, net: str) -> None:
    """``check_bridge_access``: SDN.Use on the bridge of an interface, or on its VLAN."""
    parts = parse_net(net)
    if bridge := parts.get("bridge"):
        path = f"/sdn/zones/localnetwork/{bridge}"
        if (tag := parts.get("tag")) and lab.access.has(user, f"{path}/{tag}", "SDN.Use"):
            return
        lab.access.check(user, path, "SDN.Use")


def _check_features(
    lab: Lab, user: str, vmid: int, pool: str | None, old: str | None, new: str | None, unprivileged: bool
) -> None:
    if not unprivileged:
        raise denied("changing feature flags for privileged container is only allowed for root@pam")
    before, after = parse_features(old), parse_features(new)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    if changed - {"nesting"}:
        raise denied("changing feature flags (except nesting) is only allowed for root@pam")
    if changed:
        lab.access.check_guest(user, vmid, pool, "VM.Allocate")
