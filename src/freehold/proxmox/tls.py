"""How the API's certificate is trusted: by a CA file, or by the SHA-256 fingerprint of the certificate itself."""

from __future__ import annotations

import hashlib
import re
import ssl
from typing import Any

import requests
from requests.adapters import HTTPAdapter

_GOT = re.compile(r'got "?([0-9a-fA-F]{64})"?')


def fingerprint(der: bytes) -> str:
    """SHA-256 fingerprint of a certificate (DER), as the Proxmox VE web interface shows it: ``AB:CD:...``."""
    return _colons(hashlib.sha256(der).hexdigest())


def _colons(digits: str) -> str:
    digits = digits.upper()
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))


def shown_fingerprint(host: str, port: int, timeout: float) -> str | None:
    """Fingerprint of the certificate that a server shows, unverified, to be compared by a person.

    Nothing but the handshake is sent. ``None`` where there is no TLS server.
    """
    try:
        pem = ssl.get_server_certificate((host, port), timeout=timeout)
    except OSError:
        return None
    return fingerprint(ssl.PEM_cert_to_DER_cert(pem))


def fingerprint_in(error: Exception) -> str | None:
    """The fingerprint that the server showed, as urllib3's mismatch error quotes it."""
    found = _GOT.search(str(error))
    return _colons(found[1]) if found else None


class PinnedAdapter(HTTPAdapter):
    """Accepts exactly the certificate with the given SHA-256 fingerprint, whoever signed it.

    The check replaces that of the chain and the host name, and holds through an HTTP proxy as well.
    """

    def __init__(self, pin: str, **options: Any) -> None:
        self._pin = pin.replace(":", "").lower()
        super().__init__(**options)

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: bool | str, cert: Any = None
    ) -> Any:
        """Connections of this adapter carry the pin; see `requests.adapters.HTTPAdapter`."""
        host, attributes = super().build_connection_pool_key_attributes(request, verify, cert)
        pool: dict[str, Any] = {**attributes, "cert_reqs": "CERT_NONE", "assert_fingerprint": self._pin}
        for key in ("ca_certs", "ca_cert_dir", "ssl_context"):
            pool.pop(key, None)
        return host, pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ARG002
        """The pin is the verification; without it there is no connection."""
        if conn.assert_fingerprint != self._pin:
            raise requests.exceptions.SSLError("the connection carries no pinned fingerprint")
