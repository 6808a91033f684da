"""The gateway's configuration, rendered: what follows from its authority, its routes and their health."""

from __future__ import annotations

import re
from ipaddress import IPv4Network
from typing import Any

import pytest
import yaml

from freehold import resources
from freehold.authority import ROOT, Scope, of_gateway, renewals, root_certificate
from freehold.layout.network import PRIVATE
from freehold.render import render

SCOPE = Scope("acme", "acme.internal", IPv4Network("10.20.0.0/24"), PRIVATE)
CHAT = {
    "fqdn": "chat.acme.internal",
    "title": "Chat & more",
    "service": "openwebui",
    "address": "10.20.0.40",
    "port": 8080,
}
FLOWS = {
    "fqdn": "flows.acme.internal",
    "title": "Flows",
    "service": "n8n",
    "address": "10.20.0.45",
    "port": 5678,
}


def _made() -> dict[str, str]:
    return renewals({}, SCOPE, {"caddy.authority": of_gateway(SCOPE)})


def _rendered(template: str = "Caddyfile", **changes: Any) -> str:
    defaults = yaml.safe_load((resources.roles() / "caddy/defaults/main.yml").read_text(encoding="utf-8"))
    own = {"caddy_domain": "acme.internal", "caddy_client": "acme", "caddy_address": "10.20.0.10"}
    return render(f"caddy/{template}.j2", defaults | own | changes)


def _identifier(text: str) -> str:
    (found,) = set(re.findall(r"^\t+ca (\S+)", text, re.MULTILINE))
    return str(found)


def test_without_an_authority_caddy_makes_its_own() -> None:
    text = _rendered()
    assert _identifier(text) == "local"
    assert "/etc/caddy/authority" not in text


def test_certificates_of_another_authority_are_kept_apart() -> None:
    """Caddy would go on with those that it has until they end."""
    one, other = (_rendered(caddy_authority=_made()["caddy.authority"]) for _ in range(2))
    assert re.fullmatch(r"freehold-[a-z0-9-]+", _identifier(one))
    assert _identifier(one) != _identifier(other)


def test_the_root_is_offered_and_no_key_is_in_the_configuration() -> None:
    made = _made()
    text = _rendered(caddy_authority=made["caddy.authority"])
    assert "PRIVATE" not in text
    offered = (
        text[text.index("respond <<ROOT\n") :].split("\t\t\tROOT", 1)[0].removeprefix("respond <<ROOT\n")
    )
    assert re.sub(r"(?m)^\t+", "", offered) == root_certificate(made[ROOT])


def test_each_part_of_the_authority_lies_in_a_file_of_its_own() -> None:
    authority = _made()["caddy.authority"]
    parts = [
        _rendered(name, caddy_authority=authority) for name in ("gateway.key", "gateway.crt", "root.crt")
    ]
    assert ["".join(part.splitlines(keepends=True)[1:]) for part in parts] == [
        "-----BEGIN " + part for part in authority.split("-----BEGIN ")[1:]
    ]


def test_only_what_has_a_health_check_is_watched() -> None:
    text = _rendered(caddy_routes=[CHAT | {"health": "/health"}, FLOWS | {"health": None}])
    assert re.findall(r"handle (/state/\S+)", text) == ["/state/openwebui"]
    assert "health_upstream 10.20.0.40:8080" in text
    assert "n8n.sock" not in text


def test_two_names_of_one_service_are_watched_once() -> None:
    other = CHAT | {"fqdn": "ask.acme.internal", "health": "/health"}
    text = _rendered(caddy_routes=[CHAT | {"health": "/health"}, other])
    assert text.count("handle /state/openwebui") == 1
    assert text.count("reverse_proxy 10.20.0.40:8080") == 2


def test_metrics_and_the_list_by_address_are_there_when_asked_for() -> None:
    assert "metrics" not in _rendered()
    assert "http://:9180 {" in _rendered(caddy_metrics_port=9180)
    assert "\nacme.internal, 10.20.0.10 {" in _rendered()
    assert "\nacme.internal {" in _rendered(caddy_address="0.0.0.0")


def test_titles_are_text_in_the_list() -> None:
    page = _rendered("landing.html", caddy_routes=[CHAT | {"description": "<b>bold</b>"}])
    assert "Chat &amp; more" in page
    assert "<b>" not in page


@pytest.mark.parametrize("name", ["caddy_title", "caddy_notice"])
def test_a_text_with_caddys_own_brackets_is_no_command_of_it(name: str) -> None:
    """Caddy would run it, or answer everybody with an error where it is none."""
    page = _rendered("landing.html", **{name: 'Our [[internal]] AI [[env "HOME"]]'})
    assert "Our &#91;&#91;internal]] AI &#91;&#91;env" in page
    assert "[[internal" not in page


