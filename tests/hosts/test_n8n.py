"""Proof of the workflows: who gets in, what they may do, code in a process of its own, and a request that is routed."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from testinfra.host import Host as Machine

from freehold import resources
from freehold.layout.types import Host, Layout, ServicePlacement


@dataclass
class Flows:
    """n8n as people meet it: through the gateway, by name, over TLS that the client's authority vouches for."""

    name: str
    gateway: str
    authority: Path
    cookie: str = ""

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, str]:
        """Status of an answer, its body (read as JSON where it is) and the cookies that it sets."""
        trust = ssl.create_default_context(cafile=str(self.authority))
        connection = http.client.HTTPSConnection(self.name, timeout=120, context=trust)
        plain = socket.create_connection((self.gateway, 443), timeout=120)
        connection.sock = trust.wrap_socket(plain, server_hostname=self.name)
        sent = {
            "browser-id": "freehold-proof",
            **({"Cookie": self.cookie} if self.cookie else {}),
            **(headers or {}),
        }
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        finally:
            connection.close()
        read = json.loads(text) if text[:1] in {"{", "["} else text
        return answer.status, read, answer.headers.get("Set-Cookie", "")

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """A call of the API that n8n's own pages use; status and ``data``."""
        data = None if body is None else json.dumps(body).encode()
        status, answer, _ = self.call(method, f"/rest/{path}", data, {"Content-Type": "application/json"})
        return status, answer.get("data", answer) if isinstance(answer, dict) else answer

    def sign_in(self, mail: str, password: str) -> tuple[int, Any, str]:
        """Log in as somebody; status, what n8n says of them, and the cookie as it was set."""
        body = json.dumps({"emailOrLdapLoginId": mail, "password": password}).encode()
        status, answer, cookie = self.call("POST", "/rest/login", body, {"Content-Type": "application/json"})
        self.cookie = cookie.partition(";")[0] if status == 200 else ""
        return status, answer, cookie

    def run(self, flow: dict[str, Any], trigger: str) -> dict[str, Any]:
        """Run a workflow as from the editor, to its end; the run with its data."""
        status, started = self.ask(
            "POST",
            f"workflows/{flow['id']}/run",
            {"workflowData": flow, "triggerToStartFrom": {"name": trigger}},
        )
        assert status == 200, started
        return self.ended(started["executionId"])

    def ended(self, execution: str) -> dict[str, Any]:
        """A run when it has ended."""
        deadline = time.monotonic() + 180
        while True:
            status, found = self.ask("GET", f"executions/{execution}")
            if status == 200 and found["status"] not in {"new", "running", "waiting"}:
                return dict(found)
            assert time.monotonic() < deadline, f"the run {execution} does not end: {found}"
            time.sleep(1)


@pytest.fixture
def stranger(layout: Layout) -> Flows:
    """Somebody without an account."""
    route = next(route for route in layout.routes if route.service == "n8n")
    return Flows(route.fqdn, str(layout.service("caddy").address), Path(layout.directory) / "ca.crt")


_logins: dict[str, tuple[int, Any, str]] = {}
"""What the owner's login answered: n8n takes five of an account in a minute."""


@pytest.fixture
def login(stranger: Flows, service: ServicePlacement, secret: Callable[[str], str]) -> tuple[int, Any, str]:
    """The owner's login: status, what n8n says of the owner, and the cookie."""
    if stranger.name not in _logins:
        _logins[stranger.name] = stranger.sign_in(
            service.variables["n8n_owner_mail"], secret("n8n.owner_password")
        )
    return _logins[stranger.name]


@pytest.fixture
def owner(stranger: Flows, login: tuple[int, Any, str]) -> Flows:
    """The owner of the instance."""
    status, answer, cookie = login
    assert status == 200, answer
    stranger.cookie = cookie.partition(";")[0]
    return stranger


@pytest.fixture
def settings(host: Machine) -> dict[str, str]:
    """The environment of the running process."""
    return _environment(host, "n8n.service")


