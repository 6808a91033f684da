"""Secrets that only the client has: asked for by name before anything is touched, and never made up."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from freehold.errors import BadInputError
from freehold.run import given, own_certificate
from freehold.run.context import Client

Open = Callable[..., Client]

KEY = "caddy.certificate_key"


@pytest.fixture
def with_own(open_client: Open) -> Client:
    """A client whose gateway has a certificate of the client's own: that of its intermediate authority will do here."""
    plain = open_client()
    plain.ensure_secrets()
    chain = plain.secrets.get("caddy.authority").split("-----END EC PRIVATE KEY-----")[-1]
    chain = chain.split("-----END PRIVATE KEY-----")[-1]
    (plain.directory / "certificate.pem").write_text(chain)
    return open_client(services={"caddy": {"certificate": "own"}})


def test_what_nobody_asked_for_is_not_missed(client: Client) -> None:
    client.ensure_secrets()
    assert given.missing(client) == []
    assert not client.secrets.has(KEY)


def test_it_is_not_made_up(with_own: Client) -> None:
    assert KEY not in with_own.ensure_secrets()
    assert given.missing(with_own) == [KEY]
    with pytest.raises(given.MissingSecretError) as caught:
        given.require(with_own)
    assert caught.value.remedy == f"Run: freehold secrets set acme {KEY}"


def test_once_it_is_given(with_own: Client) -> None:
    with_own.secrets.set(KEY, "anything")
    given.require(with_own)
    with pytest.raises(BadInputError, match="comes from elsewhere") as caught:
        with_own.rotate_secret(KEY)
    assert "secrets set acme" in str(caught.value.remedy)


def test_the_clients_certificate_is_looked_at(with_own: Client) -> None:
    """That of an authority is for no host name at all."""
    assert list(own_certificate.findings(with_own)) == []
    with_own.secrets.set(KEY, with_own.secrets.get("caddy.authority"))
    (finding,) = own_certificate.findings(with_own)
    assert finding.status == "problem"
    assert "not for acme.internal" in finding.detail
    assert f"freehold secrets set acme {KEY} < key.pem" in finding.remedy
