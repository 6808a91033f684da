"""The privileges that Freehold's token needs, path by path, and which of them a session lacks.

Sets were measured on Proxmox VE 9.2 by taking one privilege away at a time; all names exist since 8.2.
Rights on containers lie on the pool: a destroyed container takes the entries on ``/vms/{vmid}`` with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from freehold.proxmox.client import PveClient


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Needs(_Value):
    """What a client uses of a Proxmox VE cluster."""

    token: str
    """Id of the token, such as ``freehold@pve!freehold``."""
    pool: str
    nodes: tuple[str, ...]
    storages: tuple[str, ...]
    """Storages of root disks and volumes."""
    template_storages: tuple[str, ...]
    bridges: tuple[str, ...]

    @property
    def user(self) -> str:
        """The user of the token."""
        return self.token.partition("!")[0]


class Grant(_Value):
    """A role on a path."""

    path: str
    role: str
    privileges: tuple[str, ...]
    why: str
    propagate: bool = True
    instead: str | None = None
    """A path on which the same privileges would do as well."""


class Missing(_Value):
    """A privilege that a session lacks."""

    privilege: str
    path: str
    why: str


def grants(needs: Needs) -> list[Grant]:
    """The least that Freehold needs: containers of one pool, their storages and bridges, and eyes for the rest."""
    found = [
        Grant(
            path=f"/pool/{needs.pool}",
            role="FreeholdContainers",
            privileges=(
                "Pool.Audit",
                "VM.Allocate",
                "VM.Audit",
                "VM.Config.CPU",
                "VM.Config.Disk",
                "VM.Config.Memory",
                "VM.Config.Network",
                "VM.Config.Options",
                "VM.PowerMgmt",
            ),
            why="create, change, start and destroy containers of the client's pool, and write their firewall",
            instead="/vms",
        ),
        Grant(
            path="/vms",
            role="FreeholdAudit",
            privileges=("VM.Audit",),
            why="see guests of others, so that none is overwritten",
        ),
        Grant(
            path="/",
            role="FreeholdHardware",
            privileges=("Sys.Audit",),
            why="read the node's PCI devices, to find GPUs, and whether the datacenter's firewall is on",
            propagate=False,
        ),
    ]
    found += [
        Grant(path=f"{place}/{name}", role=role, privileges=privileges, why=why)
        for place, names, role, privileges, why in (
            (
                "/nodes",
                needs.nodes,
                "FreeholdNode",
                ("Sys.Audit",),
                "read the node's memory, cores and tasks",
            ),
            (
                "/storage",
                needs.storages,
                "FreeholdStorage",
                ("Datastore.AllocateSpace", "Datastore.Audit"),
                "make root disks and volumes",
            ),
            (
                "/storage",
                needs.template_storages,
                "FreeholdTemplates",
                ("Datastore.AllocateTemplate", "Datastore.Audit"),
                "fetch container templates",
            ),
            (
                "/sdn/zones/localnetwork",
                needs.bridges,
                "FreeholdNetwork",
                ("SDN.Use",),
                "plug containers into the bridge",
            ),
        )
        for name in names
    ]
    return found


def missing_privileges(client: PveClient, needs: Needs) -> list[Missing]:
    """What the session lacks, asked with one call that needs no privilege (``GET /access/permissions``).

    Raises:
        PveError: The API refused the call.
    """
    held: Mapping[str, Mapping[str, int]] = client.get(
        "/access/permissions", doing="reading the token's privileges"
    )
    missing: dict[tuple[str, str], Missing] = {}
    for grant in grants(needs):
        paths = [grant.path, *([grant.instead] if grant.instead else [])]
        for privilege in grant.privileges:
            # Membership of the pool is the pool's own business.
            places = [grant.path] if privilege.startswith("Pool.") else paths
            if not any(_holds(held, path, privilege) for path in places):
                missing[privilege, grant.path] = Missing(privilege=privilege, path=grant.path, why=grant.why)
    return [missing[key] for key in sorted(missing)]


def _holds(held: Mapping[str, Mapping[str, int]], path: str, privilege: str) -> bool:
    """Whether a privilege is held on a path: there itself, or by propagation from the nearest path that is listed."""
    if path in held:
        return privilege in held[path]
    while path != "/":
        path = path.rsplit("/", 1)[0] or "/"
        if path in held:
            return int(held[path].get(privilege, 0)) == 1
    return False
