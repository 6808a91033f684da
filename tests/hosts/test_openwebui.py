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
from freehold.routing import markers

# Nothing but this document has the answer.
_DOCUMENT = (
    "The key to the archive of the firm of Example and Sons hangs behind the green door on the third floor."
)

_LAB_ANSWER = "Hello from the tiny stand-in model of this lab."


@dataclass
class Chat:
    """Open WebUI as people meet it: through the gateway, by name, over TLS that the client's authority vouches for."""

    name: str
    gateway: str
    authority: Path
    token: str = ""

    def ask(
        self,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        upload: tuple[str, str] | None = None,
        method: str = "",
    ) -> tuple[int, Any]:
        """Status and body of an answer, read as JSON where it is; ``upload`` is a file's name and text."""
        trust = ssl.create_default_context(cafile=str(self.authority))
        connection = http.client.HTTPSConnection(self.name, timeout=120, context=trust)
        plain = socket.create_connection((self.gateway, 443), timeout=120)
        connection.sock = trust.wrap_socket(plain, server_hostname=self.name)
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        data = json.dumps(body) if body is not None else None
        if upload:
            headers["Content-Type"] = "multipart/form-data; boundary=freehold"
            data = (
                f'--freehold\r\nContent-Disposition: form-data; name="file"; filename="{upload[0]}"\r\n'
                f"Content-Type: text/plain\r\n\r\n{upload[1]}\r\n--freehold--\r\n"
            )
        try:
            connection.request(method or ("POST" if data else "GET"), path, data, headers)
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


@pytest.fixture
def kinds(layout: Layout) -> dict[str, str]:
    """Kinds of the language models that the router lists, by name; none where ``--only`` left the router out."""
    routers = [placed for placed in layout.services if placed.name == "litellm"]
    engines = [engine for router in routers for engine in router.variables["litellm_engines"]]
    return {model["name"]: model.get("kind", "chat") for engine in engines for model in engine["models"]}


@pytest.fixture
def answering(layout: Layout) -> set[str]:
    """Those of them whose engine is there: ``--only`` leaves engines out, which may not exist yet."""
    present = {placed.name for placed in layout.services}
    routers = [placed for placed in layout.services if placed.name == "litellm"]
    engines = [engine for router in routers for engine in router.variables["litellm_engines"]]
    return {model["name"] for engine in engines if engine["name"] in present for model in engine["models"]}


def test_the_administrator_logs_in_and_sees_the_language_models_that_chat(
    administrator: Chat, kinds: dict[str, str]
) -> None:
    status, answer = administrator.ask("/api/models")
    names = {model["id"] for model in answer["data"]}

    assert status == 200
    assert {name for name, kind in kinds.items() if kind == "chat"} <= names
    assert not {name for name, kind in kinds.items() if kind != "chat"} & names


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


def test_answers_come_through_gateway_and_router(
    administrator: Chat, kinds: dict[str, str], answering: set[str]
) -> None:
    for name in sorted(name for name in answering if kinds[name] == "chat"):
        question = [{"role": "user", "content": "Who are you?"}]
        body = {"model": name, "messages": question, "stream": False}
        status, answer = administrator.ask("/api/chat/completions", body)
        assert status == 200, answer
        message = answer["choices"][0]["message"]
        text = message.get("content") or message.get("reasoning_content") or ""
        assert text.strip(), name
        if name == "tiny":
            assert text.startswith(_LAB_ANSWER)


def test_the_router_alone_is_asked(
    settings: dict[str, str], service: ServicePlacement, layout: Layout
) -> None:
    addresses = [str(placed.address) for placed in layout.services if placed.name == "litellm"]
    wanted = service.variables["openwebui_router_url"]

    assert settings["OPENAI_API_BASE_URLS"] == settings["RAG_OPENAI_API_BASE_URL"] == wanted
    assert wanted in {f"http://{address}:4000/v1" for address in addresses} or not addresses
    assert settings["ENABLE_OLLAMA_API"] == settings["ENABLE_DIRECT_CONNECTIONS"] == "false"


def test_titles_and_tags_are_written_by_a_language_model_of_the_house(
    settings: dict[str, str], kinds: dict[str, str]
) -> None:
    # Behind the router every language model counts as external.
    assert settings["TASK_MODEL_EXTERNAL"] in {name for name, kind in kinds.items() if kind == "chat"} | {""}
    assert settings["TASK_MODEL_EXTERNAL"] or "chat" not in kinds.values()
    assert settings["CONTEXT_COMPACTION_MODEL"] == settings["TASK_MODEL_EXTERNAL"]
    assert settings["ENABLE_SUBAGENTS"] == settings["ENABLE_OPENAI_API_PASSTHROUGH"] == "false"


def test_people_see_the_language_models_of_their_groups(
    administrator: Chat, service: ServicePlacement, settings: dict[str, str]
) -> None:
    wanted = service.variables.get("openwebui_models", [])
    if not wanted or service.variables.get("openwebui_model_access", "all") != "all":
        assert settings["BYPASS_MODEL_ACCESS_CONTROL"] == str(not wanted).lower()
        return
    groups = {group["id"]: group["name"] for group in administrator.ask("/api/v1/groups/")[1]}
    entries = {entry["id"]: entry for entry in administrator.ask("/api/v1/models/base")[1]}

    assert settings["BYPASS_MODEL_ACCESS_CONTROL"] == "false"
    for model in wanted:
        grants = entries[model["name"]]["access_grants"]
        seen = {groups.get(grant["principal_id"], grant["principal_id"]) for grant in grants}
        assert seen == ({"*"} if model["groups"] is None else set(model["groups"])), model["name"]
        assert {grant["permission"] for grant in grants} <= {"read"}


