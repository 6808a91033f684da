"""pyinfra's inventory, computed from a layout: ``containers`` (API), ``guests`` and ``nodes`` (SSH)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key
from paramiko import SSHConfig

from freehold.errors import FreeholdError
from freehold.layout.types import Layout
from freehold.proxmox.changes import Plan

COMMAND_TIMEOUT = 600
"""Seconds after which a command on a host is given up, where the operation says nothing else."""

HostEntry = tuple[str, dict[str, Any]]


def groups(
    layout: Layout, ssh_config: Path | None, scrape_hash: str | None = None
) -> dict[str, list[HostEntry]]:
    """The hosts of a layout in pyinfra's form, by group.

    Every host has ``layout`` and ``freehold_host`` (its name in the layout) in its data; those that are reached over SSH
    also ``scrape_hash``, the hash of the password with which the monitoring service reads their figures.

    Raises:
        FreeholdError: The SSH configuration does not name Freehold's own key.
    """
    containers = [
        (f"@pve/{host.node}/{host.vmid}", {"layout": layout, "freehold_host": host.name})
        for host in layout.hosts
    ]
    if ssh_config is None:
        return {"containers": containers, "guests": [], "nodes": []}
    guests = [
        (
            host.name,
            _ssh(layout, host.name, ssh_config)
            | {"root_keys": _root_keys(layout, host.name, ssh_config), "scrape_hash": scrape_hash},
        )
        for host in layout.hosts
    ]
    nodes = [
        (
            node.name,
            _ssh(layout, node.name, ssh_config)
            | {"_sudo": node.ssh_user != "root", "scrape_hash": scrape_hash},
        )
        for node in layout.nodes
        if node.address
    ]
    return {"containers": containers, "guests": guests, "nodes": nodes}


def leftover(layout: Layout, plan: Plan) -> list[HostEntry]:
    """Containers that a plan changes although the layout does not have them any more (``--prune``)."""
    wanted = {host.vmid for host in layout.hosts}
    gone = {(change.node, change.vmid): change.host for change in plan.changes if change.vmid not in wanted}
    return [
        (f"@pve/{node}/{vmid}", {"layout": layout, "freehold_host": name})
        for (node, vmid), name in gone.items()
    ]


def _ssh(layout: Layout, name: str, ssh_config: Path) -> dict[str, Any]:
    return {
        "layout": layout,
        "freehold_host": name,
        "ssh_config_file": str(ssh_config),
        "ssh_strict_host_key_checking": "yes",
        "ssh_connect_retries": 3,
        "ssh_connect_retry_min_delay": 0.5,
        "ssh_connect_retry_max_delay": 2.0,
        "_timeout": COMMAND_TIMEOUT,
    }


def _root_keys(layout: Layout, name: str, ssh_config: Path) -> list[str]:
    """Public keys that may log in as root: Freehold's own first, then those of the stack file, each once."""
    return list(
        dict.fromkeys([f"{public_key(ssh_config, name)} freehold@{layout.client}", *layout.system.ssh_keys])
    )


def public_key(ssh_config: Path, name: str) -> str:
    """The public half of the key with which ``ssh_config`` reaches ``name``.

    Raises:
        FreeholdError: There is no such key, so writing ``authorized_keys`` would lock Freehold out.
    """
    with ssh_config.open(encoding="utf-8") as handle:
        config = SSHConfig()
        config.parse(handle)
    files = list(config.lookup(name).get("identityfile") or [])
    if not files:
        raise FreeholdError(
            f"The SSH configuration names no key for {name}",
            doing="collecting the keys that may log in as root",
            where=str(ssh_config),
            remedy="Write it again with `freehold ssh-config`.",
        )
    key = load_ssh_private_key(Path(files[0]).expanduser().read_bytes(), password=None)
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
