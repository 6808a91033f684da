"""What the controller keeps of a client's hosts: the certificate of the gateway's own authority."""

from __future__ import annotations

import subprocess

from freehold.run.context import Client

AUTHORITY = "ca.crt"
GATEWAY = "caddy"
AUTHORITY_ON_GATEWAY = "/var/lib/caddy/pki/authorities/local/root.crt"


def fetch_authority(client: Client) -> None:
    """Keep the root certificate of the internal CA as ``inventory/<client>/ca.crt``: people's browsers need it."""
    if all(GATEWAY not in host.services for host in client.layout.hosts):
        return
    access = client.ssh()
    answer = subprocess.run(
        ["ssh", "-F", str(access.config), "-o", "BatchMode=yes", GATEWAY, "cat", AUTHORITY_ON_GATEWAY],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    path = client.directory / AUTHORITY
    text = answer.stdout if answer.returncode == 0 and "BEGIN CERTIFICATE" in answer.stdout else None
    if text and not (path.is_file() and path.read_text(encoding="utf-8") == text):
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
