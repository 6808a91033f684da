"""A container specification in the terms of the API, and when two values of an option mean the same.

Sources: parameters of ``POST /nodes/{node}/lxc`` and ``PUT /nodes/{node}/lxc/{vmid}/config``; what is normalised by
the node (tags lower-cased and sorted, a newline after the description, one blank for no tags, ``startup=3`` for
``order=3``) and which keys wait for a restart was recorded from Proxmox VE 9.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from freehold.proxmox import propstrings
from freehold.proxmox.observe import split_tags
from freehold.proxmox.spec import BindMount, ContainerSpec, DeviceSpec, Interface, VolumeSpec

DEFAULTS = {"onboot": "0", "protection": "0", "swap": "512", "memory": "512"}
"""Values of unset options."""

RESTART_KEYS = frozenset({"nameserver", "searchdomain", "features"})
"""Options that a running container takes over at its next start; mount points and devices are judged on their own."""

SCALARS = (
    "hostname",
    "cores",
    "memory",
    "swap",
    "onboot",
    "startup",
    "protection",
    "tags",
    "description",
    "nameserver",
    "searchdomain",
)
"""Options with plain values that Freehold keeps."""

MANAGED = re.compile(rf"^(?:{'|'.join(SCALARS)}|features|rootfs|(?:net|mp|dev)\d+)$")
"""Options that Freehold keeps; all others are left as they are."""


def tags(spec: ContainerSpec) -> str | None:
    """Tags as the node stores them."""
    return ";".join(sorted({tag.lower() for tag in spec.tags})) or None


def scalars(spec: ContainerSpec, config: Mapping[str, str]) -> dict[str, str | None]:
    """The plain options of a specification; ``None`` is unset. Delays in an observed ``startup`` are kept."""
    startup = None
    if spec.startup_order is not None:
        kept = propstrings.parse("startup", config.get("startup", ""))
        startup = _startup({**kept, "order": str(spec.startup_order)})
    return {
        "hostname": spec.hostname,
        "cores": str(spec.cores),
        "memory": str(spec.memory),
        "swap": str(spec.swap),
        "onboot": str(int(spec.onboot)),
        "startup": startup,
        "protection": str(int(spec.protection)),
        "tags": tags(spec),
        "description": spec.description.rstrip("\n") or None,
        "nameserver": " ".join(spec.nameservers) or None,
        "searchdomain": spec.searchdomain or None,
    }


def canonical(option: str, value: str | None) -> str | None:
    """An observed plain value as `scalars` writes it."""
    if value is None:
        return DEFAULTS.get(option)
    if option == "tags":
        return ";".join(sorted(split_tags(value))) or None
    if option == "description":
        return value.rstrip("\n") or None
    if option in {"nameserver", "searchdomain"}:
        return " ".join(re.split(r"[\s,;]+", value.strip())) or None
    if option == "startup":
        return _startup(propstrings.parse("startup", value))
    if option in {"onboot", "protection"}:
        return str(int(propstrings.truth(value)))
    return value


def _startup(properties: Mapping[str, str]) -> str:
    return ",".join(f"{key}={properties[key]}" for key in ("order", "up", "down") if key in properties)


def features(wanted: Mapping[str, str]) -> dict[str, str]:
    """Features that are set; ``nesting=1`` always, since hardened systemd units need it on Proxmox VE."""
    found = {**wanted, "nesting": "1"}
    return {name: value for name, value in found.items() if value != "0"}


def net(interface: Interface, observed: Mapping[str, str]) -> dict[str, str]:
    """``net[n]``: what Freehold keeps, over what was observed (a missing ``hwaddr`` would mean a new MAC)."""
    kept = {k: v for k, v in observed.items() if k not in {"name", "bridge", "ip", "gw", "tag", "firewall"}}
    made = {"name": interface.name, "bridge": interface.bridge, "ip": interface.address, **kept}
    if interface.gateway:
        made["gw"] = interface.gateway
    if interface.vlan is not None:
        made["tag"] = str(interface.vlan)
    if interface.firewall:
        made["firewall"] = "1"
    return made


def same_net(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two interfaces mean the same."""
    return _plain(one, {"firewall"}) == _plain(other, {"firewall"})


def volume(spec: VolumeSpec, observed: Mapping[str, str] | None = None) -> dict[str, str]:
    """``mp[n]`` with a volume of its own: a new one (``storage:GiB``), or the observed one with other options."""
    if observed is None:
        return {"volume": f"{spec.storage}:{spec.size}", "mp": spec.path, "backup": str(int(spec.backup))}
    return {**observed, "mp": spec.path, "backup": str(int(spec.backup))}


def bind(mount: BindMount, observed: Mapping[str, str] | None = None) -> dict[str, str]:
    """``mp[n]`` with a directory of the node."""
    kept = {key: value for key, value in (observed or {}).items() if key != "ro"}
    return {**kept, "volume": mount.source, "mp": mount.path, **({"ro": "1"} if mount.read_only else {})}


def same_mount(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two mount points mean the same, their size apart."""
    return _plain(one, {"backup", "ro"}, {"size"}) == _plain(other, {"backup", "ro"}, {"size"})


def device(spec: DeviceSpec) -> dict[str, str]:
    """``dev[n]``."""
    made = {"path": spec.path}
    if spec.gid is not None:
        made["gid"] = str(spec.gid)
    if spec.uid is not None:
        made["uid"] = str(spec.uid)
    if spec.mode is not None:
        made["mode"] = spec.mode
    if spec.deny_write:
        made["deny-write"] = "1"
    return made


def same_device(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two devices mean the same; root:root and 0660 are what the node takes for nothing."""
    unset = {"gid": "0", "uid": "0", "mode": "0660"}
    first, second = (
        {k: v for k, v in _plain(d, {"deny-write"}).items() if unset.get(k) != v} for d in (one, other)
    )
    return first == second


def _plain(
    properties: Mapping[str, str], flags: set[str], ignored: frozenset[str] | set[str] = frozenset()
) -> dict[str, str]:
    """Properties without flags that are off and without what is ignored."""
    plain = {key: value for key, value in properties.items() if key not in flags | ignored}
    plain |= {flag: "1" for flag in flags if propstrings.truth(properties.get(flag))}
    return plain


def is_bind(properties: Mapping[str, str]) -> bool:
    """Whether a mount point is a directory or device of the node instead of a volume."""
    return properties.get("volume", "").startswith("/")


def create_params(spec: ContainerSpec) -> dict[str, str | int]:
    """Parameters of the creation: all that an API token may set.

    Devices, bind mounts and features other than nesting follow as root steps, so the container is not started yet.
    ``unprivileged`` is always sent: its default differs between Proxmox VE 8 and 9.
    """
    params: dict[str, str | int] = {
        "vmid": spec.vmid,
        "ostemplate": spec.template,
        "rootfs": f"{spec.storage}:{spec.disk}",
        "unprivileged": 1,
        "features": "nesting=1",
    }
    params |= {option: value for option, value in scalars(spec, {}).items() if value is not None}
    for index, interface in enumerate(spec.interfaces):
        params[f"net{index}"] = propstrings.render(f"net{index}", net(interface, {}))
    for index, new in enumerate(spec.volumes):
        params[f"mp{index}"] = propstrings.render(f"mp{index}", volume(new))
    if spec.pool:
        params["pool"] = spec.pool
    if spec.ssh_public_keys.strip():
        params["ssh-public-keys"] = spec.ssh_public_keys.strip() + "\n"
    return params
