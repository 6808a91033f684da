"""Proof of Grafana: who gets in, where its figures come from, and that every picture has a question that can be answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any
from urllib.parse import urlencode

import pytest
from testinfra.host import Host as Machine

from freehold.layout.types import Host, Layout

# Runs on the host itself, where root can read the passwords: so they are in no command line.
_ASK = """
import base64, http.client, json, sys
ask = json.loads(sys.argv[1])
lines = (line.strip() for line in open("/etc/grafana/secrets.env"))
kept = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
headers = {"Content-Type": "application/json"}
if ask["user"]:
    password = kept[ask["key"]] if ask["password"] is None else ask["password"]
    headers["Authorization"] = "Basic " + base64.b64encode((ask["user"] + ":" + password).encode()).decode()
body = ask["body"]
if body and body.get("password") == "":
    body["password"] = kept[ask["key"]]
connection = http.client.HTTPConnection(ask["address"], 3000, timeout=30)
connection.request("POST" if body else "GET", ask["path"], json.dumps(body) if body else None, headers)
answer = connection.getresponse()
print(json.dumps({"status": answer.status, "headers": {name.lower(): text for name, text in answer.getheaders()},
                  "body": answer.read().decode("utf-8", "replace")}))
"""

_DASHBOARDS = {
    "freehold-overview",
    "freehold-models",
    "freehold-gpus",
    "freehold-hosts",
    "freehold-certificates",
}


@dataclass
class Grafana:
    """Asks Grafana."""

    machine: Machine
    address: str

    def ask(
        self,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        user: str = "admin",
        key: str = "GF_SECURITY_ADMIN_PASSWORD",
        password: str | None = None,
    ) -> dict[str, Any]:
        """Status, headers and body of an answer; the right password is shown unless another is given."""
        question = {"address": self.address, "path": path, "body": body, "user": user, "key": key}
        answer: dict[str, Any] = json.loads(
            self.machine.check_output(
                "python3 -c %s %s", _ASK, json.dumps({**question, "password": password})
            )
        )
        return answer

    def data(self, path: str) -> Any:
        """What a question to the API gives."""
        answer = self.ask(path)
        assert answer["status"] == 200, answer
        return json.loads(answer["body"])


@pytest.fixture
def grafana(host: Machine, this_host: Host) -> Grafana:
    return Grafana(host, str(this_host.address))


def test_runs_as_its_own_user(host: Machine) -> None:
    unit = host.service("grafana.service")

    assert unit.is_running
    assert unit.is_enabled
    assert host.check_output("systemctl show -P User grafana.service") == "grafana"


def test_it_works(grafana: Grafana) -> None:
    health = json.loads(grafana.ask("/api/health", user="")["body"])

    assert health["database"] == "ok"
    assert health["version"]


def test_strangers_are_led_to_the_login_and_see_nothing(grafana: Grafana) -> None:
    assert grafana.ask("/", user="")["headers"]["location"].endswith("/login")
    for path in ("/api/search", "/api/datasources", "/api/dashboards/uid/freehold-overview"):
        assert grafana.ask(path, user="")["status"] == 401, path
        assert grafana.ask(path, password="wrong")["status"] == 401, path
    assert grafana.ask("/metrics", user="")["status"] == 401
    assert grafana.ask("/metrics", user="freehold", key="GF_METRICS_BASIC_AUTH_PASSWORD")["status"] == 200


def test_the_administrator_logs_in_with_the_password_of_the_stack(grafana: Grafana) -> None:
    wrong = grafana.ask("/login", {"user": "admin", "password": "wrong"}, user="")
    right = grafana.ask("/login", {"user": "admin", "password": ""}, user="")

    assert wrong["status"] == 401
    assert right["status"] == 200
    cookie = right["headers"]["set-cookie"]
    assert "HttpOnly" in cookie
    assert "Secure" in cookie


def test_every_data_source_answers(grafana: Grafana, layout: Layout) -> None:
    sources = {source["uid"]: source for source in grafana.data("/api/datasources")}

    assert sources["prometheus"]["url"] == f"http://{layout.host('prometheus').address}:9090"
    assert sources["alertmanager"]["url"] == f"http://{layout.host('alertmanager').address}:9093"
    assert "basicAuthPassword" not in json.dumps(
        [source.get("secureJsonData") for source in sources.values()]
    )
    assert grafana.data("/api/datasources/uid/prometheus/health")["status"] == "OK"
    alerts = grafana.data("/api/datasources/proxy/uid/alertmanager/api/v2/alerts")
    assert isinstance(alerts, list)


def test_every_dashboard_is_there_and_nobody_changes_it(grafana: Grafana) -> None:
    found = {each["uid"] for each in grafana.data("/api/search?type=dash-db")}

    assert found >= _DASHBOARDS
    for uid in sorted(_DASHBOARDS):
        assert grafana.data(f"/api/dashboards/uid/{uid}")["meta"]["provisioned"] is True


def test_prometheus_understands_the_question_behind_every_picture(grafana: Grafana) -> None:
    questions = [
        target["expr"]
        for uid in sorted(_DASHBOARDS)
        for panel in grafana.data(f"/api/dashboards/uid/{uid}")["dashboard"]["panels"]
        for target in panel.get("targets", [])
    ]

    assert len(questions) > 30
    for question in questions:
        query = urlencode({"query": question})
        answer = grafana.ask(f"/api/datasources/proxy/uid/prometheus/api/v1/query?{query}")
        assert json.loads(answer["body"])["status"] == "success", (question, answer)


def test_hosts_have_figures_in_the_pictures(grafana: Grafana, layout: Layout) -> None:
    query = urlencode({"query": "count by (host) (node_memory_MemAvailable_bytes)"})
    answer = grafana.data(f"/api/datasources/proxy/uid/prometheus/api/v1/query?{query}")

    assert {each["metric"]["host"] for each in answer["data"]["result"]} >= {
        host.name for host in layout.hosts
    }


def test_it_tells_nobody_and_fetches_nothing(host: Machine) -> None:
    text = host.file("/etc/grafana/grafana.ini").content_string

    for line in (
        "reporting_enabled = false",
        "check_for_updates = false",
        "check_for_plugin_updates = false",
        "preinstall_disabled = true",
        "plugin_admin_enabled = false",
        "disable_gravatar = true",
        "news_feed_enabled = false",
        "external_enabled = false",
    ):
        assert line in text.splitlines(), line


def test_only_the_gateway_and_the_monitoring_get_through(
    this_host: Host, reaching: Callable[[IPv4Address, int], set[str]]
) -> None:
    assert reaching(this_host.address, 3000) == {"caddy", "prometheus", this_host.name}


def test_secrets_are_for_root_alone(host: Machine, secret: Callable[[str], str]) -> None:
    kept = host.file("/etc/grafana/secrets.env")

    assert (kept.user, kept.mode) == ("root", 0o400)
    assert secret("grafana.admin_password") in kept.content_string
    for path in ("grafana.ini", "provisioning/datasources/freehold.yml"):
        text = host.file(f"/etc/grafana/{path}").content_string
        for name in ("grafana.admin_password", "prometheus.password", "alertmanager.password"):
            assert secret(name) not in text


def test_the_unit_is_hardened(host: Machine) -> None:
    result = host.run("systemd-analyze security --no-pager --threshold=20 grafana.service")

    assert result.rc == 0, result.stdout