def _environment(host: Machine, unit: str) -> dict[str, str]:
    process = host.check_output("systemctl show -P MainPID %s", unit)
    lines = host.check_output("cat /proc/%s/environ", process).split("\0")
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _units(service: ServicePlacement) -> list[str]:
    workers = range(1, service.variables.get("n8n_workers", 0) + 1)
    beside = [f"n8n-{kind}@{number}.service" for number in workers for kind in ("worker", "runner")]
    return ["n8n.service", *(beside or ["n8n-runner@0.service"])]


def _node(kind: str, name: str, place: int, **parameters: Any) -> dict[str, Any]:
    return {
        "id": f"{name}-0", "name": name, "type": kind, "typeVersion": 4.2 if "http" in kind else 2 if "code" in kind else 1,
        "position": [place * 200, 0], "parameters": parameters,
    }  # fmt: skip


@pytest.fixture
def trial(owner: Flows) -> Callable[..., dict[str, Any]]:
    """Runs one node in a workflow that is put away afterwards; the run, with the outcome of the node."""

    def run(node: dict[str, Any]) -> dict[str, Any]:
        start = _node("n8n-nodes-base.manualTrigger", "Start", 0)
        links = {"Start": {"main": [[{"node": node["name"], "type": "main", "index": 0}]]}}
        body = {
            "name": f"Freehold's proof {uuid.uuid4()}",
            "nodes": [start, node],
            "connections": links,
            "settings": {"executionOrder": "v1"},
        }
        status, flow = owner.ask("POST", "workflows", body)
        assert status == 200, flow
        try:
            return owner.run(flow, "Start")
        finally:
            owner.ask("POST", f"workflows/{flow['id']}/archive", {})
            owner.ask("DELETE", f"workflows/{flow['id']}")

    return run


def test_runs_as_its_own_users_and_never_had_to_be_restarted(
    host: Machine, service: ServicePlacement
) -> None:
    for unit in _units(service):
        user = "n8n-runner" if "runner" in unit else "n8n"
        assert host.service(unit).is_running, unit
        assert host.check_output("systemctl show -P User %s", unit) == user
    assert host.service("n8n.service").is_enabled
    assert host.check_output("systemctl show -P NRestarts n8n.service") == "0"


def test_is_ready_behind_the_gateway(stranger: Flows) -> None:
    assert stranger.call("GET", "/healthz")[:2] == (200, {"status": "ok"})
    assert stranger.call("GET", "/healthz/readiness")[:2] == (200, {"status": "ok"})
    assert "<title>" in stranger.call("GET", "/")[1]


def test_strangers_get_nothing(stranger: Flows) -> None:
    form = {
        "email": "eve@elsewhere.example",
        "firstName": "E",
        "lastName": "Ve",
        "password": "Not-a-real-1-password",
    }

    assert stranger.ask("GET", "settings")[1]["userManagement"]["showSetupOnFirstLoad"] is False
    assert stranger.ask("POST", "owner/setup", form)[0] in {400, 401, 403, 404}
    assert stranger.ask("GET", "workflows")[0] == 401
    assert stranger.sign_in(f"{uuid.uuid4()}@elsewhere.example", form["password"])[0] == 401
    assert stranger.call("GET", "/api/v1/workflows")[0] in {401, 404}


def test_the_owner_logs_in_and_the_cookie_travels_by_tls_alone(login: tuple[int, Any, str]) -> None:
    status, answer, cookie = login

    assert status == 200, answer
    assert answer["data"]["role"] == "global:owner"
    assert "Secure" in cookie
    assert "HttpOnly" in cookie


def test_people_of_the_stack_have_accounts(owner: Flows, layout: Layout) -> None:
    found = {user["email"]: user for user in owner.ask("GET", "users?take=-1&skip=0")[1]["items"]}

    for user in layout.users:
        assert found[user.mail.lower()]["isPending"] is False