def test_the_router_can_tell_what_was_found_from_what_a_person_wrote(
    settings: dict[str, str], host: Machine
) -> None:
    # Also those marks that this version of Open WebUI has of its own.
    folder = host.check_output("echo /opt/openwebui/lib/python3.*/site-packages/open_webui/utils")
    source = host.check_output("cat %s/middleware.py %s/memory.py %s/chat_id.py", folder, folder, folder)

    assert settings["RAG_TEMPLATE"].startswith(f"{markers.CONTEXT_MARK}\n")
    assert "{{CONTEXT}}" in settings["RAG_TEMPLATE"]
    assert [mark for mark in markers.MARKS if mark != markers.CONTEXT_MARK and mark not in source] == []
    assert [prefix for prefix in markers.NO_CHAT if f"'{prefix}'" not in source] == []


def test_the_router_learns_who_asks_and_in_which_chat(
    settings: dict[str, str], secret: Callable[[str], str]
) -> None:
    assert settings["ENABLE_FORWARD_USER_INFO_HEADERS"] == "true"
    assert settings["FORWARD_SESSION_INFO_HEADER_CHAT_ID"] == "X-LiteLLM-Session-Id"
    assert settings["FORWARD_USER_INFO_HEADER_JWT_SECRET"] == secret("openwebui.user_key")


def test_a_document_is_found_by_what_it_says(
    administrator: Chat, service: ServicePlacement, settings: dict[str, str], answering: set[str]
) -> None:
    model = service.variables["openwebui_embedding_model"]
    if model not in answering:
        # Nothing embeds: documents go into the question whole.
        assert model or settings["BYPASS_EMBEDDING_AND_RETRIEVAL"] == "true"
        return
    status, file = administrator.ask(
        "/api/v1/files/?process=true&process_in_background=false", upload=("proof-of-freehold.txt", _DOCUMENT)
    )
    assert status == 200, file
    try:
        body = {"collection_name": f"file-{file['id']}", "query": "Where is the key to the archive?", "k": 1}
        status, found = administrator.ask("/api/v1/retrieval/query/doc", body)
        assert status == 200, found
        assert found["documents"] == [[_DOCUMENT]]
    finally:
        removed = administrator.ask(f"/api/v1/files/{file['id']}", method="DELETE")
    assert removed[0] == 200


def test_data_lies_in_postgres_and_vectors_where_the_stack_says(
    settings: dict[str, str], host: Machine, layout: Layout, service: ServicePlacement
) -> None:
    address = layout.service("postgres").address
    tables = (
        "import os, psycopg; c = psycopg.connect(os.environ['DATABASE_URL']);"
        "print(*[row[0] for row in c.execute(\"SELECT tablename FROM pg_tables WHERE schemaname = 'public'\")])"
    )
    found = host.check_output("set -a; . /etc/openwebui/secrets.env; /opt/openwebui/bin/python -c %s", tables)

    assert settings["DATABASE_URL"].partition("@")[2] == f"{address}:5432/openwebui"
    assert settings["VECTOR_DB"] == service.variables["openwebui_vector_store"]
    assert {"user", "chat"} <= set(found.split())
    # A stack that went to Qdrant later keeps the table of before.
    assert "document_chunk" in found.split() or settings["VECTOR_DB"] == "qdrant"
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


def test_people_run_no_programs_and_fetch_no_pages_unless_the_stack_says_so(
    settings: dict[str, str], service: ServicePlacement
) -> None:
    names = {
        "ENABLE_CODE_EXECUTION": "code_execution",
        "ENABLE_CODE_INTERPRETER": "code_execution",
        "ENABLE_PLUGINS": "plugins",
        "ENABLE_MEMORIES": "memories",
        "ENABLE_AUTOMATIONS": "automations",
        "USER_PERMISSIONS_CHAT_WEB_UPLOAD": "web_upload",
    }
    wanted = {
        name: str(service.variables.get(f"openwebui_{option}", False)).lower()
        for name, option in names.items()
    }

    assert {name: settings[name] for name in names} == wanted


def test_people_are_told_that_a_machine_answers(stranger: Chat, administrator: Chat) -> None:
    banners = administrator.ask("/api/v1/configs/banners")[1]

    assert [banner["content"] for banner in banners if banner["id"] == "freehold-notice"]


def test_logins_are_noted_without_what_people_write(
    administrator: Chat, host: Machine, service: ServicePlacement, secret: Callable[[str], str]
) -> None:
    level = service.variables.get("openwebui_audit_level", "metadata")
    log = host.file("/var/log/openwebui/audit.log")
    folder = host.file("/var/log/openwebui")

    assert (folder.user, folder.mode) == ("openwebui", 0o750)
    if level == "none":
        return
    lines = [json.loads(line) for line in log.content_string.splitlines()]
    assert [line for line in lines if "/auths/signin" in line["request_uri"]]
    assert secret("openwebui.admin_password") not in log.content_string
    if level == "metadata":
        assert not [line for line in lines if line["request_object"] or line["response_object"]]


def test_administrators_read_no_chats_unless_the_stack_says_so(
    settings: dict[str, str], service: ServicePlacement
) -> None:
    wanted = str(service.variables.get("openwebui_admin_chat_access", False)).lower()

    assert settings["ENABLE_ADMIN_CHAT_ACCESS"] == settings["ENABLE_ADMIN_EXPORT"] == wanted
    assert settings["ENABLE_ADMIN_ANALYTICS"] == wanted


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
