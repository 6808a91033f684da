"""A client's secrets in the end: made, issued by its own authority, and made anew one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from freehold.authority import ROOT, root_certificate
from freehold.errors import BadInputError
from freehold.run.context import Client
from freehold.secrets import UnknownSecretError

USER = {"name": "Ada", "mail": "ada@acme.internal", "language": "en"}


def test_the_root_certificate_lies_in_the_clients_folder_before_anything_is_touched(client: Client) -> None:
    made = client.ensure_secrets()

    assert {ROOT, "caddy.authority"} <= set(made)
    assert client.authority() == root_certificate(client.secrets.get(ROOT))
    assert client.authority_file.stat().st_mode & 0o777 == 0o644
    assert client.ensure_secrets() == []


def test_the_certificate_of_a_gateways_former_authority_is_replaced(client: Client) -> None:
    client.authority_file.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    client.ensure_secrets()
    assert client.authority() == root_certificate(client.secrets.get(ROOT))


def test_a_new_authority_is_written_at_once(client: Client) -> None:
    client.ensure_secrets()
    before = client.authority(), client.secrets.get("caddy.authority")
    client.rotate_secret("caddy.authority")
    assert client.authority() == before[0]
    assert client.secrets.get("caddy.authority") != before[1]
    client.rotate_secret(ROOT)
    assert client.authority() != before[0]


def test_a_domain_that_changed_gets_an_authority_of_its_own(open_client: Callable[..., Client]) -> None:
    open_client().ensure_secrets()
    made = set(open_client(domain="acme.example").ensure_secrets())
    assert made == {ROOT, "caddy.authority", "postgres.tls"}


def test_a_users_first_password_can_be_made_anew(open_client: Callable[..., Any]) -> None:
    client = open_client(users=[USER])
    client.ensure_secrets()
    before = client.secrets.get("users.ada@acme.internal")
    client.rotate_secret("users.ada@acme.internal")
    assert client.secrets.get("users.ada@acme.internal") != before


def test_what_nobody_has_is_not_rotated(client: Client) -> None:
    with pytest.raises(UnknownSecretError):
        client.rotate_secret("caddy.authority")
    client.ensure_secrets()
    for name in ("nobody.nothing", "freehold.ssh_key"):
        with pytest.raises(BadInputError):
            client.rotate_secret(name)
