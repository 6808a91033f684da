"""``freehold prepare``: the least-privilege role, pool, user and token, made once as root."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from freehold import ssh
from freehold.errors import FreeholdError
from freehold.layout.types import NodeAccess
from freehold.proxmox import errors
from freehold.proxmox.client import PveClient, Token
from freehold.proxmox.prepare import Prepared, Ran, Root, Step, over_session, over_ssh
from freehold.proxmox.prepare import prepare as prepare_node
from freehold.proxmox.privileges import Needs
from freehold.run import roots
from freehold.run.context import TOKEN_SECRET, Client

_SSH_TIMEOUT = 120


def needs(client: Client) -> Needs:
    """What the client uses of its Proxmox VE cluster."""
    pve, hosts = client.stack.proxmox, client.whole_layout.hosts
    return Needs(
        token=pve.token,
        pool=client.stack.pool,
        nodes=tuple(sorted({host.node for host in hosts} | {pve.node})),
        storages=tuple(sorted({host.storage for host in hosts} | {pve.storage})),
        template_storages=(pve.template_storage,),
        bridges=tuple(
            sorted(
                {f"{host.bridge}/{host.vlan}" if host.vlan else host.bridge for host in hosts}
                | {client.stack.network.bridge}
            )
        ),
    )


def prepare(
    client: Client,
    *,
    password: str | None = None,
    new_token: bool = False,
    report: Callable[[Step], None] | None = None,
) -> Prepared:
    """Make what the client's token needs and keep the token's secret; what is there already is left alone.

    Root comes by ``password`` (a root@pam session), else by SSH to the node, else by ``proxmox.root_password_command``.

    Raises:
        NoRootError: There is no way to become root.
        FreeholdError: A step was refused.
    """
    lost = not client.secrets.has(TOKEN_SECRET) or not _token_works(client)
    done = prepare_node(_root(client, password), needs(client), new_secret=new_token or lost, report=report)
    if done.secret:
        client.secrets.set(TOKEN_SECRET, done.secret)
    return done


def _token_works(client: Client) -> bool:
    pve = client.stack.proxmox
    secret = client.secrets.get(TOKEN_SECRET)
    session = PveClient(
        pve.endpoint,
        Token(pve.token, secret),
        ca_file=client.ca_file,
        fingerprint=pve.fingerprint,
        timeout=pve.timeout,
    )
    try:
        session.get("/version", doing="trying the token")
    except errors.AuthenticationError:
        return False
    return True


def _root(client: Client, password: str | None) -> Root:
    access = next(
        (
            node
            for node in client.whole_layout.nodes
            if node.name == client.stack.proxmox.node and node.address
        ),
        None,
    )
    if password is None and access is not None:
        client.ensure_secrets()
        return over_ssh(lambda argv: _on_node(client, access, argv))
    return over_session(roots.root_session(client, password))


def _on_node(client: Client, node: NodeAccess, argv: list[str]) -> Ran:
    command = [
        "ssh",
        "-F",
        str(client.ssh().config),
        "-o",
        "BatchMode=yes",
        node.name,
        f"{shlex.join(argv)} || exit 1",
    ]
    # ssh ends with 255 where it does not get through, and so does pvesh where a call is refused.
    answer = ssh.run(command, timeout=_SSH_TIMEOUT, doing="preparing the node")
    if answer.returncode == 255:
        raise FreeholdError(
            f"SSH to node {node.name} does not work",
            doing="preparing the node",
            where=f"{node.ssh_user}@{node.address}",
            answer=answer.stderr.strip(),
            remedy=f"Check nodes.{node.name} in the stack file (address, ssh_key, host_key), or give --password.",
        )
    return Ran(status=answer.returncode, out=answer.stdout, error=answer.stderr)