def test_tells_nobody_and_fetches_nothing(settings: dict[str, str], owner: Flows) -> None:
    wanted = {
        "N8N_DIAGNOSTICS_ENABLED": "false",
        "N8N_VERSION_NOTIFICATIONS_ENABLED": "false",
        "N8N_TEMPLATES_ENABLED": "false",
        "N8N_PERSONALIZATION_ENABLED": "false",
        "N8N_DYNAMIC_BANNERS_ENABLED": "false",
        "N8N_AI_ENABLED": "false",
        "N8N_COMMUNITY_PACKAGES_ENABLED": "false",
    }
    shown = owner.ask("GET", "settings")[1]

    assert {name: settings.get(name) for name in wanted} == wanted
    assert shown["telemetry"]["enabled"] is False
    assert shown["versionNotifications"]["enabled"] is False
    assert shown["templates"]["enabled"] is False
    assert shown["publicApi"]["enabled"] is False


def test_dangerous_nodes_do_not_exist(owner: Flows, service: ServicePlacement) -> None:
    status, kinds, _ = owner.call("GET", "/types/nodes.json")
    names = {kind["name"] for kind in kinds}
    excluded = set(
        service.variables.get("n8n_excluded_nodes", ["n8n-nodes-base.executeCommand", "n8n-nodes-base.ssh"])
    )

    assert status == 200
    assert "n8n-nodes-base.httpRequest" in names
    assert not names & excluded


def test_code_runs_as_a_user_that_reads_no_secrets(
    trial: Callable[..., dict[str, Any]],
    host: Machine,
    secret: Callable[[str], str],
    service: ServicePlacement,
) -> None:
    found = trial(_node("n8n-nodes-base.code", "Code", 1, jsCode="return [{json: {n: 6 * 7}}];"))
    broken = trial(
        _node(
            "n8n-nodes-base.code",
            "Code",
            1,
            jsCode="return [{json: {n: require('fs').readFileSync('/etc/passwd')}}];",
        )
    )
    environment = _environment(host, _units(service)[-1])

    assert found["status"] == "success", found
    assert '"n"' in found["data"] or "42" in found["data"]
    assert broken["status"] == "error"
    assert not [name for name in service.secrets for value in environment.values() if secret(name) in value]
    assert host.run("su -s /bin/sh n8n-runner -c 'cat /etc/n8n/secrets.env /var/lib/n8n/.n8n/config'").rc != 0


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:5679/healthz", "http://169.254.169.254/latest/meta-data/"]
)
def test_workflows_reach_nothing_inside_that_they_are_not_given(
    address: str, trial: Callable[..., dict[str, Any]]
) -> None:
    found = trial(_node("n8n-nodes-base.httpRequest", "Ask", 1, url=address, options={"timeout": 5000}))

    assert found["status"] == "error", found
    assert "blocked" in json.dumps(found).lower(), found


def test_workflows_read_files_in_one_folder_alone(trial: Callable[..., dict[str, Any]]) -> None:
    found = trial(
        _node(
            "n8n-nodes-base.readWriteFile",
            "Read",
            1,
            operation="read",
            fileSelector="/etc/passwd",
            options={},
        )
    )

    assert found["status"] == "error", found


def test_starter_workflows_are_there_and_active(owner: Flows, service: ServicePlacement) -> None:
    router = service.variables["n8n_router"]
    wanted = {"freeholdDigest000", "freeholdIntake000"} if router.get("chat_model") else set()
    wanted |= (
        {"freeholdDocuments"} if router.get("embedding_model") and service.variables["n8n_qdrant"] else set()
    )
    listed = owner.ask("GET", "workflows")[1]
    found = {
        flow["id"]: flow for flow in (listed.get("data", listed) if isinstance(listed, dict) else listed)
    }

    if service.variables.get("n8n_starter_flows", True):
        assert wanted <= set(found)
        assert not [
            flow for flow in wanted if not (found[flow].get("activeVersionId") or found[flow].get("active"))
        ]


def test_credentials_of_the_services_are_there(owner: Flows, service: ServicePlacement) -> None:
    names = {"Records (Postgres)"}
    names |= {"Language models"} if service.variables["n8n_router"] else set()
    names |= {"Documents (Qdrant)"} if service.variables["n8n_qdrant"] else set()
    names |= {"Traces (Langfuse)"} if service.variables["n8n_langfuse"] else set()

    assert names <= {credential["name"] for credential in owner.ask("GET", "credentials")[1]}


