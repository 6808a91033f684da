"""What the configuration of the monitoring becomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold import resources
from freehold.lab.standins import grafana_server
from freehold.render import render

SCRAPE = {"service": "qdrant", "host": "qdrant", "address": "10.0.0.75", "port": 6333, "path": "/metrics"}


def prometheus(**changes: Any) -> dict[str, Any]:
    variables = {
        "prometheus_client": "acme",
        "prometheus_interval": 30,
        "prometheus_alertmanager": "",
        "prometheus_alertmanager_password": "",
        "prometheus_hosts": [],
        "prometheus_nodes": [],
        "prometheus_scrapes": [],
        "prometheus_scrape_password": "s" * 40,
        "prometheus_gateway": "",
        "prometheus_routes": [],
        **changes,
    }
    document: dict[str, Any] = yaml.safe_load(render("prometheus/prometheus.yml.j2", variables))
    return document | {"jobs": {job["job_name"]: job for job in document["scrape_configs"]}}


def test_an_empty_stack_is_a_configuration_too() -> None:
    document = prometheus()

    assert set(document["jobs"]) == {"blackbox"}
    assert "alerting" not in document


def test_each_way_to_show_a_password() -> None:
    scrapes = [
        SCRAPE | {"scheme": "https", "bearer": "to'ken\"1", "user": None, "password": None},
        SCRAPE
        | {"service": "grafana", "port": 3000, "scheme": "http", "user": "freehold", "password": "p:w"},
    ]
    jobs = prometheus(prometheus_scrapes=scrapes)["jobs"]

    assert jobs["qdrant:6333/metrics"]["authorization"] == {"type": "Bearer", "credentials": "to'ken\"1"}
    assert jobs["qdrant:6333/metrics"]["scheme"] == "https"
    assert jobs["grafana:3000/metrics"]["basic_auth"] == {"username": "freehold", "password": "p:w"}
    assert "tls_config" not in jobs["grafana:3000/metrics"]
    # What speaks TLS is visited for its certificate as well.
    assert jobs["tls"]["static_configs"] == [
        {"targets": ["10.0.0.75:6333"], "labels": {"service": "qdrant", "host": "qdrant"}}
    ]


def test_sites_are_visited_at_the_gateway_by_their_names() -> None:
    route = {"fqdn": "chat.acme.internal", "title": 'The "chat"', "service": "openwebui"}
    job = prometheus(prometheus_routes=[route], prometheus_gateway="10.0.0.10")["jobs"]["sites"]

    assert job["static_configs"][0]["targets"] == ["chat.acme.internal"]
    assert job["static_configs"][0]["labels"]["title"] == 'The "chat"'
    replaced = {each["target_label"]: each.get("replacement") for each in job["relabel_configs"]}
    assert replaced["__param_target"] == "https://10.0.0.10"
    assert replaced["__address__"] == "127.0.0.1:9115"


def test_alerts_of_services_keep_their_words() -> None:
    alert = {
        "service": "vllm",
        "name": "Queue",
        "expr": 'sum(x{a="b"})\n  > 5 # 100%',
        "for": "10m",
        "severity": "critical",
        "summary": 'It\'s "slow": people wait.',
        "action": "Do this: that.",
    }
    document = yaml.safe_load(render("prometheus/rules/services.yml.j2", {"prometheus_alerts": [alert]}))

    (rule,) = document["groups"][0]["rules"]
    assert rule["expr"] == alert["expr"]
    assert rule["annotations"] == {"summary": alert["summary"], "action": alert["action"]}
    assert rule["labels"] == {"severity": "critical", "service": "vllm"}
    empty = yaml.safe_load(render("prometheus/rules/services.yml.j2", {"prometheus_alerts": []}))
    assert empty == {"groups": []}


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for group in yaml.safe_load(render("prometheus/rules/general.yml.j2", {}))["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"].strip().endswith("."), rule["alert"]
            assert rule["annotations"]["action"].strip().endswith("."), rule["alert"]


def alertmanager(**changes: Any) -> dict[str, Any]:
    variables = {
        "alertmanager_repeat_hours": 12,
        "alertmanager_heartbeat_url": "",
        "alertmanager_mail_to": [],
        "alertmanager_mail_from": "freehold@acme.example",
        "alertmanager_smtp_server": "mail.acme.example:587",
        "alertmanager_smtp_tls": True,
        "alertmanager_smtp_user": "",
        "alertmanager_smtp_password": "",
        "alertmanager_webhook_url": "",
        "alertmanager_proxy": "",
        **changes,
    }
    document: dict[str, Any] = yaml.safe_load(render("alertmanager/alertmanager.yml.j2", variables))
    return {receiver["name"]: receiver for receiver in document["receivers"]}


def test_without_a_receiver_nobody_is_told() -> None:
    assert alertmanager() == {"heartbeat": {"name": "heartbeat"}, "people": {"name": "people"}}


@pytest.mark.parametrize(
    ("server", "starttls"), [("mail.acme.example:587", True), ("mail.acme.example:465", False)]
)
def test_people_are_told_by_mail_and_webhook(server: str, starttls: bool) -> None:
    receivers = alertmanager(
        alertmanager_mail_to=["it@acme.example", "boss@acme.example"],
        alertmanager_smtp_server=server,
        alertmanager_smtp_user="freehold",
        alertmanager_smtp_password='pass"word',
        alertmanager_webhook_url="https://chat.acme.example/hook",
        alertmanager_heartbeat_url="https://beat.example/1",
    )
    mails = receivers["people"]["email_configs"]

    assert [mail["to"] for mail in mails] == ["it@acme.example", "boss@acme.example"]
    assert {mail["require_tls"] for mail in mails} == {starttls}
    assert mails[0]["auth_password"] == 'pass"word'
    assert mails[0]["hello"] == "acme.example"
    assert receivers["people"]["webhook_configs"][0]["url"] == "https://chat.acme.example/hook"
    assert receivers["heartbeat"]["webhook_configs"][0]["url"] == "https://beat.example/1"


def test_webhook_and_heartbeat_leave_by_the_one_way_out() -> None:
    receivers = alertmanager(
        alertmanager_webhook_url="https://chat.acme.example/hook",
        alertmanager_heartbeat_url="https://beat.example/1",
        alertmanager_proxy="http://10.20.0.105:3128",
    )

    for name in ("people", "heartbeat"):
        (hook,) = receivers[name]["webhook_configs"]
        assert hook["http_config"] == {"proxy_url": "http://10.20.0.105:3128"}


def provisioned(folder: Path) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """What the lab's Grafana takes of the files that the role writes."""
    variables = {"grafana_prometheus": "10.0.0.80", "grafana_alertmanager": "10.0.0.85"}
    for kind in ("datasources", "dashboards"):
        (folder / kind).mkdir()
        text = render(f"grafana/{kind}.yml.j2", variables)
        (folder / kind / "freehold.yml").write_text(text.replace("/etc/grafana/dashboards", f"{folder}/json"))
    (folder / "json").mkdir()
    for template in (resources.templates() / "grafana/dashboards").glob("[a-z]*.json.j2"):
        name = template.name.removesuffix(".j2")
        (folder / "json" / name).write_text(render(f"grafana/dashboards/{template.name}", {}))
    sources = grafana_server.data_sources(folder / "datasources")
    return sources, grafana_server.dashboards(folder / "dashboards", {source["uid"] for source in sources})


