"""Proof of Langfuse: who gets in, that a trace arrives and can be erased, and that old ones go."""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from testinfra.host import Host as Machine

from freehold.layout.types import Host, Layout, ServicePlacement

# A query for ClickHouse as Langfuse's own user, from Langfuse's host; the password is read where it lies.
_CLICKHOUSE = """
import json, sys, urllib.parse, urllib.request
lines = open("/etc/langfuse/settings.env").read().splitlines() + open("/etc/langfuse/secrets.env").read().splitlines()
given = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
asked = urllib.parse.urlencode({"database": given["CLICKHOUSE_DB"], "default_format": "JSONEachRow"})
found = []
for query in json.load(sys.stdin):
    request = urllib.request.Request(given["CLICKHOUSE_URL"] + "/?" + asked, query.encode(), method="POST")
    request.add_header("X-ClickHouse-User", given["CLICKHOUSE_USER"])
    request.add_header("X-ClickHouse-Key", given["CLICKHOUSE_PASSWORD"])
    found = [json.loads(line) for line in urllib.request.urlopen(request, timeout=120).read().splitlines()]
print(json.dumps(found))
"""

UNITS = ("langfuse-web.service", "langfuse-worker.service")


@dataclass
class Site:
    """Langfuse as people and applications meet it: through the gateway, by name, over TLS of the client's authority."""

    name: str
    gateway: str
    authority: Path
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        key: tuple[str, str] | None = None,
        kind: str = "application/json",
    ) -> tuple[int, Any]:
        """Status and body of an answer, read as JSON where it is."""
        trust = ssl.create_default_context(cafile=str(self.authority))
        connection = http.client.HTTPSConnection(self.name, timeout=60, context=trust)
        plain = socket.create_connection((self.gateway, 443), timeout=60)
        connection.sock = trust.wrap_socket(plain, server_hostname=self.name)
        headers = {"Content-Type": kind, "x-langfuse-ingestion-version": "4"}
        if key:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(key).encode()).decode()
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        data = body if isinstance(body, str | None) else json.dumps(body)
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        finally:
            connection.close()
        for line in answer.headers.get_all("Set-Cookie") or []:
            self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
        return answer.status, json.loads(text) if text[:1] in {"{", "["} else text

    def sign_in(self, mail: str, password: str) -> dict[str, Any]:
        """Log in as somebody (NextAuth's credentials); what Langfuse says of who is signed in."""
        token = self.ask("GET", "/api/auth/csrf")[1]["csrfToken"]
        form = {"csrfToken": token, "email": mail, "password": password, "json": "true"}
        kind = "application/x-www-form-urlencoded"
        self.ask("POST", "/api/auth/callback/credentials", urlencode(form), kind=kind)
        session = self.ask("GET", "/api/auth/session")[1]
        return dict(session.get("user") or {}) if isinstance(session, dict) else {}


@pytest.fixture
def site(layout: Layout) -> Site:
    route = next(route for route in layout.routes if route.service == "langfuse")
    return Site(route.fqdn, str(layout.service("caddy").address), Path(layout.directory) / "ca.crt")


@pytest.fixture
def key(secret: Callable[[str], str]) -> tuple[str, str]:
    return secret("langfuse.public_key"), secret("langfuse.secret_key")


@pytest.fixture
def settings(host: Machine) -> dict[str, str]:
    """The environment of the running web part."""
    process = host.check_output("systemctl show -P MainPID langfuse-web.service")
    lines = host.check_output("tr '\\0' '\\n' < /proc/%s/environ", process).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _clickhouse(host: Machine, *queries: str) -> list[dict[str, Any]]:
    text = host.check_output("printf '%%s' %s | python3 -c %s", json.dumps(queries), _CLICKHOUSE)
    found: list[dict[str, Any]] = json.loads(text)
    return found


def _trace(user: str) -> tuple[str, dict[str, Any]]:
    """A trace of one observation, as OTLP writes it in JSON."""
    trace, now = secrets.token_hex(16), time.time_ns()
    told = {
        "user.id": user,
        "session.id": "freehold-proof",
        "langfuse.trace.name": "freehold-proof",
        "langfuse.observation.type": "generation",
        "langfuse.observation.input": "Who are you?",
        "langfuse.observation.output": "A proof.",
    }
    span = {
        "traceId": trace,
        "spanId": secrets.token_hex(8),
        "name": "freehold-proof",
        "kind": 1,
        "startTimeUnixNano": str(now),
        "endTimeUnixNano": str(now + 1_000_000),
        "attributes": [{"key": name, "value": {"stringValue": value}} for name, value in told.items()],
    }
    scope = {"scope": {"name": "freehold"}, "spans": [span]}
    return trace, {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [scope]}]}


def _until(question: Callable[[], bool], seconds: int = 120) -> bool:
    deadline = time.monotonic() + seconds
    while not question():
        if time.monotonic() > deadline:
            return False
        time.sleep(1)
    return True


