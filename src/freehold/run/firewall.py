"""Whether Proxmox VE's firewall, outside the containers, is in force for a client: what commands say of it."""

from __future__ import annotations

from freehold.proxmox import in_force
from freehold.proxmox.changes import Plan
from freehold.proxmox.in_force import FirewallState, Walled
from freehold.run.context import Client
from freehold.run.finding import Finding

ABOUT = "Proxmox firewall"
REMEDY = (
    "nftables inside the containers keeps everybody else out all the same. To have Proxmox VE filter too, its"
    " administrator switches the datacenter's firewall on, with the rules that nodes and other guests need: docs/firewall.md."
)
"""What to do where rules are written and not in force; Freehold never does it."""


def state(client: Client, made: Plan | None = None) -> FirewallState:
    """What holds of the containers that Freehold writes rules for.

    Args:
        client: The client.
        made: A plan of now; None after a run, which has written every rule.
    """
    hosts = [host for host in client.layout.hosts if host.firewall]
    behind = in_force.unwritten(made) if made else frozenset()
    return in_force.look(
        client.api,
        [Walled(host.hostname, host.node, host.vmid) for host in hosts],
        [host.hostname for host in hosts if host.vmid in behind],
    )


def finding(client: Client, made: Plan) -> Finding:
    """The same for ``freehold check``."""
    found = state(client, made)
    asleep = found.state == in_force.WRITTEN or in_force.OFF in found.reasons
    return Finding(ABOUT, "warning" if asleep else "ok", found.text, REMEDY if asleep else "")
