"""The certificate that a client brings for the gateway, looked at before anything is touched."""

from __future__ import annotations

from collections.abc import Iterator

from freehold import certificates
from freehold.layout.certificate import KEY
from freehold.layout.placement import GATEWAY
from freehold.run.context import Client
from freehold.run.finding import Finding
from freehold.run.given import command

ABOUT = "certificate of the gateway"


def findings(client: Client) -> Iterator[Finding]:
    """What is to be said of it; nothing where the gateway has another, or where its key is yet to be given."""
    gateway = next((each for each in client.layout.services if each.role == GATEWAY), None)
    if gateway is None or gateway.variables.get("caddy_certificate") != "own" or not client.secrets.has(KEY):
        return
    names = [client.layout.domain, *(route.fqdn for route in client.whole_layout.routes)]
    chain = gateway.variables["caddy_certificate_chain"]
    verdict = certificates.judge(chain, client.secrets.get(KEY), names)
    remedy = (
        f"Bring a certificate for {client.layout.domain} and *.{client.layout.domain}, with those above it, to"
        f" {client.directory / gateway.variables.get('caddy_certificate_file', 'certificate.pem')}; its key:"
        f" {command(client.stack.client, KEY)} < key.pem"
    )
    for text in verdict.problems:
        yield Finding(ABOUT, "problem", text, remedy)
    for text in verdict.warnings:
        yield Finding(ABOUT, "warning", text, remedy)
    if not verdict.problems and not verdict.warnings and verdict.until:
        yield Finding(ABOUT, "ok", f"until {verdict.until:%Y-%m-%d}, for {', '.join(names)}")
