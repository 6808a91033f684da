"""What is said of a certificate that a client brings, before anything is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from freehold.certificates import judge, root_of

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NAMES = ("acme.example", "chat.acme.example", "flows.acme.example")


@dataclass
class Made:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return self.key_as(serialization.NoEncryption())

    def key_as(self, encryption: serialization.KeySerializationEncryption) -> str:
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
        return self.key.private_bytes(*form, encryption).decode()


def make(
    title: str,
    above: Made | None = None,
    names: Sequence[str] = (),
    begins: datetime = NOW - timedelta(days=10),
    days: int = 365,
) -> Made:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(above.certificate.subject if above else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=days))
    )
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    return Made(builder.sign(above.key if above else key, hashes.SHA256()), key)


ROOT = make("Root")
BETWEEN = make("Between", ROOT)
LEAF = make("Leaf", BETWEEN, ["acme.example", "*.acme.example"])


def problems(chain: str, key: str = LEAF.key_pem, names: Sequence[str] = NAMES) -> str:
    return "\n".join(judge(chain, key, names, now=NOW, roots=[ROOT.certificate]).problems)


def test_a_certificate_that_fits() -> None:
    verdict = judge(LEAF.pem + BETWEEN.pem, LEAF.key_pem, NAMES, now=NOW, roots=[ROOT.certificate])
    assert (verdict.problems, verdict.warnings) == ((), ())
    assert verdict.until == NOW + timedelta(days=355)


def test_a_root_in_the_file_needs_no_trust_of_this_machine() -> None:
    verdict = judge(LEAF.pem + BETWEEN.pem + ROOT.pem, LEAF.key_pem, NAMES, now=NOW, roots=[])
    assert (verdict.problems, verdict.warnings) == ((), ())
    assert root_of(LEAF.pem + BETWEEN.pem + ROOT.pem) == ROOT.pem
    assert root_of(LEAF.pem + BETWEEN.pem) is None


def test_each_host_name_is_covered() -> None:
    one = make("One", BETWEEN, ["acme.example", "chat.acme.example"])
    assert "is not for flows.acme.example, but for" in problems(one.pem + BETWEEN.pem, one.key_pem)
    # A wildcard covers neither the domain itself nor a second label.
    star = make("Star", BETWEEN, ["*.acme.example"])
    found = problems(star.pem + BETWEEN.pem, star.key_pem, ["acme.example", "a.b.acme.example"])
    assert "is not for acme.example, a.b.acme.example" in found
    assert "no name at all" in problems(make("None", BETWEEN).pem + BETWEEN.pem)


def test_the_key_is_that_of_the_certificate() -> None:
    assert "not that of the certificate" in problems(LEAF.pem + BETWEEN.pem, BETWEEN.key_pem)
    assert "not that of the certificate" in problems(BETWEEN.pem + LEAF.pem)
    assert "cannot be read" in problems(LEAF.pem + BETWEEN.pem, "-----BEGIN PRIVATE KEY-----\nno\n")
    locked = LEAF.key_as(serialization.BestAvailableEncryption(b"x"))
    assert "passphrase" in problems(LEAF.pem + BETWEEN.pem, locked)


@pytest.mark.parametrize(
    ("begins", "days", "said"),
    [(NOW - timedelta(days=20), 10, "has ended"), (NOW + timedelta(days=1), 10, "is valid from")],
)
def test_it_is_valid_today(begins: datetime, days: int, said: str) -> None:
    leaf = make("Leaf", BETWEEN, NAMES, begins, days)
    assert said in problems(leaf.pem + BETWEEN.pem, leaf.key_pem)


def test_one_that_ends_soon_is_a_warning() -> None:
    leaf = make("Leaf", BETWEEN, NAMES, NOW - timedelta(days=60), 80)
    verdict = judge(leaf.pem + BETWEEN.pem, leaf.key_pem, NAMES, now=NOW, roots=[ROOT.certificate])
    assert verdict.problems == ()
    assert "in 20 days" in verdict.warnings[0]


def test_the_chain_is_complete() -> None:
    assert '"Between", which issued the last one' in problems(LEAF.pem)
    assert "not in order" in problems(LEAF.pem + ROOT.pem)
    unknown = judge(LEAF.pem + BETWEEN.pem, LEAF.key_pem, NAMES, now=NOW, roots=[])
    assert unknown.problems == ()
    assert '"Root"' in unknown.warnings[0]


def test_what_is_no_certificate() -> None:
    assert "cannot be read" in problems("-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----\n")
