"""Proof of the monitoring: everything is asked and answers, rules are right, and nobody else reads or stops it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import pytest
from testinfra.host import Host as Machine

from freehold.layout.types import Host, Layout, ServicePlacement

# Runs on the host itself, where root can read the password: so it is in no command line.
_ASK = """
import base64, json, re, sys, urllib.error, urllib.request
ask = json.loads(sys.argv[1])
text = open("/etc/prometheus/prometheus.yml").read()
own = re.search(r'job_name: prometheus:9090/metrics.*?password: "([^"]+)"', text, re.S).group(1)
request = urllib.request.Request(ask["url"], method=ask["method"])
if ask["user"]:
    pair = ask["user"] + ":" + (own if ask["password"] is None else ask["password"])
    request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
try:
    with urllib.request.urlopen(request, timeout=20) as answer:
        print(json.dumps({"status": answer.status, "body": answer.read().decode()}))
except urllib.error.HTTPError as error:
    print(json.dumps({"status": error.code, "body": error.read().decode("utf-8", "replace")}))
"""

_FIRST_FIGURES = 120
"""Seconds until every target was asked once, after a start."""


@dataclass
class Prometheus:
    """Asks Prometheus."""

    machine: Machine
    address: str

    def ask(
        self, path: str, *, user: str = "freehold", password: str | None = None, method: str = "GET"
    ) -> dict[str, Any]:
        """Status and body of an answer; the right password is shown unless another is given."""
        question = {"url": f"http://{self.address}:9090{path}", "user": user, "password": password}
        answer: dict[str, Any] = json.loads(
            self.machine.check_output("python3 -c %s %s", _ASK, json.dumps({**question, "method": method}))
        )
        return answer

    def data(self, path: str) -> Any:
        """What a question to the API gives."""
        answer = self.ask(f"/api/v1/{path}")
        assert answer["status"] == 200, answer
        return json.loads(answer["body"])["data"]

    def targets(self) -> list[dict[str, Any]]:
        """All targets, once each of them was asked."""
        deadline = time.monotonic() + _FIRST_FIGURES
        while True:
            targets: list[dict[str, Any]] = self.data("targets?state=active")["activeTargets"]
            if all(target["health"] == "up" for target in targets) or time.monotonic() > deadline:
                return targets
            time.sleep(3)


@pytest.fixture
def prometheus(host: Machine, this_host: Host) -> Prometheus:
    return Prometheus(host, str(this_host.address))


def test_runs_as_its_own_user(host: Machine) -> None:
    for unit in ("prometheus.service", "prometheus-blackbox-exporter.service"):
        assert host.service(unit).is_running
        assert host.service(unit).is_enabled
        assert host.check_output("systemctl show -P User %s", unit) == "prometheus"


def test_every_host_node_and_service_is_asked_and_answers(
    prometheus: Prometheus, layout: Layout, service: ServicePlacement
) -> None:
    targets = prometheus.targets()

    silent = {target["scrapeUrl"]: target["lastError"] for target in targets if target["health"] != "up"}
    assert silent == {}
    asked = {job: set[str]() for job in ("hosts", "nodes", "sites")}
    for target in targets:
        asked.setdefault(target["labels"]["job"], set()).add(
            target["labels"].get("host", target["labels"].get("site"))
        )
    assert asked["hosts"] >= {host.name for host in layout.hosts}
    assert asked["nodes"] == {node.name for node in layout.nodes if node.address}
    assert asked["sites"] >= {route.fqdn for route in layout.routes}
    for scrape in service.variables["prometheus_scrapes"]:
        assert f"{scrape['service']}:{scrape['port']}{scrape['path']}" in asked


def test_every_site_can_be_used_and_has_a_certificate_that_is_trusted(
    prometheus: Prometheus, layout: Layout
) -> None:
    prometheus.targets()
    result = prometheus.data("query?query=probe_success")["result"]
    found = {each["metric"].get("site", each["metric"]["instance"]): each["value"][1] for each in result}

    assert {name: value for name, value in found.items() if value != "1"} == {}
    assert found.keys() >= {route.fqdn for route in layout.routes}


def test_every_rule_is_loaded_and_can_be_computed(prometheus: Prometheus, service: ServicePlacement) -> None:
    groups = prometheus.data("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]

    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []
    wanted = {alert["name"] for alert in service.variables["prometheus_alerts"]}
    assert wanted <= {rule["name"] for rule in rules}
    for rule in rules:
        assert rule["annotations"]["summary"], rule["name"]
        assert rule["annotations"]["action"], rule["name"]
        assert rule["labels"]["severity"] in {"warning", "critical", "none"}, rule["name"]


def test_what_is_wrong_reaches_the_alertmanager(prometheus: Prometheus, layout: Layout) -> None:
    deadline = time.monotonic() + _FIRST_FIGURES
    expected = f"http://{layout.host('alertmanager').address}:9093/api/v2/alerts"
    while True:
        found = prometheus.data("alertmanagers")
        fired = {alert["labels"]["alertname"] for alert in prometheus.data("alerts")["alerts"]}
        sent = prometheus.data("query?query=prometheus_notifications_sent_total")["result"]
        if "Watchdog" in fired and any(float(each["value"][1]) > 0 for each in sent):
            break
        assert time.monotonic() < deadline, (found, fired, sent)
        time.sleep(3)

    assert [each["url"] for each in found["activeAlertmanagers"]] == [expected]


def test_it_asks_for_a_password(prometheus: Prometheus) -> None:
    assert prometheus.ask("/api/v1/status/buildinfo")["status"] == 200
    assert prometheus.ask("/api/v1/status/buildinfo", user="")["status"] == 401
    assert prometheus.ask("/metrics", user="")["status"] == 401
    assert prometheus.ask("/api/v1/status/buildinfo", password="wrong")["status"] == 401
    assert prometheus.ask("/api/v1/status/buildinfo", user="admin")["status"] == 401


def test_nobody_stops_it_or_deletes_figures_over_the_network(prometheus: Prometheus) -> None:
    assert prometheus.ask("/-/quit", method="POST")["status"] == 403
    assert prometheus.ask("/-/reload", method="POST")["status"] == 403
    refused = prometheus.ask("/api/v1/admin/tsdb/clean_tombstones", method="POST")
    assert "admin APIs disabled" in refused["body"]


def test_it_shows_no_password_of_what_it_asks(prometheus: Prometheus, secret: Callable[[str], str]) -> None:
    shown = prometheus.data("status/config")["yaml"]

    assert "<secret>" in shown
    for name in ("prometheus.password", "prometheus.scrape_password", "alertmanager.password"):
        assert secret(name) not in shown


def test_only_those_who_need_it_get_through(
    this_host: Host, layout: Layout, reaching: Callable[[IPv4Address, int], set[str]]
) -> None:
    readers = {"grafana"} & {host.name for host in layout.hosts}

    assert reaching(this_host.address, 9090) == readers | {this_host.name}
    assert reaching(this_host.address, 9115) == set()


def test_figures_of_hosts_are_for_the_monitoring_alone(
    layout: Layout, reaching: Callable[[IPv4Address, int], set[str]]
) -> None:
    for host in layout.hosts:
        assert reaching(host.address, 9100) == {"prometheus", host.name}


def test_secrets_are_for_its_user_alone(host: Machine) -> None:
    for path in ("/etc/prometheus/prometheus.yml", "/etc/prometheus/web.yml"):
        assert host.check_output("stat -c '%%U %%a' %s", path) == "prometheus 400"


def test_figures_are_kept_for_as_long_as_the_stack_says(
    prometheus: Prometheus, service: ServicePlacement
) -> None:
    flags = prometheus.data("status/flags")

    assert flags["storage.tsdb.retention.time"] in {
        f"{service.variables.get('prometheus_retention_days', 90)}d",
        # 90 days are said as 12w6d
        "12w6d",
    }
    assert (
        flags["storage.tsdb.retention.size"] == f"{service.variables.get('prometheus_retention_gib', 8)}GiB"
    )


_CASES = """
rule_files: [/etc/prometheus/rules/general.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'up{job="hosts", host="postgres"}', values: '1x5 0x10'}
      - {series: 'up{job="qdrant:6333/metrics", host="qdrant", service="qdrant"}', values: '0x30'}
      - {series: 'node_filesystem_avail_bytes{host="postgres", mountpoint="/"}', values: '8x60'}
      - {series: 'node_filesystem_size_bytes{host="postgres", mountpoint="/"}', values: '100x60'}
      - {series: 'node_filesystem_readonly{host="postgres", mountpoint="/"}', values: '0x60'}
      - {series: 'node_systemd_unit_state{host="caddy", name="caddy.service", state="failed"}', values: '1x60'}
      - {series: 'node_systemd_unit_state{host="caddy", name="ssh.service", state="failed"}', values: '0x60'}
      - {series: 'freehold_gpu_up{host="pve", pci="0000:01:00.0"}', values: '1x60'}
      - {series: 'freehold_gpu_up{host="pve", pci="0000:02:00.0"}', values: '0x60'}
      - {series: 'freehold_gpu_temperature_celsius{host="pve", pci="0000:01:00.0"}', values: '91x60'}
      - {series: 'freehold_driver_next_boot_ready{host="pve", kernel="7.0.2-6-pve", driver="580.178.04"}', values: '0x60'}
      - {series: 'freehold_driver_next_boot_ready{host="two", kernel="7.0.2-6-pve", driver="580.178.04"}', values: '1x60'}
      - {series: 'freehold_backup_timestamp_seconds{service="postgres"}', values: '-200000x60'}
      - {series: 'freehold_backup_timestamp_seconds{service="n8n"}', values: '0x60'}
    alert_rule_test:
      - eval_time: 7m
        alertname: HostDown
        exp_alerts: []
      - eval_time: 12m
        alertname: HostDown
        exp_alerts: [{exp_labels: {severity: critical, job: hosts, host: postgres}}]
      - eval_time: 20m
        alertname: FiguresMissing
        exp_alerts: [{exp_labels: {severity: warning, job: 'qdrant:6333/metrics', host: qdrant, service: qdrant}}]
      - eval_time: 30m
        alertname: DiskNearlyFull
        exp_alerts: [{exp_labels: {severity: warning, host: postgres, mountpoint: /}}]
      - eval_time: 30m
        alertname: DiskFull
        exp_alerts: []
      - eval_time: 10m
        alertname: UnitFailed
        exp_alerts: [{exp_labels: {severity: warning, host: caddy, name: caddy.service, state: failed}}]
      - eval_time: 10m
        alertname: GpuFellOff
        exp_alerts: [{exp_labels: {severity: critical, host: pve, pci: '0000:02:00.0'}}]
      - eval_time: 20m
        alertname: GpuHot
        exp_alerts: [{exp_labels: {severity: warning, host: pve, pci: '0000:01:00.0'}}]
      - eval_time: 40m
        alertname: DriverMissingAfterNextBoot
        exp_alerts: [{exp_labels: {severity: critical, host: pve, kernel: 7.0.2-6-pve, driver: 580.178.04}}]
      - eval_time: 50m
        alertname: BackupOld
        exp_alerts: [{exp_labels: {severity: critical, service: postgres}}]
      - eval_time: 1m
        alertname: Watchdog
        exp_alerts: [{exp_labels: {severity: none}}]
