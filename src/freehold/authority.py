"""A client's internal certificate authority: its root, the gateway's intermediate and certificates of services.

The root is made once per client on the controller and never leaves it. It vouches for the client's domain and for private
addresses alone (name constraints, RFC 5280 section 4.2.1.10), and for servers alone (extended key usage, section
4.2.1.12), so that a computer which trusts it trusts it with nothing else. What is kept of each is one PEM text, a
*bundle*: private key, its certificate, and the certificates above it but the root; the gateway's bundle ends with the
root.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROOT = "freehold.authority"
"""Name of the secret that is the root."""

ROOT_LIFE = timedelta(days=3652)
LIFE = timedelta(days=730)
"""Of all but the root; Apple's systems refuse more than 825 days (https://support.apple.com/103769)."""
RENEW = timedelta(days=60)
"""How long before its end a certificate is made anew."""

_KEYS = (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)
"""Kinds of keys of certificates; a client's own root may have either."""

_BACKDATED = timedelta(hours=1)
"""Clocks of containers and browsers may be behind the controller's."""


@dataclass(frozen=True)
class Scope:
    """What a client's authority vouches for."""

    client: str
    domain: str
    subnet: IPv4Network
    private: tuple[IPv4Network, ...]
    """Networks of private addresses."""

    @property
    def networks(self) -> tuple[IPv4Network, ...]:
        """Private addresses, and the client's subnet where it is none of them."""
        inside = any(self.subnet.subnet_of(network) for network in self.private)
        return self.private if inside else (*self.private, self.subnet)


@dataclass(frozen=True)
class Subject:
    """Whom a certificate is for."""

    name: str
    """In words, for people who look at the certificate."""
    names: tuple[str, ...] = ()
    """DNS names, all below the scope's domain."""
    addresses: tuple[IPv4Address, ...] = ()
    authority: bool = False
    """Whether it issues certificates itself, as the gateway does."""


def of_service(scope: Scope, service: str, address: IPv4Address) -> Subject:
    """The subject of a service's certificate: ``<service>.<domain>``, ``<client>-<service>.<domain>`` and its address."""
    names = (f"{service}.{scope.domain}", f"{scope.client}-{service}.{scope.domain}")
    return Subject(name=service, names=names, addresses=(address,))


def of_gateway(scope: Scope) -> Subject:
    """The subject of the intermediate authority with which the gateway issues certificates of its host names."""
    return Subject(name=f"Freehold gateway of {scope.client}", authority=True)


def renewals(
    kept: Mapping[str, str], scope: Scope, wanted: Mapping[str, Subject], *, now: datetime | None = None
) -> dict[str, str]:
    """New bundles by secret name, for those of ``wanted`` and the root that are missing, do not fit or end soon.

    A new root makes all others anew. A root of the client's own making is taken where it is an authority that may vouch
    for the scope.
    """
    now = now or datetime.now(UTC)
    made: dict[str, str] = {}
    root = kept.get(ROOT, "")
    if not _root_fits(root, scope, now):
        root = made[ROOT] = _issue_root(scope, now)
    for name, subject in wanted.items():
        if not _fits(kept.get(name, ""), subject, root, now):
            made[name] = _issue(subject, root, now)
    return made


def root_certificate(bundle: str) -> str:
    """The certificate of the root's bundle, which browsers and containers trust, as PEM."""
    return _pem(_certificates(bundle)[0])


def _issue_root(scope: Scope, now: datetime) -> str:
    key = ec.generate_private_key(ec.SECP384R1())
    name = _named(f"Freehold CA of {scope.client}")
    permitted = [
        x509.DNSName(scope.domain),
        *(x509.IPAddress(network) for network in scope.networks),
    ]
    certificate = (
        _builder(name, name, key.public_key(), now, now + ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_ISSUES, critical=True)
        .add_extension(_SITES, critical=False)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .sign(key, hashes.SHA384())
    )
    return _key_pem(key) + _pem(certificate)


def _issue(subject: Subject, root: str, now: datetime) -> str:
    issuer, issuer_key = _certificates(root)[0], serialization.load_pem_private_key(root.encode(), None)
    assert isinstance(issuer_key, _KEYS)
    key = ec.generate_private_key(ec.SECP256R1())
    until = min(now + LIFE, issuer.not_valid_after_utc)
    builder = _builder(_named(subject.name), issuer.subject, key.public_key(), now, until)
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
    ).add_extension(_SITES, critical=False)
    if subject.authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_ISSUES, critical=True)
    else:
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in subject.names]
        names += [x509.IPAddress(address) for address in subject.addresses]
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_SERVES, critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )
    bundle = _key_pem(key) + _pem(builder.sign(issuer_key, hashes.SHA384()))
    return bundle + _pem(issuer) if subject.authority else bundle


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _root_fits(bundle: str, scope: Scope, now: datetime) -> bool:
    certificates = _read(bundle)
    return (
        bool(certificates)
        and _is_authority(certificates[0])
        and _permits(certificates[0], scope)
        and _lasts(certificates[0], now)
    )


def _fits(bundle: str, subject: Subject, root: str, now: datetime) -> bool:
    certificates = _read(bundle)
    if not certificates:
        return False
    certificate = certificates[0]
    try:
        certificate.verify_directly_issued_by(_certificates(root)[0])
    except Exception:  # noqa: BLE001 - the library has several for "another issued it"
        return False
    return (
        _is_authority(certificate) is subject.authority
        and _alternatives(certificate) == {*subject.names, *map(str, subject.addresses)}
        and _lasts(certificate, now)
    )


def _read(bundle: str) -> list[x509.Certificate]:
    """The certificates of a bundle whose key can be read too; none where it is no bundle."""
    try:
        key = serialization.load_pem_private_key(bundle.encode(), None)
        return _certificates(bundle) if isinstance(key, _KEYS) else []
    except (ValueError, TypeError):
        return []


def _certificates(bundle: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(bundle.encode())


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _alternatives(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(name.value) for name in names}


def _permits(certificate: x509.Certificate, scope: Scope) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return True
    permitted = constraints.permitted_subtrees or []
    domains = [name.value for name in permitted if isinstance(name, x509.DNSName)]
    networks = [name.value for name in permitted if isinstance(name, x509.IPAddress)]
    return (
        not domains
        or any(scope.domain == domain or scope.domain.endswith(f".{domain}") for domain in domains)
    ) and (
        not networks
        or any(isinstance(network, IPv4Network) and scope.subnet.subnet_of(network) for network in networks)
    )


def _lasts(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_after_utc - now >= RENEW


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _usage(*, issues: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=issues,
        crl_sign=issues,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


_ISSUES = _usage(issues=True)
_SERVES = _usage(issues=False)
_SITES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
"""In authorities too: name constraints say nothing of who signs programs or mail, and systems that trust a root for
everything, as Windows does, take this for the limit (CA/Browser Forum's Baseline Requirements, section 7.1.2.2)."""
