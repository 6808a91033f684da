"""What the controller keeps of a client's hosts: the certificate of the gateway's own authority."""

from __future__ import annotations

from freehold import ssh
from freehold.layout.placement import GATEWAY
from freehold.run.context import Client
from freehold.vault import write_private

AUTHORITY = "/var/lib/caddy/pki/authorities/local/root.crt"
"""Where Caddy keeps the root of its authority (https://caddyserver.com/docs/automatic-https#local-https)."""


def fetch_authority(client: Client) -> bool:
    """Keep the root certificate of the internal authority as ``inventory/<client>/ca.crt``; whether it is a new one.

    Raises:
        UnreachableError: The gateway does not answer.
    """
    if all(GATEWAY not in host.services for host in client.layout.hosts):
        return False
    command = ["ssh", "-F", str(client.ssh().config), "-o", "BatchMode=yes", GATEWAY, "cat", AUTHORITY]
    doing = "fetching the certificate of the gateway's authority"
    answer = ssh.run(command, timeout=60, doing=doing)
    if answer.returncode == 255:
        raise ssh.UnreachableError(
            "The gateway does not answer over SSH",
            doing=doing,
            where=GATEWAY,
            answer=answer.stderr.strip(),
            remedy="See whether its container runs, and run the same command again.",
        )
    new = answer.stdout if answer.returncode == 0 and "BEGIN CERTIFICATE" in answer.stdout else None
    if new is None or new == client.authority():
        return False
    write_private(client.authority_file, new.encode())
    client.authority_file.chmod(0o644)
    return True
