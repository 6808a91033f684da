"""From the layout's hosts to the containers that Proxmox VE should have."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Literal

from freehold.layout.types import Device, Host, Layout, OutgoingRule
from freehold.layout.types import FirewallRule as IncomingRule
from freehold.proxmox.spec import (
    OWNER_TAG,
    BindMount,
    ContainerSpec,
    DeviceSpec,
    Firewall,
    FirewallRule,
    Interface,
    VolumeSpec,
    client_tag,
)


def container(layout: Layout, host: Host, template: str, public_keys: str) -> ContainerSpec:
    """The container of one host.

    Args:
        layout: The client's layout.
        host: The host in it.
        template: Volume id of the template to create it from.
        public_keys: SSH keys for root at creation, one per line.
    """
    return ContainerSpec(
        node=host.node,
        vmid=host.vmid,
        hostname=host.hostname,
        template=template,
        storage=host.storage,
        disk=host.disk,
        cores=host.cores,
        memory=host.memory,
        swap=host.swap,
        interfaces=(
            Interface(
                name="eth0",
                bridge=host.bridge,
                address=str(host.interface),
                gateway=str(host.gateway),
                vlan=host.vlan,
                firewall=host.firewall,
            ),
        ),
        volumes=tuple(
            VolumeSpec(path=volume.path, storage=host.storage, size=volume.size, backup=volume.backup)
            for volume in host.volumes
        ),
        mounts=tuple(
            BindMount(path=mount.path, source=mount.source, read_only=mount.read_only)
            for mount in host.mounts
        ),
        devices=tuple(
            DeviceSpec(path=d.path, gid=d.gid, mode=d.mode, label=_label(host, d)) for d in host.devices
        ),
        nameservers=tuple(str(address) for address in host.dns),
        searchdomain=layout.domain if host.dns else None,
        startup_order=host.start_order,
        tags=(OWNER_TAG, client_tag(layout.client)),
        description=f"{', '.join(host.services)} of {layout.client}. Managed by Freehold: change the stack file instead.",
        pool=layout.pool,
        protection=bool(host.volumes),
        firewall=_firewall(host) if host.firewall else None,
        ssh_public_keys=public_keys,
    )


def _firewall(host: Host) -> Firewall:
    """What nftables lets into the container and out of it (``templates/base/nftables.conf.j2``), once more outside."""
    rules = [FirewallRule(direction="in", protocol="icmp", comment="ICMP")]
    rules += [_rule("in", rule, rule.sources) for rule in host.rules]
    rules += [_rule("out", rule, rule.destinations) for rule in host.outgoing or ()]
    return Firewall(rules=tuple(rules), policy_out="ACCEPT" if host.outgoing is None else "DROP")


def _rule(
    way: Literal["in", "out"], rule: IncomingRule | OutgoingRule, peers: tuple[IPv4Network, ...]
) -> FirewallRule:
    return FirewallRule(
        direction=way,
        protocol=rule.protocol,
        ports=f"{rule.port}:{rule.last}" if rule.last else str(rule.port),
        peers=tuple(map(str, peers)),
        comment=rule.comment,
    )


def _label(host: Host, device: Device) -> str | None:
    """Which GPU a device node belongs to, for people; none for the nodes that a driver shares."""
    gpu = next((gpu for gpu in host.gpus if gpu.key == device.gpu), None)
    if gpu is None:
        return None
    known = (gpu.pci, gpu.card, gpu.uuid)
    return f"GPU {' '.join(text for text in known if text)}"
