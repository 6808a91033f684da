"""The root certificate that a client's computers must trust, in the forms in which they take it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from freehold.certificates import root_of
from freehold.errors import BadInputError
from freehold.layout.certificate import DEFAULT
from freehold.layout.placement import GATEWAY
from freehold.run.context import Client

FOLDER = "ca"


class NoRootError(BadInputError):
    """There is no root certificate to hand out."""


@dataclass(frozen=True)
class Exported:
    """What was written, and what to compare it with."""

    client: str
    subject: str
    until: str
    """Last day, such as ``2036-06-01``."""
    sha256: str
    """Fingerprint in the form of browsers: pairs of capital hexadecimal digits with colons."""
    sha1: str
    """The same by SHA-1, which Windows shows as the thumbprint."""
    files: dict[str, str]
    """Path of each file by what it is for."""

    def as_dict(self) -> dict[str, Any]:
        """The export as plain data."""
        return asdict(self)


def export(client: Client, folder: Path | None = None) -> Exported:
    """Write the root as PEM and DER, and Firefox's policy, to a folder; ``ca`` in the client's folder when left out.

    Raises:
        NoRootError: It is not made yet, or the gateway's certificate comes from an authority that computers know by themselves.
    """
    root = x509.load_pem_x509_certificate(_root(client).encode())
    folder = folder or client.directory / FOLDER
    name = f"freehold-{client.stack.client}"
    der, pem = folder / f"{name}.cer", folder / f"{name}.pem"
    policy = folder / "policies.json"
    folder.mkdir(parents=True, exist_ok=True)
    der.write_bytes(root.public_bytes(serialization.Encoding.DER))
    pem.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    policy.write_text(json.dumps(_firefox(der.name), indent=2) + "\n", encoding="utf-8")
    for path in (der, pem, policy):
        path.chmod(0o644)
    return Exported(
        client=client.stack.client,
        subject=root.subject.rfc4514_string(),
        until=f"{root.not_valid_after_utc:%Y-%m-%d}",
        sha256=_fingerprint(root, hashes.SHA256()),
        sha1=_fingerprint(root, hashes.SHA1()),  # noqa: S303 - Windows shows it; nothing is trusted for its sake
        files={
            "Windows, group policy, Intune": str(der),
            "Linux, macOS, Android, iOS": str(pem),
            "Firefox": str(policy),
        },
    )


def _root(client: Client) -> str:
    gateway = client.stack.services.get(GATEWAY) or {}
    kind = gateway.get("certificate", "internal")
    if kind == "own":
        file = client.directory / str(gateway.get("certificate_file", DEFAULT))
        root = root_of(client.layout.service(GATEWAY).variables["caddy_certificate_chain"])
        if root is None:
            raise NoRootError(
                f"{file} does not hold the root of the gateway's certificate",
                doing="exporting the root certificate",
                where=str(file),
                remedy="A public authority's root is in every computer. For your own authority's, append it to the file.",
            )
        return root
    if kind == "acme":
        raise NoRootError(
            "The gateway's certificate comes from an ACME authority, whose root is not Freehold's to hand out",
            doing="exporting the root certificate",
            where=f"{client.loaded.path}: services.{GATEWAY}.certificate",
            remedy="A public authority's root is in every computer; that of an authority in the house is handed out there.",
        )
    if (made := client.authority()) is None:
        raise NoRootError(
            "The client's authority is not made yet",
            doing="exporting the root certificate",
            where=str(client.authority_file),
            remedy=f"Run: freehold up {client.stack.client}",
        )
    return made


def _fingerprint(certificate: x509.Certificate, algorithm: hashes.HashAlgorithm) -> str:
    return certificate.fingerprint(algorithm).hex(":").upper()


def _firefox(file: str) -> dict[str, Any]:
    """https://mozilla.github.io/policy-templates/#certificates: roots of the system, and the file beside Firefox's own ones."""
    return {"policies": {"Certificates": {"ImportEnterpriseRoots": True, "Install": [file]}}}
