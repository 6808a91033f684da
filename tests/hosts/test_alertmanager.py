"""Proof of the Alertmanager: it takes alerts, knows whom to tell, and nobody else speaks to it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Any

import pytest
from testinfra.host import Host as Machine

from freehold.layout.types import Host, Layout, ServicePlacement

# Runs on the host of a client of the Alertmanager, where root can read the password: so it is in no command line.
_ASK = """
import base64, json, re, sys, urllib.error, urllib.request
ask = json.loads(sys.argv[1])
own = ""
if ask["password"] is None:
    text = open("/etc/prometheus/prometheus.yml").read()
    own = re.search(r'alertmanagers:.*?password: "([^"]+)"', text, re.S).group(1)
body = json.dumps(ask["body"]).encode() if ask["body"] else None
request = urllib.request.Request(ask["url"], data=body, headers={"Content-Type": "application/json"})
if ask["user"]:
    pair = ask["user"] + ":" + (own or ask["password"])
    request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
try:
    with urllib.request.urlopen(request, timeout=20) as answer:
        print(json.dumps({"status": answer.status, "body": answer.read().decode()}))
except urllib.error.HTTPError as error:
    print(json.dumps({"status": error.code, "body": error.read().decode("utf-8", "replace")}))
"""


@dataclass
class Alertmanager:
    """Asks the Alertmanager."""

    machine: Machine
    address: str

    def ask(
        self, path: str, body: object = None, *, user: str = "freehold", password: str | None = None
    ) -> dict[str, Any]:
        """Status and body of an answer; the right password is shown unless another is given."""
        question = {"url": f"http://{self.address}:9093{path}", "body": body, "user": user}
        answer: dict[str, Any] = json.loads(
            self.machine.check_output(
                "python3 -c %s %s", _ASK, json.dumps({**question, "password": password})
            )
        )
        return answer


@pytest.fixture
def alone(host: Machine, this_host: Host) -> Alertmanager:
    """The Alertmanager, asked from its own host, which knows no password."""
    return Alertmanager(host, str(this_host.address))


@pytest.fixture
def alertmanager(this_host: Host, layout: Layout, machine: Callable[[str], Machine]) -> Alertmanager:
    """The Alertmanager, asked from Prometheus's host."""
    if layout.monitor is None:
        pytest.skip("There is no Prometheus in this stack, which alone knows the password.")
    return Alertmanager(machine("prometheus"), str(this_host.address))


def test_runs_as_its_own_user(host: Machine) -> None:
    unit = host.service("prometheus-alertmanager.service")

    assert unit.is_running
    assert unit.is_enabled
    assert host.check_output("systemctl show -P User prometheus-alertmanager.service") == "prometheus"


def test_it_asks_for_a_password(alone: Alertmanager) -> None:
    assert alone.ask("/api/v2/status", user="", password="none")["status"] == 401
    assert alone.ask("/metrics", user="", password="none")["status"] == 401
    assert alone.ask("/api/v2/status", password="wrong")["status"] == 401


def test_it_stands_alone(host: Machine, alertmanager: Alertmanager) -> None:
    status = json.loads(alertmanager.ask("/api/v2/status")["body"])

    assert status["cluster"]["status"] == "disabled"
    assert host.run("ss -Hltnu sport = :9094").stdout == ""


def test_an_alert_goes_to_people_and_the_heartbeat_does_not(alertmanager: Alertmanager) -> None:
    now = datetime.now(UTC)
    alert = {
        "labels": {"alertname": "FreeholdProof", "severity": "warning", "host": "proof"},
        "annotations": {"summary": "A proof of the monitoring.", "action": "Nothing."},
        "startsAt": now.isoformat(),
        # It ends before anybody is told: people are told after 30 seconds.
        "endsAt": (now + timedelta(seconds=15)).isoformat(),
    }
    assert alertmanager.ask("/api/v2/alerts", [alert])["status"] == 200

    deadline = time.monotonic() + 120
    while True:
        found = {
            each["labels"]["alertname"]: [receiver["name"] for receiver in each["receivers"]]
            for each in json.loads(alertmanager.ask("/api/v2/alerts")["body"])
        }
        if found.keys() >= {"FreeholdProof", "Watchdog"}:
            break
        assert time.monotonic() < deadline, found
        alert["endsAt"] = (datetime.now(UTC) + timedelta(seconds=15)).isoformat()
        alertmanager.ask("/api/v2/alerts", [alert])
        time.sleep(2)
    assert found["FreeholdProof"] == ["people"]
    assert found["Watchdog"] == ["heartbeat"]


def test_people_are_told_as_the_stack_says(host: Machine, service: ServicePlacement) -> None:
    text = host.file("/etc/alertmanager/alertmanager.yml").content_string

    for address in service.variables.get("alertmanager_mail_to", []):
        assert f'to: "{address}"' in text
    assert ("email_configs" in text) == bool(service.variables.get("alertmanager_mail_to"))
    assert "SUCCESS" in host.check_output("amtool check-config /etc/alertmanager/alertmanager.yml")


def test_only_those_who_need_it_get_through(
    this_host: Host, layout: Layout, reaching: Callable[[IPv4Address, int], set[str]]
) -> None:
    senders = {"prometheus", "grafana"} & {host.name for host in layout.hosts}

    assert reaching(this_host.address, 9093) == senders | {this_host.name}


def test_secrets_are_for_its_user_alone(host: Machine) -> None:
    for path in ("/etc/alertmanager/alertmanager.yml", "/etc/alertmanager/web.yml"):
        assert host.check_output("stat -c '%%U %%a' %s", path) == "prometheus 400"


def test_the_unit_is_hardened(host: Machine) -> None:
    result = host.run("systemd-analyze security --no-pager --threshold=20 prometheus-alertmanager.service")

    assert result.rc == 0, result.stdout
