"""What the controller keeps of a client's hosts: the certificate of the gateway's own authority."""

from __future__ import annotations

import subprocess

from freehold.run.context import Client

GATEWAY = "caddy"
AUTHORITY = "/var/lib/caddy/pki/authorities/local/root.crt"
"""Where Caddy keeps the root of its authority (https://caddyserver.com/docs/automatic-https#local-https)."""


def fetch_authority(client: Client) -> bool:
    """Keep the root certificate of the internal authority as ``inventory/<client>/ca.crt``; whether it is a new one."""
    if all(GATEWAY not in host.services for host in client.layout.hosts):
        return False
    answer = subprocess.run(
        ["ssh", "-F", str(client.ssh().config), "-o", "BatchMode=yes", GATEWAY, "cat", AUTHORITY],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    new = answer.stdout if answer.returncode == 0 and "BEGIN CERTIFICATE" in answer.stdout else None
    if new is None or new == client.authority():
        return False
    client.authority_file.write_text(new, encoding="utf-8")
    client.authority_file.chmod(0o644)
    return True
