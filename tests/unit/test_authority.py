"""The internal authority: what it vouches for, what a TLS client makes of its certificates, and when they are made anew."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from freehold import authority
from freehold.authority import ROOT, Scope, Subject, of_gateway, of_service, renewals, root_certificate
from freehold.layout.network import PRIVATE

SCOPE = Scope("acme", "acme.internal", IPv4Network("10.20.0.0/24"), PRIVATE)
QDRANT = of_service(SCOPE, "qdrant", IPv4Address("10.20.0.75"))
WANTED = {"qdrant.tls": QDRANT, "caddy.authority": of_gateway(SCOPE)}


def _leaf(bundle: str) -> x509.Certificate:
    return x509.load_pem_x509_certificates(bundle.encode())[0]


def _handshake(folder: Path, bundle: str, root: str, name: str) -> str:
    """The problem that a client has with a server of this certificate; empty where there is none."""
    file = folder / "bundle.pem"
    file.write_text(bundle)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(file)
    client = ssl.create_default_context(cadata=root)
    one, other = socket.socketpair()

    def answer() -> None:
        try:
            with server.wrap_socket(one, server_side=True):
                pass
        except (ssl.SSLError, OSError):
            one.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with client.wrap_socket(other, server_hostname=name):
            return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        other.close()
        thread.join()


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return renewals({}, SCOPE, WANTED)


@pytest.mark.parametrize("name", ["qdrant.acme.internal", "acme-qdrant.acme.internal", "10.20.0.75"])
def test_a_client_that_trusts_the_root_trusts_a_service_by_its_names(
    made: dict[str, str], tmp_path: Path, name: str
) -> None:
    assert _handshake(tmp_path, made["qdrant.tls"], root_certificate(made[ROOT]), name) == ""


@pytest.mark.parametrize("name", ["chat.acme.internal", "10.20.0.76"])
def test_it_does_not_trust_it_by_other_names(made: dict[str, str], tmp_path: Path, name: str) -> None:
    assert "not valid for" in _handshake(
        tmp_path, made["qdrant.tls"], root_certificate(made[ROOT]), name
    ) or "mismatch" in _handshake(tmp_path, made["qdrant.tls"], root_certificate(made[ROOT]), name)


@pytest.mark.parametrize(
    "subject",
    [
        Subject("bank", names=("bank.example",)),
        Subject("lookalike", names=("notacme.internal",)),
        Subject("resolver", addresses=(IPv4Address("9.9.9.9"),)),
    ],
)
def test_the_root_vouches_for_nothing_else(tmp_path: Path, subject: Subject) -> None:
    """Whoever steals its key cannot pass for a bank before those who trust it."""
    made = renewals({}, SCOPE, {"x": subject})
    name = [*subject.names, *map(str, subject.addresses)][0]
    assert (
        _handshake(tmp_path, made["x"], root_certificate(made[ROOT]), name) == "permitted subtree violation"
    )


def test_all_of_them_are_good_for_servers_alone(made: dict[str, str]) -> None:
    """Whoever steals the gateway's key signs no programs and no mail for computers that trust the root: name constraints
    say nothing of those."""
    for bundle in made.values():
        for certificate in x509.load_pem_x509_certificates(bundle.encode()):
            usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_a_gateway_issues_certificates_but_no_authorities(made: dict[str, str]) -> None:
    intermediate, root = x509.load_pem_x509_certificates(made["caddy.authority"].encode())
    constraints = intermediate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    assert root.public_bytes(serialization.Encoding.PEM).decode() == root_certificate(made[ROOT])
    intermediate.verify_directly_issued_by(root)


def test_keys_are_apart_and_the_roots_is_in_no_other_bundle(made: dict[str, str]) -> None:
    keys = {bundle.split("-----END PRIVATE KEY-----")[0] for bundle in made.values()}
    assert len(keys) == 3
    assert "PRIVATE" not in root_certificate(made[ROOT])


def test_what_fits_is_kept(made: dict[str, str]) -> None:
    assert renewals(made, SCOPE, WANTED) == {}


def test_a_new_service_makes_its_own_alone(made: dict[str, str]) -> None:
    more = WANTED | {"x.tls": of_service(SCOPE, "x", IPv4Address("10.20.0.9"))}
    assert set(renewals(made, SCOPE, more)) == {"x.tls"}


def test_another_address_makes_that_certificate_anew(made: dict[str, str]) -> None:
    moved = WANTED | {"qdrant.tls": of_service(SCOPE, "qdrant", IPv4Address("10.20.0.76"))}
    assert set(renewals(made, SCOPE, moved)) == {"qdrant.tls"}


def test_another_domain_makes_everything_anew(made: dict[str, str]) -> None:
    scope = Scope("acme", "acme.example", SCOPE.subnet, PRIVATE)
    wanted = {"qdrant.tls": of_service(scope, "qdrant", IPv4Address("10.20.0.75"))}
    assert set(renewals(made, scope, wanted)) == {ROOT, "qdrant.tls"}


def test_a_public_subnet_is_vouched_for_too(made: dict[str, str]) -> None:
    scope = Scope("acme", "acme.internal", IPv4Network("203.0.113.0/24"), PRIVATE)
    wanted = {"qdrant.tls": of_service(scope, "qdrant", IPv4Address("203.0.113.75"))}
    again = renewals(made, scope, wanted)
    assert set(again) == {ROOT, "qdrant.tls"}
    assert renewals(again, scope, wanted) == {}


def test_certificates_are_made_anew_before_they_end(made: dict[str, str]) -> None:
    end = datetime.now(UTC) + authority.LIFE
    assert renewals(made, SCOPE, WANTED, now=end - timedelta(days=61)) == {}
    again = renewals(made, SCOPE, WANTED, now=end - timedelta(days=59))
    assert set(again) == set(WANTED)
    end = datetime.now(UTC) + authority.ROOT_LIFE
    assert set(renewals(made | again, SCOPE, WANTED, now=end - timedelta(days=59))) == {ROOT, *WANTED}


def test_no_certificate_outlives_its_root(made: dict[str, str]) -> None:
    late = datetime.now(UTC) + authority.ROOT_LIFE - timedelta(days=300)
    again = renewals({ROOT: made[ROOT]}, SCOPE, WANTED, now=late)
    assert set(again) == set(WANTED)
    assert {_leaf(bundle).not_valid_after_utc for bundle in again.values()} == {
        _leaf(made[ROOT]).not_valid_after_utc
    }
    assert renewals(made | again, SCOPE, WANTED, now=late) == {}


@pytest.mark.parametrize(
    "broken", ["", "text", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_bundle_is_made_anew(made: dict[str, str], broken: str) -> None:
    assert set(renewals(made | {"qdrant.tls": broken}, SCOPE, WANTED)) == {"qdrant.tls"}


def test_a_certificate_in_the_place_of_the_gateways_authority_does_not_pass(made: dict[str, str]) -> None:
    swapped = made | {"caddy.authority": made["qdrant.tls"]}
    assert set(renewals(swapped, SCOPE, WANTED)) == {"caddy.authority"}


def test_a_root_of_the_clients_own_is_taken(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Acme's own")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=3000))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    own = (
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    ).decode()
    made = renewals({ROOT: own}, SCOPE, WANTED)
    assert set(made) == set(WANTED)
    assert _handshake(tmp_path, made["qdrant.tls"], root_certificate(own), "qdrant.acme.internal") == ""
