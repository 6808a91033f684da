"""Judges a certificate that a client brings: does it fit its key, the names it is for, and this day."""

from __future__ import annotations

import itertools
import ssl
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization

SOON = timedelta(days=30)
"""How long before its end a certificate is spoken of."""


@dataclass(frozen=True)
class Verdict:
    """What is to be said of a certificate."""

    until: datetime | None
    """When it ends; none where it cannot be read."""
    problems: tuple[str, ...] = ()
    """Why browsers would refuse it."""
    warnings: tuple[str, ...] = ()


def judge(
    chain: str,
    key: str,
    names: Iterable[str],
    *,
    now: datetime | None = None,
    roots: Iterable[x509.Certificate] | None = None,
) -> Verdict:
    """Looks at a certificate with those above it, and its private key.

    Args:
        chain: The certificate first, then each that issued the one before (PEM).
        key: Its private key (PEM, without a passphrase).
        names: Host names that it must be for; ``*.acme.example`` covers one label (RFC 6125 section 6.4.3).
        now: The time; the present when left out.
        roots: Roots that are trusted without being in the chain; those of this machine when left out.
    """
    now = now or datetime.now(UTC)
    try:
        certificates = x509.load_pem_x509_certificates(chain.encode())
    except ValueError as error:
        return Verdict(None, (f"the certificate cannot be read: {error}",))
    leaf = certificates[0]
    problems = [*_key(leaf, key), *_names(leaf, names), *_order(certificates)]
    for place, each in enumerate(certificates):
        about = "the certificate" if place == 0 else f'the certificate of "{_title(each.subject)}"'
        if each.not_valid_before_utc > now:
            problems.append(f"{about} is valid from {each.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on")
        if each.not_valid_after_utc <= now:
            problems.append(f"{about} has ended on {each.not_valid_after_utc:%Y-%m-%d}")
    remarks = []
    if now < leaf.not_valid_after_utc < now + SOON:
        left = (leaf.not_valid_after_utc - now).days
        remarks.append(f"the certificate ends on {leaf.not_valid_after_utc:%Y-%m-%d}, in {left} days")
    top = certificates[-1]
    trusted = _roots() if roots is None else list(roots)
    if top.subject != top.issuer and not any(_issued(top, root) for root in trusted):
        message = f'"{_title(top.issuer)}", which issued the last one of the file, is neither in it nor trusted by this machine'
        if len(certificates) == 1:
            problems.append(f"the chain is not complete: {message}")
        else:
            remarks.append(message)
    return Verdict(leaf.not_valid_after_utc, tuple(problems), tuple(remarks))


def root_of(chain: str) -> str | None:
    """The root at the end of a chain (PEM), where the file holds it."""
    top = x509.load_pem_x509_certificates(chain.encode())[-1]
    if top.subject != top.issuer:
        return None
    return top.public_bytes(serialization.Encoding.PEM).decode()


def _key(leaf: x509.Certificate, key: str) -> Iterable[str]:
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        private = serialization.load_pem_private_key(key.encode(), None)
    except TypeError:
        yield "the private key has a passphrase: keep it without one, the secrets are encrypted"
        return
    except ValueError:
        # What the library says of it could quote the key.
        yield "the private key cannot be read: it must be PEM"
        return
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        yield "the private key is not that of the certificate, which must be the first one in the file"


def _names(leaf: x509.Certificate, names: Iterable[str]) -> Iterable[str]:
    try:
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        known = {name.lower() for name in alternatives.get_values_for_type(x509.DNSName)}
    except x509.ExtensionNotFound:
        known = set()
    missing = [name for name in names if not {name, f"*.{name.partition('.')[2]}"} & known]
    if missing:
        yield f"the certificate is not for {', '.join(missing)}, but for {', '.join(sorted(known)) or 'no name at all'}"


def _order(certificates: list[x509.Certificate]) -> Iterable[str]:
    for lower, upper in itertools.pairwise(certificates):
        if not _issued(lower, upper):
            yield (
                f'the chain is not complete or not in order: "{_title(lower.subject)}" was issued by '
                f'"{_title(lower.issuer)}", and "{_title(upper.subject)}" follows it'
            )


def _issued(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    try:
        lower.verify_directly_issued_by(upper)
    except Exception:  # noqa: BLE001 - the library has several for "another issued it"
        return False
    return True


def _title(name: x509.Name) -> str:
    common = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(common[0].value) if common else name.rfc4514_string()


def _roots() -> list[x509.Certificate]:
    """The roots that this machine trusts; those that the library cannot read are left out."""
    found = []
    for der in ssl.create_default_context().get_ca_certs(binary_form=True):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what the library thinks of a public authority's numbers
                found.append(x509.load_der_x509_certificate(der))
        except ValueError:
            continue
    return found
