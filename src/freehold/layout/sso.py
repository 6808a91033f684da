"""The client's identity provider: what each application is told of it, and which names the containers must reach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from freehold.layout import variables
from freehold.schema.problems import Problem
from freehold.schema.stack import Sso, SsoEndpoints, Stack

SECRET = "oidc_client_secret"  # noqa: S105 - the name of a secret
"""Name of the secret that each application shares with the provider."""

NAMES = {
    "entra": "Microsoft",
    "google": "Google",
    "keycloak": "Keycloak",
    "authentik": "Authentik",
    "oidc": "Single sign-on",
}
"""What a button says where the client does not."""

GOOGLE = "https://accounts.google.com"
_GOOGLE = SsoEndpoints(
    authorization="https://accounts.google.com/o/oauth2/v2/auth",
    token="https://oauth2.googleapis.com/token",  # noqa: S106 - an address
    userinfo="https://openidconnect.googleapis.com/v1/userinfo",
    keys="https://www.googleapis.com/oauth2/v3/certs",
)
"""https://accounts.google.com/.well-known/openid-configuration"""

_PATHS = {
    # https://www.keycloak.org/securing-apps/oidc-layers: below the realm, which is the issuer
    "keycloak": ("/protocol/openid-connect", "auth", "token", "userinfo", "certs"),
    # https://docs.goauthentik.io/add-secure-apps/providers/oauth2/: beside the application, which is the issuer
    "authentik": ("", "authorize/", "token/", "userinfo/", "jwks/"),
}


def issuer(sso: Sso, service: str) -> str:
    """The issuer for a service."""
    own: Mapping[str, str] = {str(name): address for name, address in sso.issuers.items()}
    return own.get(service) or sso.issuer or GOOGLE


def endpoints(sso: Sso, service: str) -> SsoEndpoints | None:
    """Addresses of the provider for a service; none where it has to be asked for them."""
    if sso.endpoints or sso.provider == "oidc":
        return sso.endpoints
    if sso.provider == "google":
        return _GOOGLE
    base = issuer(sso, service).rstrip("/")
    if sso.provider == "entra":
        # https://learn.microsoft.com/en-us/entra/identity-platform/v2-protocols-oidc
        tenant = base.removesuffix("/v2.0")
        return SsoEndpoints(
            authorization=f"{tenant}/oauth2/v2.0/authorize",
            token=f"{tenant}/oauth2/v2.0/token",
            userinfo="https://graph.microsoft.com/oidc/userinfo",
            keys=f"{tenant}/discovery/v2.0/keys",
        )
    below, authorization, token, userinfo, keys = _PATHS[sso.provider]
    if sso.provider == "authentik":
        keys, base = f"{base}/{keys}", base.rpartition("/")[0]
    else:
        keys = f"{base}{below}/{keys}"
    return SsoEndpoints(
        authorization=f"{base}{below}/{authorization}",
        token=f"{base}{below}/{token}",
        userinfo=f"{base}{below}/{userinfo}",
        keys=keys,
    )


def hosts(sso: Sso | None) -> tuple[str, ...]:
    """Names of the provider that the applications' containers must reach, sorted."""
    if sso is None:
        return ()
    addresses: set[str] = set()
    for service in sso.client_ids:
        found = endpoints(sso, service)
        addresses |= {
            issuer(sso, service),
            *(found.model_dump().values() if found else ()),
        }
    return tuple(sorted({urlsplit(address).hostname or "" for address in addresses}))


def of_service(sso: Sso | None, service: str) -> dict[str, Any]:
    """What the name ``sso`` of expressions holds for a service: empty where it takes no part."""
    ids: Mapping[str, str] = (
        {str(name): client_id for name, client_id in sso.client_ids.items()} if sso else {}
    )
    if sso is None or service not in ids:
        return {}
    found = endpoints(sso, service)
    return {
        "provider": sso.provider,
        "name": sso.name or NAMES[sso.provider],
        "issuer": issuer(sso, service),
        "discovery": issuer(sso, service).rstrip("/") + "/.well-known/openid-configuration",
        "client_id": ids[service],
        "client_secret": variables.lookup(f"{service}.{SECRET}"),
        "endpoints": found.model_dump() if found else {},
        "domains": list(sso.domains),
        "groups_claim": sso.groups_claim or "",
        "admins": list(sso.admins),
        "merge": sso.merge,
    }


def check(stack: Stack, present: Iterable[str]) -> Iterable[Problem]:
    """What is wrong with the client's identity provider."""
    there = set(present)
    for service in stack.sso.client_ids if stack.sso else ():
        if service not in there:
            yield Problem(
                ("sso", "client_ids", service),
                "the stack has no such service",
                allowed=", ".join(sorted(there)),
            )
