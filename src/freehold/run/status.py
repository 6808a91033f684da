"""``freehold status``: what runs where, read from Proxmox VE. Nothing is changed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from freehold.proxmox.errors import ForeignGuestError
from freehold.proxmox.observe import observe
from freehold.run import firewall, plan
from freehold.run.context import Client


@dataclass(frozen=True)
class HostState:
    """One host as it is."""

    host: str
    vmid: int
    address: str
    services: str
    state: str
    """``running``, ``stopped``, ``missing`` or ``unfinished``."""
    pending: str = ""
    """Options whose change waits for a restart."""
    memory: str = ""
    firewall: str = ""
    """Whether the rules of Proxmox VE's firewall are in force for the client's containers, and why not."""

    def as_dict(self) -> dict[str, Any]:
        """The state as plain data."""
        return asdict(self)


def status(client: Client) -> list[HostState]:
    """The state of each host that the stack wants."""
    made = None
    try:
        made, observed = plan.plan(client, ask=False)
    except ForeignGuestError:
        # `check` and `plan` refuse then; what the client has can be shown all the same.
        nodes = sorted({client.stack.proxmox.node, *client.stack.nodes})
        observed = observe(client.api, [], owner=client.stack.client, pool=client.stack.pool, nodes=nodes)
    running = {
        (node, int(entry["vmid"])): entry
        for node in sorted({host.node for host in client.layout.hosts})
        for entry in client.api.get(f"/nodes/{node}/lxc", doing="reading the state of containers")
    }
    filtered = firewall.state(client, made).text if made else ""
    result = []
    for host in client.layout.hosts:
        guest = observed.guests.get(host.vmid)
        entry = running.get((host.node, host.vmid), {})
        state = "unfinished" if host.vmid in observed.unfinished else "missing"
        if guest is not None:
            state = "running" if guest.running else "stopped"
        used, limit = int(entry.get("mem") or 0) // 2**20, int(entry.get("maxmem") or 0) // 2**20
        result.append(
            HostState(
                host=host.name,
                vmid=host.vmid,
                address=str(host.address),
                services=", ".join(host.services),
                state=state,
                pending=", ".join(guest.pending) if guest else "",
                memory=f"{used} of {limit} MiB" if state == "running" else "",
                firewall=filtered,
            )
        )
    return result
