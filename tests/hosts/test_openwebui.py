"""Proof of the chat: who gets in, where its data lies, and an answer that came all the way from the engine."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host as Machine

from freehold.layout.types import Host, Layout, ServicePlacement

_LAB_ANSWER = "Hello from the tiny stand-in model of this lab."


@dataclass
class Chat:
    """Open WebUI as people meet it: through the gateway, by name, over TLS that the client's authority vouches for."""

    name: str
    gateway: str
    authority: Path
    token: str = ""

    def ask(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Status and body of an answer, read as JSON where it is."""
        trust = ssl.create_default_context(cafile=str(self.authority))
        connection = http.client.HTTPSConnection(self.name, timeout=120, context=trust)
        plain = socket.create_connection((self.gateway, 443), timeout=120)
        connection.sock = trust.wrap_socket(plain, server_hostname=self.name)
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        data = json.dumps(body) if body is not None else None
        try:
            connection.request("POST" if data else "GET", path, data, headers)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        finally:
            connection.close()
        return answer.status, json.loads(text) if text[:1] in {"{", "["} else text

    def sign_in(self, mail: str, password: str) -> dict[str, Any]:
        """Log in as somebody; what Open WebUI says of them."""
        status, answer = self.ask("/api/v1/auths/signin", {"email": mail, "password": password})
        assert status == 200, answer
        self.token = answer["token"]
        return dict(answer)


@pytest.fixture
def stranger(layout: Layout) -> Chat:
    """Somebody without an account."""
    route = next(route for route in layout.routes if route.service == "openwebui")
    gateway = layout.service("caddy").address
    return Chat(route.fqdn, str(gateway), Path(layout.directory) / "ca.crt")


@pytest.fixture
def administrator(stranger: Chat, service: ServicePlacement, secret: Callable[[str], str]) -> Chat:
    """The first administrator."""
    stranger.sign_in(service.variables["openwebui_admin_mail"], secret("openwebui.admin_password"))
    return stranger


@pytest.fixture
def settings(host: Machine) -> dict[str, str]:
    """The environment of the running process."""
    process = host.check_output("systemctl show -P MainPID openwebui.service")
    lines = host.check_output("cat /proc/%s/environ", process).split("\0")
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_runs_as_its_own_user_and_never_had_to_be_restarted(host: Machine) -> None:
    unit = host.service("openwebui.service")

    assert unit.is_running
    assert unit.is_enabled
    assert host.check_output("systemctl show -P User openwebui.service") == "openwebui"
    assert host.check_output("systemctl show -P NRestarts openwebui.service") == "0"


def test_is_ready_behind_the_gateway(stranger: Chat) -> None:
    assert stranger.ask("/ready") == (200, {"status": True})
    assert stranger.ask("/health/db") == (200, {"status": True})


def test_strangers_get_nothing(stranger: Chat) -> None:
    form = {"name": "Eve", "email": "eve@elsewhere.example", "password": "not-a-real-password"}

    assert stranger.ask("/api/v1/auths/signup", form)[0] == 403
    assert stranger.ask("/api/config")[1]["features"]["enable_signup"] is False
    assert stranger.ask("/api/models")[0] == 401
    assert stranger.ask("/api/v1/auths/signin", {"email": form["email"], "password": "wrong"})[0] == 400


def test_the_administrator_logs_in_and_sees_the_language_models_of_every_engine(
    administrator: Chat, service: ServicePlacement, layout: Layout
) -> None:
    status, answer = administrator.ask("/api/models")
    names = {model["id"] for model in answer["data"]}

    assert status == 200
    engines = {engine["name"] for engine in service.variables["openwebui_engines"]}
    # `--only` leaves engines out, which may not exist yet
    for engine in (placed for placed in layout.services if placed.name in engines):
        wanted = engine.variables.get(f"{engine.name}_served_name")
        assert wanted is None or wanted in names


def test_people_and_groups_of_the_stack_are_there(administrator: Chat, layout: Layout) -> None:
    found: dict[str, Any] = {}
    page = 1
    while True:
        answer = administrator.ask(f"/api/v1/users/?page={page}")[1]
        found |= {user["email"]: user for user in answer["users"]}
        if len(found) >= answer["total"] or not answer["users"]:
            break
        page += 1
    groups = {group["name"]: group["id"] for group in administrator.ask("/api/v1/groups/")[1]}

    assert {group.name for group in layout.groups} <= set(groups)
    for user in layout.users:
        account = found[user.mail.lower()]
        assert account["role"] == ("admin" if user.admin else "user")
        assert {groups[name] for name in user.groups} <= set(account["group_ids"])


def test_answers_come_through_the_gateway(administrator: Chat, service: ServicePlacement) -> None:
    names = [model["id"] for model in administrator.ask("/api/models")[1]["data"]]

    assert bool(names) == bool(service.variables["openwebui_engines"])
    for name in names:
        question = [{"role": "user", "content": "Who are you?"}]
        body = {"model": name, "messages": question, "stream": False}
        status, answer = administrator.ask("/api/chat/completions", body)
        assert status == 200, answer
        text = answer["choices"][0]["message"]["content"]
        assert text.strip(), name
        if name == "tiny":
            assert text.startswith(_LAB_ANSWER)


def test_data_and_vectors_lie_in_postgres(settings: dict[str, str], host: Machine, layout: Layout) -> None:
    address = layout.service("postgres").address
    tables = (
        "import os, psycopg; c = psycopg.connect(os.environ['DATABASE_URL']);"
        "print(*[row[0] for row in c.execute(\"SELECT tablename FROM pg_tables WHERE schemaname = 'public'\")])"
    )
    found = host.check_output("set -a; . /etc/openwebui/secrets.env; /opt/openwebui/bin/python -c %s", tables)

    assert settings["DATABASE_URL"].partition("@")[2] == f"{address}:5432/openwebui"
    assert settings["VECTOR_DB"] == "pgvector"
    assert {"user", "chat", "document_chunk"} <= set(found.split())
    assert not host.file("/var/lib/openwebui/webui.db").exists


def test_tells_nobody_and_fetches_nothing(settings: dict[str, str]) -> None:
    wanted = {
        "OFFLINE_MODE": "true",
        "HF_HUB_OFFLINE": "1",
        "ANONYMIZED_TELEMETRY": "false",
        "DO_NOT_TRACK": "true",
        "SCARF_NO_ANALYTICS": "true",
        "ENABLE_VERSION_UPDATE_CHECK": "false",
        "ENABLE_COMMUNITY_SHARING": "false",
        "RAG_EMBEDDING_MODEL_TRUST_REMOTE_CODE": "false",
        "RAG_RERANKING_MODEL_TRUST_REMOTE_CODE": "false",
    }

    assert {name: settings.get(name) for name in wanted} == wanted


def test_sessions_belong_to_its_own_site(settings: dict[str, str], stranger: Chat) -> None:
    assert settings["CORS_ALLOW_ORIGIN"] == settings["WEBUI_URL"] == f"https://{stranger.name}"
    assert settings["WEBUI_SESSION_COOKIE_SECURE"] == settings["WEBUI_AUTH_COOKIE_SECURE"] == "true"
    assert settings["FORWARDED_ALLOW_IPS"] == stranger.gateway
    assert settings["ENABLE_PERSISTENT_CONFIG"] == "false"


def test_administrators_read_no_chats_unless_the_stack_says_so(
    settings: dict[str, str], service: ServicePlacement
) -> None:
    wanted = str(service.variables.get("openwebui_admin_chat_access", False)).lower()

    assert settings["ENABLE_ADMIN_CHAT_ACCESS"] == settings["ENABLE_ADMIN_EXPORT"] == wanted


def test_secrets_lie_where_root_alone_reads_them(
    host: Machine, service: ServicePlacement, secret: Callable[[str], str]
) -> None:
    values = [secret(name) for name in service.secrets]
    file = host.file("/etc/openwebui/secrets.env")
    shown = [
        host.file(path).content_string for path in ("/etc/openwebui/settings.env", "/etc/openwebui/ready.py")
    ]
    shown += [
        host.check_output("ps -eo args"),
        host.check_output("journalctl --no-pager -u openwebui.service"),
    ]

    assert (file.user, file.group, file.mode) == ("root", "root", 0o400)
    assert values
    assert not [text for text in shown for value in values if value in text]


def test_only_the_gateway_reaches_it(
    this_host: Host,
    layout: Layout,
    service: ServicePlacement,
    reaching: Callable[[IPv4Address, int], set[str]],
) -> None:
    gateways = {host.name for host in layout.hosts if "caddy" in host.services}
    assert reaching(service.address, service.ports["http"]) - {this_host.name} == gateways


def test_the_unit_is_hardened(host: Machine) -> None:
    result = host.run("systemd-analyze security --no-pager --threshold=20 openwebui.service")

    assert result.rc == 0, result.stdout