@pytest.mark.parametrize("unit", UNITS)
def test_runs_as_its_own_user_in_the_image(host: Machine, unit: str) -> None:
    process = host.check_output("systemctl show -P MainPID %s", unit)

    assert host.service(unit).is_running
    assert host.service(unit).is_enabled
    assert host.check_output("ps -o user= -p %s", process) == "langfuse"
    assert host.check_output("systemctl show -P NRestarts %s", unit) == "0"
    part = unit.removeprefix("langfuse-").removesuffix(".service")
    there, here = host.check_output(
        "stat -c %%i /proc/%s/root/app /opt/langfuse/%s/rootfs/app", process, part
    ).split()
    assert there == here
    # nothing of the image can be changed by what runs in it
    touch = "nsenter -t %s -m -S $(id -u langfuse) -G $(id -g langfuse) -r -w touch /app/freehold-proof"
    assert host.run(touch, process).rc != 0


def test_only_declared_ports_listen(
    open_to_others: set[str], this_host: Host, service: ServicePlacement
) -> None:
    assert open_to_others == {f"{this_host.address}:{port}" for port in service.ports.values()}


def test_is_ready_behind_the_gateway(site: Site, host: Machine) -> None:
    status, answer = site.ask("GET", "/api/public/ready")

    assert status == 200, answer
    assert site.ask("GET", "/api/public/health")[0] == 200
    worker = (
        "import urllib.request as r; print(r.urlopen('http://127.0.0.1:3030/api/health', timeout=10).status)"
    )
    assert host.check_output("python3 -c %s", worker) == "200"


def test_strangers_get_nothing(site: Site, key: tuple[str, str], service: ServicePlacement) -> None:
    form = {"name": "Eve", "email": "eve@elsewhere.example", "password": "Not-a-real-1"}

    assert site.ask("GET", "/api/public/projects")[0] == 401
    assert site.ask("GET", "/api/public/projects", key=(key[0], "sk-lf-wrong"))[0] == 401
    assert site.ask("POST", "/api/public/otel/v1/traces", {"resourceSpans": []})[0] == 401
    assert site.ask("POST", "/api/auth/signup", form)[0] == 422
    assert site.sign_in(service.variables["langfuse_admin_mail"], "wrong") == {}


def test_the_key_opens_the_project_that_was_made(
    site: Site, key: tuple[str, str], service: ServicePlacement
) -> None:
    status, answer = site.ask("GET", "/api/public/projects", key=key)

    assert status == 200, answer
    assert [project["id"] for project in answer["data"]] == ["freehold"]
    assert answer["data"][0]["organization"]["name"] == service.variables["langfuse_organization"]


def test_the_administrator_and_people_of_the_stack_log_in(
    site: Site, service: ServicePlacement, secret: Callable[[str], str], layout: Layout
) -> None:
    mail = service.variables["langfuse_admin_mail"]
    found = site.sign_in(mail, secret("langfuse.admin_password"))

    assert found["email"] == mail.lower()
    assert [each["role"] for each in found["organizations"]] == ["OWNER"]
    for user in layout.users:
        person = Site(site.name, site.gateway, site.authority)
        found = person.sign_in(user.mail, secret(f"users.{user.mail}"))
        assert found.get("email") == user.mail.lower()
        wanted = "ADMIN" if user.admin else service.variables.get("langfuse_member_role", "NONE")
        assert {each["role"] for each in found["organizations"]} <= {wanted}


def test_accounts_are_those_of_the_stack(host: Machine, layout: Layout, service: ServicePlacement) -> None:
    made = json.loads(host.file("/etc/freehold/langfuse.json").content_string)
    text = host.check_output(
        "PGPASSFILE=/etc/langfuse/pgpass psql -XAtq -w -h %s -U langfuse -d langfuse -c %s",
        str(layout.service("postgres").address),
        "SELECT lower(u.email) || ' ' || m.role FROM users u JOIN organization_memberships m ON m.user_id = u.id",
    )
    roles = dict(line.rsplit(" ", 1) for line in text.splitlines())

    for user in layout.users:
        wanted = "ADMIN" if user.admin else service.variables.get("langfuse_member_role", "NONE")
        assert roles[user.mail.lower()] == wanted
    assert set(made["users"].values()) == {user.mail.lower() for user in layout.users}


def test_a_trace_arrives_and_can_be_erased(site: Site, key: tuple[str, str]) -> None:
    user = f"freehold-proof-{secrets.token_hex(4)}"
    trace, document = _trace(user)
    path = f"/api/public/v2/observations?userId={user}&limit=10&fields=core,basic,io"

    def listed() -> list[Any]:
        status, answer = site.ask("GET", path, key=key)
        assert status == 200, answer
        return list(answer["data"])

    assert site.ask("POST", "/api/public/otel/v1/traces", document, key=key)[0] == 200
    assert _until(lambda: bool(listed()))
    assert [entry["traceId"] for entry in listed()] == [trace]
    assert listed()[0]["output"] == "A proof."
    assert site.ask("DELETE", "/api/public/traces", {"traceIds": [trace]}, key=key)[0] == 200
    assert _until(lambda: not listed())