def test_a_request_that_comes_in_by_the_form_is_routed(
    owner: Flows, service: ServicePlacement, trial: Callable[..., dict[str, Any]]
) -> None:
    if not service.variables["n8n_router"].get("chat_model"):
        assert owner.call("GET", "/form/intake")[0] == 404
        return
    if not _untouched(owner, "freeholdIntake000", "intake"):
        return  # people made it theirs, and it may write mail now
    mark = uuid.uuid4().hex
    status, page, _ = owner.call("GET", "/form/intake")
    assert status == 200
    assert "Your request" in page
    boundary = "freehold"
    fields = {
        "field-0": "Freehold's proof",
        "field-1": "proof@example.com",
        "field-2": f"Our last invoice is wrong. {mark}",
    }
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in fields.items()
    ]
    body = "".join([*parts, f"--{boundary}--\r\n"]).encode()
    form = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    assert owner.call("POST", "/form/intake", body, form)[0] == 200

    found = owner.ended(_latest(owner, "freeholdIntake000", mark))
    gone = trial(_forget_request(owner, mark))

    assert found["status"] == gone["status"] == "success", [found, gone]
    assert "File it" in _ran(found)
    assert f'"{mark}"' in gone["data"]


def _untouched(flows: Flows, flow: str, template: str) -> bool:
    """Whether a starter workflow is active and has the nodes that it came with."""
    now = flows.ask("GET", f"workflows/{flow}")[1]
    source = (resources.templates() / f"n8n/flows/{template}.json.j2").read_text(encoding="utf-8")
    active = bool(now.get("activeVersionId")) and not now.get("isArchived")
    return active and all(
        f'"name": "{node["name"]}", "type": "{node["type"]}"' in source for node in now["nodes"]
    )


def _forget_request(flows: Flows, mark: str) -> dict[str, Any]:
    """A node that takes the proof's request out of the records."""
    query = f"DELETE FROM intake WHERE request LIKE '%{mark}' RETURNING '{mark}' AS gone"
    node = _node("n8n-nodes-base.postgres", "Forget", 1, operation="executeQuery", query=query, options={})
    return node | {"typeVersion": 2.6, "credentials": {"postgres": _credential(flows, "Records (Postgres)")}}


def _credential(flows: Flows, name: str) -> dict[str, str]:
    known = {each["name"]: each["id"] for each in flows.ask("GET", "credentials")[1]}
    return {"id": known[name], "name": name}


def _latest(flows: Flows, flow: str, mark: str) -> str:
    """The run of a workflow whose data holds a text."""
    deadline = time.monotonic() + 60
    chosen = json.dumps({"workflowId": flow})
    while time.monotonic() < deadline:
        listed = flows.ask("GET", f"executions?filter={quote(chosen)}&limit=5")[1]
        for each in listed["results"]:
            if mark in json.dumps(flows.ask("GET", f"executions/{each['id']}")[1]):
                return str(each["id"])
        time.sleep(1)
    raise AssertionError(f"no run of {flow} holds {mark}")


def test_documents_of_the_folder_are_kept_in_qdrant_once(
    owner: Flows, service: ServicePlacement, host: Machine, trial: Callable[..., dict[str, Any]]
) -> None:
    if not (service.variables["n8n_router"].get("embedding_model") and service.variables["n8n_qdrant"]):
        assert owner.ask("GET", "workflows/freeholdDocuments")[0] == 404
        return
    if not _untouched(owner, "freeholdDocuments", "documents"):
        return  # people made it theirs
    file = f"/var/lib/n8n/documents/freehold-proof-{uuid.uuid4()}.txt"
    host.check_output("install -m 0644 /dev/stdin %s <<< 'The lease of the office ends in May.'", file)
    flow = owner.ask("GET", "workflows/freeholdDocuments")[1]
    try:
        first = owner.run(flow, "Each hour")
        again = owner.run(flow, "Each hour")
    finally:
        host.check_output("rm %s", file)
        gone = trial(_qdrant(owner, service, file, "delete?wait=true"))

    assert first["status"] == again["status"] == gone["status"] == "success", [first, again, gone]
    assert "Keep in Qdrant" in _ran(first)
    assert "Keep in Qdrant" not in _ran(again)


