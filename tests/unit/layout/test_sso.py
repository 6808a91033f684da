"""Single sign-on is written once, and wired to each application that can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from freehold.layout import sso
from freehold.layout.compute import LayoutError, compute
from freehold.layout.types import Layout
from freehold.schema.stack import Sso, Stack

ENTRA = {
    "provider": "entra",
    "issuer": "https://login.microsoftonline.com/0000-1111/v2.0",
    "client_ids": {"openwebui": "chat-id", "langfuse": "traces-id", "grafana": "monitoring-id"},
}


def laid_out(**changes: Any) -> Layout:
    stack = {
        "client": "acme",
        "domain": "acme.internal",
        "proxmox": {"endpoint": "https://pve:8006"},
        "network": {"subnet": "10.20.0.0/24"},
        "services": dict.fromkeys(("openwebui", "langfuse", "grafana"))
        | {"vllm": {"device": "cpu", "model": "/models/tiny"}},
    }
    return compute(Stack.model_validate(stack | changes), Path("/inventory/acme"))


def test_without_a_provider_nothing_is_asked_for() -> None:
    layout = laid_out()
    secrets = {name for service in layout.services for name in service.secrets}
    assert not [name for name in secrets if name.endswith(sso.SECRET)]
    assert layout.service("openwebui").variables["openwebui_oidc_provider_url"] == ""
    assert layout.service("openwebui").variables["openwebui_oidc_name"] == "Single sign-on"


def test_each_application_is_told_of_it_in_its_own_words() -> None:
    layout = laid_out(
        sso={**ENTRA, "domains": ["acme.de"], "groups_claim": "groups", "admins": ["it", "ops"]}
    )
    chat, traces, monitoring = (
        layout.service(name).variables for name in ("openwebui", "langfuse", "grafana")
    )
    assert chat["openwebui_oidc_provider_url"] == f"{ENTRA['issuer']}/.well-known/openid-configuration"
    assert chat["openwebui_oidc_client_id"] == "chat-id"
    assert chat["openwebui_oidc_domains"] == ["acme.de"]
    assert chat["openwebui_oidc_groups_claim"] == "groups"
    assert chat["openwebui_oidc_merge_accounts"] is False
    assert traces["langfuse_oidc_issuer"] == ENTRA["issuer"]
    assert monitoring["grafana_oidc_token_url"] == (
        "https://login.microsoftonline.com/0000-1111/oauth2/v2.0/token"
    )
    assert monitoring["grafana_oidc_role"] == (
        "(contains(groups[*], 'it') || contains(groups[*], 'ops')) && 'Admin'"
    )
    for name in ("openwebui", "langfuse", "grafana"):
        assert f"{name}.oidc_client_secret" in layout.service(name).secrets


def test_what_the_client_says_of_one_service_counts() -> None:
    services = {"openwebui": {"oidc_name": "Acme"}, "langfuse": None, "grafana": None}
    layout = laid_out(sso=ENTRA, services=services)
    assert layout.service("openwebui").variables["openwebui_oidc_name"] == "Acme"


def test_a_service_that_the_stack_does_not_have() -> None:
    with pytest.raises(LayoutError, match=r"sso\.client_ids\.langfuse: the stack has no such service"):
        laid_out(sso=ENTRA, services={"openwebui": None, "grafana": None})


@pytest.mark.parametrize(
    ("provider", "issuer", "token", "hosts"),
    [
        (
            "keycloak",
            "https://login.acme.de/realms/acme",
            "https://login.acme.de/realms/acme/protocol/openid-connect/token",
            ("login.acme.de",),
        ),
        (
            "authentik",
            "https://login.acme.de/application/o/freehold/",
            "https://login.acme.de/application/o/token/",
            ("login.acme.de",),
        ),
        (
            "google",
            None,
            "https://oauth2.googleapis.com/token",
            (
                "accounts.google.com",
                "oauth2.googleapis.com",
                "openidconnect.googleapis.com",
                "www.googleapis.com",
            ),
        ),
    ],
)
def test_addresses_of_providers(
    provider: str, issuer: str | None, token: str, hosts: tuple[str, ...]
) -> None:
    given = {"provider": provider, "client_ids": {"grafana": "x"}, "domains": ["acme.de"]}
    one = Sso.model_validate(given | ({"issuer": issuer} if issuer else {}))
    found = sso.endpoints(one, "grafana")
    assert found
    assert found.token == token
    assert sso.hosts(one) == hosts


def test_an_issuer_of_its_own() -> None:
    issuers = {"grafana": "https://login.acme.de/application/o/monitoring/"}
    one = Sso.model_validate(
        {
            "provider": "authentik",
            "issuer": "https://login.acme.de/application/o/chat/",
            "client_ids": {"openwebui": "a", "grafana": "b"},
            "issuers": issuers,
        }
    )
    assert sso.of_service(one, "grafana")["issuer"] == issuers["grafana"]
    assert sso.of_service(one, "openwebui")["issuer"].endswith("/chat/")
    assert sso.of_service(one, "langfuse") == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"provider": "google", "issuer": None}, "anybody with an account of Google"),
        ({"issuer": "https://login.microsoftonline.com/common/v2.0"}, "people of every company"),
        ({"provider": "keycloak", "issuer": None}, "give the issuer"),
        ({"provider": "oidc"}, "give the endpoints"),
        ({"admins": ["it"]}, "groups_claim"),
        ({"client_ids": {"n8n": "x"}}, "n8n"),
        ({"issuer": "http://login.acme.de"}, "issuer"),
        ({"groups_claim": "groups[0]"}, "groups_claim"),
        ({"groups_claim": "groups", "admins": ["it') || ('"]}, "admins"),
    ],
)
def test_what_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Sso.model_validate(ENTRA | changes)