def test_the_old_way_in_is_closed(site: Site, key: tuple[str, str]) -> None:
    event = {"id": "1", "type": "trace-create", "timestamp": "2026-01-01T00:00:00Z", "body": {"id": "1"}}

    assert site.ask("POST", "/api/public/ingestion", {"batch": [event]}, key=key)[0] in {207, 400}
    assert not site.ask("GET", "/api/public/v2/observations?traceId=1", key=key)[1]["data"]


def test_traces_that_are_too_old_are_removed(host: Machine, service: ServicePlacement) -> None:
    days = int(service.variables.get("langfuse_retention_days", 365))
    rules = {
        row["name"]: row["definition"]
        for row in _clickhouse(
            host,
            "SELECT name, create_table_query AS definition FROM system.tables"
            " WHERE database = currentDatabase() AND name IN ('events_full', 'events_core', 'scores')",
        )
    }
    assert set(rules) == {"events_full", "events_core", "scores"}
    if not days:
        assert not [name for name, definition in rules.items() if "\nTTL " in definition]
        return
    for name, definition in rules.items():
        column = "timestamp" if name == "scores" else "start_time"
        assert f"TTL toDateTime({column}) + toIntervalDay({days})" in definition
    rows = [
        {
            "project_id": "freehold-proof",
            "trace_id": name,
            "span_id": name,
            "start_time": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() - age * 86400)),
            "event_ts": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
            "is_deleted": 0,
        }
        for name, age in (("old", days + 40), ("new", 0))
    ]
    _clickhouse(host, "INSERT INTO events_full FORMAT JSONEachRow " + "\n".join(map(json.dumps, rows)))
    # A merge that runs by itself meanwhile makes ClickHouse skip the one that is asked for.
    for _ in range(15):
        found = _clickhouse(
            host,
            "OPTIMIZE TABLE events_full FINAL",
            "OPTIMIZE TABLE events_core FINAL",
            "SELECT trace_id FROM events_full WHERE project_id = 'freehold-proof'"
            " UNION ALL SELECT trace_id FROM events_core WHERE project_id = 'freehold-proof'",
        )
        if len(found) == 2:
            break
        time.sleep(2)
    _clickhouse(
        host,
        "ALTER TABLE events_full DELETE WHERE project_id = 'freehold-proof'",
        "ALTER TABLE events_core DELETE WHERE project_id = 'freehold-proof'",
    )
    assert [row["trace_id"] for row in found] == ["new", "new"]


def test_tells_nobody(settings: dict[str, str]) -> None:
    wanted = {
        "TELEMETRY_ENABLED": "false",
        "NEXT_TELEMETRY_DISABLED": "1",
        "AUTH_DISABLE_SIGNUP": "true",
        "LANGFUSE_MIGRATION_V4_WRITE_MODE": "events_only",
        "CLICKHOUSE_CLUSTER_ENABLED": "false",
    }

    assert {name: settings.get(name) for name in wanted} == wanted


def test_secrets_lie_where_root_alone_reads_them(
    host: Machine, service: ServicePlacement, secret: Callable[[str], str]
) -> None:
    values = [secret(name) for name in service.secrets if not name.endswith(("_access_key", "public_key"))]
    shown = [host.file("/etc/langfuse/settings.env").content_string]
    shown += [
        host.check_output("cat /etc/systemd/system/langfuse-*.service"),
        host.check_output("ps -eo args"),
    ]
    shown += [host.check_output("journalctl --no-pager -u langfuse-web.service -u langfuse-worker.service")]

    for name in ("secrets.env", "init.env", "pgpass"):
        file = host.file(f"/etc/langfuse/{name}")
        assert (file.user, file.group, file.mode) == ("root", "root", 0o400)
    assert not [text for text in shown for value in values if value in text]


def test_the_gateway_and_what_sends_traces_reach_it(
    this_host: Host,
    layout: Layout,
    service: ServicePlacement,
    reaching: Callable[[IPv4Address, int], set[str]],
) -> None:
    hosts = {placed.name: placed.host for placed in layout.services}
    senders = {hosts[name] for name in ("caddy", "litellm", "n8n") if name in hosts}

    assert reaching(service.address, service.ports["http"]) - {this_host.name} == senders


@pytest.mark.parametrize("unit", UNITS)
def test_the_units_are_hardened(host: Machine, unit: str) -> None:
    result = host.run("systemd-analyze security --no-pager --threshold=20 %s", unit)

    assert result.rc == 0, result.stdout
