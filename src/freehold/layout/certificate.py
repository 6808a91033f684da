"""The client's own certificate for the gateway: a file in its folder. Its key is a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from freehold.layout.placement import GATEWAY
from freehold.schema.problems import Problem
from freehold.schema.stack import Stack

DEFAULT = "certificate.pem"
KEY = f"{GATEWAY}.certificate_key"
"""Name of the secret that is its key."""

_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----\r?\n[A-Za-z0-9+/=\r\n]+-----END CERTIFICATE-----", re.ASCII
)


def chain(directory: Path, file: str) -> str:
    """The certificates of a file in the client's folder, as PEM and nothing else; empty where there are none."""
    path = directory / file
    if not path.is_file():
        return ""
    found = _CERTIFICATE.findall(path.read_text(encoding="utf-8", errors="replace"))
    return "".join(one.replace("\r\n", "\n") + "\n" for one in found)


def check(stack: Stack, directory: Path) -> Iterable[Problem]:
    """What is wrong with the file, before anybody looks into the certificates."""
    settings = stack.services.get(GATEWAY) or {}
    if settings.get("certificate") == "acme":
        yield from _acme(settings, directory)
    if settings.get("certificate") != "own":
        return
    file = str(settings.get("certificate_file", DEFAULT))
    key, path = ("services", GATEWAY, "certificate_file"), directory / file
    if not path.is_file():
        yield Problem(
            key,
            "there is no such file in the client's folder",
            found=file,
            allowed="a file with the certificate and those above it (PEM)",
        )
    elif "PRIVATE KEY" in path.read_text(encoding="utf-8", errors="replace"):
        yield Problem(
            key,
            "the file holds a private key, which belongs among the secrets",
            found=file,
            allowed=f"certificates alone; the key is kept by: freehold secrets set {stack.client} {KEY}",
        )
    elif not chain(directory, file):
        yield Problem(key, "the file holds no certificate in PEM", found=file)


def _acme(settings: Mapping[str, Any], directory: Path) -> Iterable[Problem]:
    if not settings.get("acme_dns"):
        yield Problem(
            ("services", GATEWAY, "acme_dns"),
            "is missing: the authority asks the name servers whether the domain is yours",
            allowed="who serves the zone of the domain, such as cloudflare, or rfc2136 for a name server of your own",
        )
    file = settings.get("acme_authority_file")
    if file and not chain(directory, str(file)):
        yield Problem(
            ("services", GATEWAY, "acme_authority_file"),
            "there is no such file with a certificate (PEM) in the client's folder",
            found=file,
        )