def _qdrant(flows: Flows, service: ServicePlacement, file: str, action: str) -> dict[str, Any]:
    """A node that asks Qdrant for something about the points of a document."""
    points = {"filter": {"must": [{"key": "metadata.file", "match": {"value": file}}]}}
    node = _node(
        "n8n-nodes-base.httpRequest",
        "Ask",
        1,
        method="POST",
        url=f"{service.variables['n8n_qdrant']['url']}/collections/documents/points/{action}",
        authentication="predefinedCredentialType",
        nodeCredentialType="qdrantApi",
        sendBody=True,
        specifyBody="json",
        jsonBody=json.dumps(points),
        options={},
    )
    return node | {"credentials": {"qdrantApi": _credential(flows, "Documents (Qdrant)")}}


def _ran(execution: dict[str, Any]) -> str:
    """Which nodes ran, as far as the data of a run tells."""
    # Flatted JSON: a list whose entries name each other by position (https://github.com/WebReflection/flatted).
    data = json.loads(execution["data"])
    runs = data[int(data[int(data[0]["resultData"])]["runData"])]
    return " ".join(runs)


def test_counts_for_prometheus(host: Machine, service: ServicePlacement) -> None:
    text = host.check_output(
        "python3 -c %s",
        f"import urllib.request as u; print(u.urlopen('http://{service.address}:5678/metrics').read().decode())",
    )

    for name in (
        "n8n_version_info",
        "n8n_nodejs_eventloop_lag_p99_seconds",
        "n8n_process_start_time_seconds",
        "n8n_workflow_execution_duration_seconds",
        "n8n_ssrf_blocked_checks_total",
    ):
        assert name in text


def test_sessions_and_webhooks_belong_to_its_own_site(settings: dict[str, str], stranger: Flows) -> None:
    assert settings["N8N_EDITOR_BASE_URL"] == f"https://{stranger.name}"
    assert settings["N8N_WEBHOOK_URL"] == f"https://{stranger.name}/"
    assert settings["N8N_PROXY_HOPS"] == "1"
    assert settings["N8N_SECURE_COOKIE"] == "true"


def test_data_lies_in_postgres(settings: dict[str, str], layout: Layout, host: Machine) -> None:
    assert settings["DB_TYPE"] == "postgresdb"
    assert settings["DB_POSTGRESDB_HOST"] == str(layout.service("postgres").address)
    assert not host.file("/var/lib/n8n/.n8n/database.sqlite").exists


def test_secrets_lie_where_root_alone_reads_them(
    host: Machine, service: ServicePlacement, secret: Callable[[str], str]
) -> None:
    values = [secret(name) for name in service.secrets]
    file = host.file("/etc/n8n/secrets.env")
    shown = [host.file("/etc/n8n/settings.env").content_string, host.check_output("ps -eo args")]
    shown += [host.check_output("journalctl --no-pager -u n8n.service -u 'n8n-runner@*' -u 'n8n-worker@*'")]

    assert (file.user, file.group, file.mode) == ("root", "root", 0o400)
    assert values
    assert not [text for text in shown for value in values if value in text]


def test_only_the_gateway_and_prometheus_reach_it(
    this_host: Host,
    layout: Layout,
    service: ServicePlacement,
    reaching: Callable[[IPv4Address, int], set[str]],
) -> None:
    allowed = {host.name for host in layout.hosts if {"caddy", "prometheus"} & set(host.services)}

    assert reaching(service.address, service.ports["http"]) - {this_host.name} == allowed
    assert reaching(service.address, 5679) == set()


def test_the_units_are_hardened(host: Machine, service: ServicePlacement) -> None:
    for unit in _units(service):
        result = host.run("systemd-analyze security --no-pager --threshold=25 %s", unit)
        assert result.rc == 0, result.stdout
