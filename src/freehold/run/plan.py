"""From a client to the plan for its containers."""

from __future__ import annotations

from freehold.errors import BadInputError
from freehold.proxmox.changes import Plan
from freehold.proxmox.observe import Observed, observe
from freehold.proxmox.plan import plan as make_plan
from freehold.proxmox.spec import ContainerSpec
from freehold.run import given, gpus, specs, templates
from freehold.run.context import Client


class ImpossibleError(BadInputError):
    """The stack asks for a change that cannot be made to a container that exists."""


def wanted(client: Client) -> list[ContainerSpec]:
    """The containers that the client should have, in start order.

    A template that is not on the node yet is named as the node will have it: it is fetched before containers are made.
    """
    layout, pve = client.layout, client.stack.proxmox
    volumes = {
        (node, os): templates.find(client.api, node, pve.template_storage, os)
        or f"{pve.template_storage}:vztmpl/{os}-standard (to be downloaded)"
        for node, os in sorted({(host.node, host.os) for host in layout.hosts})
    }
    keys = client.public_keys()
    return [specs.container(layout, host, volumes[host.node, host.os], keys) for host in layout.hosts]


def plan(client: Client, *, prune: bool = False, ask: bool = True) -> tuple[Plan, Observed]:
    """What would change, and what is there. Nothing is touched.

    Args:
        client: The client.
        prune: Also destroy the client's containers that the stack no longer names.
        ask: Ask the nodes which device nodes their GPUs have, unless they were asked before.

    Raises:
        MissingSecretError: The stack needs secrets that the client has not given.
        ForeignGuestError: Something that is not Freehold's holds a VMID, a name or an address that is wanted.
        PveError: The API refused to say.
        FreeholdError: A node does not say which GPUs it has.
    """
    api = client.api  # a client without a token has none, and nothing is made for it
    client.ensure_secrets()
    given.require(client)
    if ask:
        gpus.look(client)
    specs_ = wanted(client)
    nodes = {client.stack.proxmox.node, *client.stack.nodes}
    observed = observe(api, specs_, owner=client.layout.client, pool=client.layout.pool, nodes=sorted(nodes))
    if client.only:
        # Containers of other services are left out of the question, not out of the stack.
        names = {spec.vmid for spec in specs_}
        observed = observed.model_copy(
            update={"guests": {vmid: guest for vmid, guest in observed.guests.items() if vmid in names}}
        )
    return make_plan(specs_, observed, prune=prune), observed


def refuse_impossible(made: Plan) -> None:
    """Stop before anything is touched when a wanted change cannot be made in place.

    Raises:
        ImpossibleError: With each such change and what to do instead.
    """
    found = made.impossible
    if found:
        raise ImpossibleError(
            f"{len(found)} changes cannot be made to containers that exist"
            if len(found) > 1
            else "1 change cannot be made to a container that exists",
            doing="planning; nothing was touched",
            answer="\n".join(
                f"{change.host} ({change.vmid}): {diff.field}: {diff.old} -> {diff.new}"
                for change, diff in found
            ),
            remedy="\n".join(dict.fromkeys(diff.remedy for _, diff in found if diff.remedy)) or None,
        )