def test_grafana_takes_every_data_source_and_dashboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_PASSWORD", "p" * 40)
    monkeypatch.setenv("ALERTMANAGER_PASSWORD", "a" * 40)

    sources, dashboards = provisioned(tmp_path)

    assert [source["secureJsonData"]["basicAuthPassword"][0] for source in sources] == ["p", "a"]
    assert len(dashboards) == 5
    for dashboard in dashboards.values():
        assert "Managed by Freehold" in dashboard["description"]
        assert dashboard["editable"] is False


def test_grafana_refuses_what_upstream_would_refuse_or_show_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(grafana_server.RefusedError, match="no password"):
        provisioned(tmp_path)
    monkeypatch.setenv("PROMETHEUS_PASSWORD", "p" * 40)
    overview = tmp_path / "json/overview.json"
    whole = json.loads(overview.read_text())
    loki = {"expr": "up", "datasource": {"uid": "loki"}}
    changes: list[tuple[dict[str, Any], str]] = [
        ({"gridPos": {"x": 0, "y": 0, "w": 25, "h": 4}}, "outside"),
        ({"type": "graph"}, "no kind of panel"),
        ({"targets": [{"expr": " ", "datasource": {"uid": "prometheus"}}]}, "empty"),
        ({"targets": [loki]}, "no data source loki"),
    ]
    for change, reason in changes:
        broken = json.loads(json.dumps(whole))
        broken["panels"][0].update(change)
        overview.write_text(json.dumps(broken))
        with pytest.raises(grafana_server.RefusedError, match=reason):
            grafana_server.dashboards(tmp_path / "dashboards", {"prometheus"})