"""

# In a file of its own: nobody waits for every rule of three days to be computed each minute.
_CERTIFICATES = """
rule_files: [/etc/prometheus/rules/general.yml]
evaluation_interval: 30m
tests:
  # Certificates: one of a year that nobody renews, one of hours that renews itself, one of hours that does not any more.
  - interval: 4m
    input_series:
      - {series: 'probe_ssl_earliest_cert_expiry{instance="year"}', values: '864000x1000'}
      - {series: 'probe_ssl_earliest_cert_expiry{instance="renewing"}', values: '43200+240x1000'}
      - {series: 'probe_ssl_earliest_cert_expiry{instance="left"}', values: '43200x1000'}
    alert_rule_test:
      - eval_time: 20h
        alertname: CertificateExpiresSoon
        exp_alerts: []
      - eval_time: 60h
        alertname: CertificateExpiresSoon
        exp_alerts:
          - {exp_labels: {severity: warning, instance: year}}
          - {exp_labels: {severity: warning, instance: left}}
      - eval_time: 12h
        alertname: CertificateEnds
        exp_alerts: [{exp_labels: {severity: critical, instance: left}}]
"""


@pytest.mark.parametrize("cases", [_CASES, _CERTIFICATES], ids=["general", "certificates"])
def test_rules_say_what_they_should_and_when(host: Machine, cases: str) -> None:
    """``promtool test rules`` over the rules of this host; it compares annotations too, so they are taken out first."""
    program = f"""
