"""Who reaches what at the gateway, and whose certificate it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from freehold.catalog import services as catalog
from freehold.layout.compute import LayoutError, compute
from freehold.layout.types import Layout
from freehold.schema.stack import Stack

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n"


def laid_out(directory: Path = Path("/inventory/acme"), **changes: Any) -> Layout:
    stack = {
        "client": "acme",
        "domain": "acme.internal",
        "proxmox": {"endpoint": "https://pve:8006"},
        "network": {"subnet": "10.20.0.0/24"},
        "services": dict.fromkeys(("openwebui", "langfuse", "grafana", "n8n"))
        | {"vllm": {"device": "cpu", "model": "/models/tiny"}},
    }
    return compute(Stack.model_validate(stack | changes), directory)


def _admin(layout: Layout) -> dict[str, bool]:
    return {route.service: route.admin for route in layout.routes}


def test_engines_and_the_router_have_no_address_at_the_gateway() -> None:
    for name, meta in catalog.load().items():
        if meta.engine or name in {"litellm", "postgres", "valkey", "clickhouse", "seaweedfs", "qdrant"}:
            assert meta.routes == (), name
    engines = {str(host.address) for host in laid_out().hosts if host.name in {"vllm", "litellm"}}
    assert not engines & {str(route.address) for route in laid_out().routes}
    assert len(engines) == 2


def test_traces_and_monitoring_are_for_administrators() -> None:
    assert _admin(laid_out()) == {"openwebui": False, "n8n": False, "langfuse": True, "grafana": True}


def _matches(path: str, pattern: str) -> bool:
    """As Caddy's matcher ``path``: a ``*`` at the end alone stands for anything, any other for one part of the path."""
    if pattern.endswith("*") and pattern.count("*") == 1:
        return path.startswith(pattern[:-1])
    return re.fullmatch(re.escape(pattern).replace(r"\*", "[^/]*"), path) is not None


@pytest.mark.parametrize(
    ("path", "closed"),
    [
        ("/api/v1/functions/id/filter/update", True),
        ("/api/v1/functions/id/filter/toggle/global", True),
        ("/api/v1/functions/id/filter/valves/update", True),
        ("/api/v1/functions/id/filter/valves/user", False),
        ("/api/v1/functions/id/filter/valves/user/update", False),
        ("/api/v1/functions/", False),
        ("/api/v1/audio/config/update", True),
        ("/api/v1/audio/speech", False),
        ("/api/v1/images/config/update", True),
        ("/api/v1/images/generations", False),
        ("/api/v1/retrieval/embedding/update", True),
        ("/api/v1/retrieval/process/file", False),
        ("/api/v1/knowledge/external/connections", True),
        ("/api/v1/knowledge/", False),
        ("/api/v1/tasks/config/update", True),
        ("/api/v1/tasks/config", False),
        ("/api/v1/tools/load/url", True),
        ("/api/v1/tools/", False),
        ("/openai/config/update", True),
        ("/openai/chat/completions", False),
        ("/api/v1/configs/banners", False),
    ],
)
def test_what_changes_the_chat_for_all_is_for_administrators(path: str, closed: bool) -> None:
    """Paths of Open WebUI 0.12.4 (``backend/open_webui/routers``): closed is what asks for the role of an administrator."""
    (chat,) = (route for route in laid_out().routes if route.service == "openwebui")

    assert any(_matches(path, pattern) for pattern in chat.admin_paths) is closed


def test_the_client_says_otherwise() -> None:
    network = {"subnet": "10.20.0.0/24", "audience": {"n8n": "admins", "langfuse": "users"}}
    layout = laid_out(network=network)
    assert _admin(layout) == {"openwebui": False, "n8n": True, "langfuse": False, "grafana": True}
    flows = next(route for route in layout.routes if route.service == "n8n")
    assert "/form/*" in flows.open


def test_an_audience_of_what_is_not_routed() -> None:
    network = {"subnet": "10.20.0.0/24", "audience": {"vllm": "admins"}}
    with pytest.raises(LayoutError, match="no service of this name has an address at the gateway"):
        laid_out(network=network)


def test_administrators_reach_the_gateway_wherever_they_are() -> None:
    network = {"subnet": "10.20.0.0/24", "users": ["10.30.0.0/16"], "admins": ["192.168.9.0/24"]}
    layout = laid_out(network=network)
    (rule,) = (rule for rule in layout.host("caddy").rules if rule.port == 443)
    assert {str(source) for source in rule.sources} >= {"10.30.0.0/16", "192.168.9.0/24"}
    assert layout.service("caddy").variables["caddy_admins"] == ["192.168.9.0/24"]


def _own(file: str = "gateway.pem") -> dict[str, Any]:
    return {"caddy": {"certificate": "own", "certificate_file": file}}


def test_the_clients_own_certificate(tmp_path: Path) -> None:
    (tmp_path / "gateway.pem").write_text(f"text of the authority {{{{ x }}}}\n{CERTIFICATE}\n{CERTIFICATE}")
    gateway = laid_out(tmp_path, services=_own()).service("caddy")
    assert gateway.variables["caddy_certificate_chain"] == CERTIFICATE * 2
    assert "caddy.certificate_key" in gateway.secrets


def test_no_certificate_is_asked_for_otherwise() -> None:
    gateway = laid_out().service("caddy")
    assert gateway.variables["caddy_certificate"] == "internal"
    assert gateway.variables["caddy_certificate_chain"] == ""
    assert "caddy.certificate_key" not in gateway.secrets


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such file"),
        ("nothing", "no certificate in PEM"),
        (CERTIFICATE + "-----BEGIN PRIVATE KEY-----\n", "belongs among the secrets"),
    ],
)
def test_a_file_that_is_no_certificate(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "gateway.pem").write_text(content)
    with pytest.raises(LayoutError, match=said):
        laid_out(tmp_path, services=_own())


def _acme(**changes: Any) -> dict[str, Any]:
    own = {"certificate": "acme", "acme_dns": "rfc2136", "acme_dns_server": "10.20.0.53"}
    return {"caddy": own | changes}


def test_a_certificate_by_acme(tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_text(CERTIFICATE)
    gateway = laid_out(tmp_path, services=_acme(acme_authority_file="root.pem")).service("caddy")
    assert gateway.variables["caddy_acme_authority"] == CERTIFICATE
    assert "caddy.acme_credentials" in gateway.secrets
    assert "caddy.acme_eab_hmac" not in gateway.secrets
    assert "caddy.certificate_key" not in gateway.secrets
    with_account = laid_out(tmp_path, services=_acme(acme_eab_kid="k")).service("caddy")
    assert "caddy.acme_eab_hmac" in with_account.secrets


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"acme_dns": ""}, "acme_dns: is missing"), ({"acme_authority_file": "x.pem"}, "there is no such file")],
)
def test_what_acme_cannot_do_without(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(LayoutError, match=said):
        laid_out(services=_acme(**changes))
