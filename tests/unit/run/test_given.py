"""What the client hands in: authorities of providers (secrets: tests/unit/run/test_route.py)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from freehold.errors import BadInputError
from freehold.run import given
from freehold.run.context import Client

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n"


def test_authorities_of_providers_come_of_a_file(open_client: Callable[..., Client]) -> None:
    services = {"litellm": {"engines": [], "applications": [], "authorities_file": "provider.pem"}}
    client = open_client(services=services)
    with pytest.raises(BadInputError, match="authorities_file") as refused:
        given.require(client)
    assert str(client.directory / "provider.pem") in str(refused.value.where)

    (client.directory / "provider.pem").write_text(f"of the house\n{CERTIFICATE}", encoding="utf-8")
    client = Client.open(client.directory)
    given.require(client)
    assert client.layout.service("litellm").variables["litellm_authorities"] == CERTIFICATE