import os, re, subprocess, tempfile
os.environ["TMPDIR"] = "/var/tmp"  # /tmp is memory, and promtool keeps a database of its own there
cases = {cases!r}
rules = open("/etc/prometheus/rules/general.yml").read()
bare = re.sub(r"^        annotations:\\n(?:          .*\\n)+", "", rules, flags=re.M)
assert bare.count("alert:") == rules.count("alert:") and "annotations" not in bare
with tempfile.TemporaryDirectory() as folder:
    open(folder + "/rules.yml", "w").write(bare)
    text = cases.replace("/etc/prometheus/rules/general.yml", folder + "/rules.yml")
    open(folder + "/cases.yml", "w").write(text)
    done = subprocess.run(["promtool", "test", "rules", folder + "/cases.yml"], capture_output=True, text=True)
print(done.stdout + done.stderr)
raise SystemExit(done.returncode)
"""
    done = host.run("python3 -c %s", program)

    assert done.rc == 0, done.stdout + done.stderr


def test_the_units_are_hardened(host: Machine) -> None:
    for unit in (
        "prometheus.service",
        "prometheus-blackbox-exporter.service",
        "prometheus-node-exporter.service",
    ):
        result = host.run("systemd-analyze security --no-pager --threshold=20 %s", unit)
        assert result.rc == 0, result.stdout