def _site(text: str, name: str) -> str:
    return text.split(f"\n{name} {{\n", 1)[1].split("\n}\n", 1)[0]


def test_what_is_for_administrators_looks_at_the_address_of_the_connection() -> None:
    text = _rendered(
        caddy_admins=["10.9.0.0/24", "10.8.0.1/32"],
        caddy_routes=[
            CHAT | {"admin_paths": ["/admin", "/admin/*"]},
            FLOWS | {"admin": True, "open": ["/form/*"]},
        ],
    )
    assert "not remote_ip 10.9.0.0/24 10.8.0.1/32" in text
    assert "client_ip" not in text
    assert "trusted_proxies" not in text
    assert "import administrators {\n\t\tpath /admin /admin/*\n\t}" in _site(text, "chat.acme.internal")
    assert "import administrators {\n\t\tnot path /form/*\n\t}" in _site(text, "flows.acme.internal")
    assert "administrators" not in _site(_rendered(caddy_routes=[CHAT]), "chat.acme.internal")


def test_without_networks_of_administrators_nobody_is_one() -> None:
    text = _rendered(caddy_routes=[FLOWS | {"admin": True}])
    assert "not remote_ip 0.0.0.0/32" in text
    assert "import administrators" in _site(text, "flows.acme.internal")


def test_the_list_says_what_is_for_administrators() -> None:
    page = _rendered("landing.html", caddy_routes=[FLOWS | {"admin": True}, CHAT])
    assert (
        page.index("chat.acme.internal")
        < page.index("For administrators")
        < page.index("flows.acme.internal")
    )
    assert "For administrators" not in _rendered("landing.html", caddy_routes=[CHAT])


def test_a_certificate_of_the_client_is_for_all_names_and_not_for_the_address() -> None:
    text = _rendered(caddy_certificate="own", caddy_routes=[CHAT])
    assert "import certificate" in _site(text, "acme.internal")
    assert "import certificate" in _site(text, "chat.acme.internal")
    assert "import internal" in _site(text, "10.20.0.10")
    assert text.count("protocols tls1.2 tls1.3") == 2
    assert "ca.crt" not in _rendered("landing.html", caddy_certificate="own")


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/api/chats?token=abc", "/api/chats"),
        ("/webhook/8f3c-secret/x?y=1", "/webhook/"),
        ("/WEBHOOK/8f3c", "/WEBHOOK/"),
        ("/s/0b1c", "/s/"),
        ("/api/v1/chats/share/0b1c", "/api/v1/chats/share/"),
        ("/settings/x", "/settings/x"),
        ("/?a=b", "/"),
    ],
)
def test_the_log_keeps_no_queries_and_no_secret_paths(path: str, kept: str) -> None:
    """Caddy's expressions are Go's; what is used of them here is the same in Python, but for the place of (?i)."""
    found = set(re.findall(r'request>uri regexp "\^\(\?i\)(.*)" \$1\n', _rendered()))
    (expression,) = found
    assert re.sub("(?i)^" + expression, lambda match: match[1] or "", path) == kept


ACME = {
    "caddy_certificate": "acme",
    "caddy_acme_dns": "rfc2136",
    "caddy_acme_credentials": "dns_rfc2136_server = 10.20.0.53\n",
    "caddy__lineage": "gateway-0",
}


def test_certbots_options() -> None:
    lines = _rendered("certbot.ini", **ACME).splitlines()
    assert "server = https://acme-v02.api.letsencrypt.org/directory" in lines
    assert "domains = acme.internal,*.acme.internal" in lines
    assert "authenticator = dns-rfc2136" in lines
    assert "register-unsafely-without-email = true" in lines
    assert not [line for line in lines if line.startswith(("eab", "email"))]
    more = {"caddy_acme_mail": "it@acme.example", "caddy_acme_eab_kid": "k", "caddy_acme_eab_hmac": "h"}
    lines = _rendered("certbot.ini", **ACME, **more).splitlines()
    assert {"email = it@acme.example", "eab-kid = k", "eab-hmac-key = h"} <= set(lines)
    assert "register-unsafely-without-email = true" not in lines


def test_credentials_for_google_are_plain_json() -> None:
    text = _rendered(
        "credentials.ini", **ACME | {"caddy_acme_dns": "google", "caddy_acme_credentials": '{"a": 1}'}
    )
    assert text.strip() == '{"a": 1}'


def test_certbots_unit_knows_proxy_and_authority_where_there_are_some() -> None:
    assert "Environment" not in _rendered("certbot.conf", **ACME)
    text = _rendered(
        "certbot.conf", **ACME, caddy_proxy="http://10.20.0.195:3128", caddy_acme_authority="-----BEGIN"
    )
    assert "Environment=HTTPS_PROXY=http://10.20.0.195:3128" in text
    assert "Environment=REQUESTS_CA_BUNDLE=/etc/caddy/acme-authority.pem" in text
