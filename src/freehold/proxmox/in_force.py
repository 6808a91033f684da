"""Whether the rules that Proxmox VE keeps for containers filter anything.

They do where four things come together: the datacenter's firewall is on, its service runs on the node, the interface
carries the flag ``firewall``, and the firewall of the container is on. The node's own switch (*Node > Firewall > Options*)
is for the node's own traffic alone (``PVE::Firewall::compile_iptables_filter``). Freehold never switches the
datacenter's firewall on: it would close nodes and guests that are not Freehold's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from freehold.proxmox import firewall, propstrings
from freehold.proxmox.changes import FieldDiff, Plan
from freehold.proxmox.client import PveClient

IN_FORCE: Final = "in force"
WRITTEN: Final = "written, not in force"
NOT_WRITTEN: Final = "not written"
NOT_USED: Final = "not used"
OFF = "the datacenter firewall is off (Datacenter > Firewall > Options)"


class FirewallState(BaseModel):
    """What holds of the Proxmox VE firewall of a client's containers."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    state: Literal["in force", "written, not in force", "not written", "not used"]
    reasons: tuple[str, ...] = ()
    """Why it is not in force; where it is, rules of an administrator's that let through more."""

    @property
    def text(self) -> str:
        """The state with its reasons, as one line."""
        return self.state + (f": {'; '.join(self.reasons)}" if self.reasons else "")


class Walled(NamedTuple):
    """A container whose firewall Freehold writes."""

    name: str
    node: str
    vmid: int


def unwritten(made: Plan) -> frozenset[int]:
    """VMIDs of the containers whose rules or firewall flag a plan would still write, those still to be made included."""
    return frozenset(
        change.vmid
        for change in made.changes
        for diff in change.diffs
        if change.actionable and (diff.field.startswith("firewall ") or _gets_flag(diff))
    )


def _gets_flag(diff: FieldDiff) -> bool:
    net = propstrings.base_name(diff.field) == "net"
    return net and "firewall=1" in (diff.new or "") and "firewall=1" not in (diff.old or "")


def look(client: PveClient, guests: Sequence[Walled], behind: Collection[str] = ()) -> FirewallState:
    """Ask the datacenter, where its firewall is on, the nodes, and where it is in force, the containers. One call where it is off.

    Args:
        client: The session; it needs Sys.Audit on ``/`` and on the nodes, and VM.Audit on the containers.
        guests: The containers whose firewall Freehold writes.
        behind: Names of those whose rules are not written yet (`unwritten`).

    Raises:
        PveError: The API refused to say.
    """
    if not guests:
        return FirewallState(state=NOT_USED, reasons=("the stack file says network.firewall: false",))
    reasons = []
    if behind:
        names = ", ".join(sorted(behind)[:3]) + (" and others" if len(behind) > 3 else "")
        reasons.append(
            f"rules of {len(behind)} of {len(guests)} containers ({names}) are still to be written"
        )
    datacenter = client.get(
        "/cluster/firewall/options", doing="asking whether the datacenter's firewall is on"
    )
    if not int(datacenter.get("enable") or 0):
        reasons.append(OFF)
    else:
        reasons += [
            reason for node in sorted({guest.node for guest in guests}) if (reason := _asleep(client, node))
        ]
    if behind:
        return FirewallState(state=NOT_WRITTEN, reasons=tuple(reasons))
    if reasons:
        return FirewallState(state=WRITTEN, reasons=tuple(reasons))
    more = [told for guest in guests for told in _accepting(client, guest)]
    shown = [*more[:3], *([f"and {len(more) - 3} others"] if len(more) > 3 else [])]
    return FirewallState(state=IN_FORCE, reasons=tuple(shown))


def _accepting(client: PveClient, guest: Walled) -> Iterator[str]:
    """Rules of an administrator's that let through what Freehold's do not. Wherever such a rule stands: what none accepts is dropped."""
    listed = client.get(
        f"/nodes/{guest.node}/lxc/{guest.vmid}/firewall/rules",
        doing=f"listing the firewall rules of {guest.name}",
    )
    for rule in listed:
        accepts = rule.get("action") == "ACCEPT" or rule.get("type") == "group"
        if accepts and propstrings.truth(rule.get("enable")) and not firewall.is_ours(rule):
            yield f"rule {rule['pos']} of {guest.name} is not Freehold's and accepts besides: {firewall.text(rule)}"


def _asleep(client: PveClient, node: str) -> str | None:
    """Why a node does not filter; ``nftables: 1`` gives the work to another service (Proxmox VE 8.2 and newer)."""
    doing = f"asking whether the firewall of node {node} runs"
    options = client.get(f"/nodes/{node}/firewall/options", doing=doing)
    service = "proxmox-firewall" if propstrings.truth(options.get("nftables")) else "pve-firewall"
    state = client.get(f"/nodes/{node}/services/{service}/state", doing=doing).get("state")
    return None if state == "running" else f"the service {service} of node {node} does not run ({state})"
