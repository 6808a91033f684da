"""What the files of ClickHouse hold. That the engine takes them is proven in the lab."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import yaml

from freehold import render, resources

DATABASE = {
    "name": "langfuse",
    "owner_service": "langfuse",
    "password": "unused here",
    "address": "10.20.0.155",
    "extensions": [],
}


def rendered(template: str, **others: Any) -> ElementTree.Element:
    defaults = yaml.safe_load(
        (resources.roles() / "clickhouse/defaults/main.yml").read_text(encoding="utf-8")
    )
    given = {**defaults, **{f"clickhouse_{name}": value for name, value in others.items()}}
    given |= {"clickhouse__admin_hash": "a" * 64, "clickhouse__hashes": ["b" * 64]}
    return ElementTree.fromstring(render.render(f"clickhouse/{template}.j2", given))


def test_limits_of_memory_follow_from_the_container() -> None:
    config = rendered("config.xml", memory=10240)
    profile = rendered("users.xml", memory=10240).find("profiles/default")

    assert config.findtext("max_server_memory_usage") == str(8192 << 20)
    assert profile is not None
    assert profile.findtext("max_memory_usage") == str(5120 << 20)


def test_only_the_ports_of_http_native_and_metrics_are_open() -> None:
    config = rendered("config.xml", address="10.20.0.30")

    assert [element.text for element in config.findall("listen_host")] == ["127.0.0.1", "10.20.0.30"]
    assert {element.tag for element in config.iter() if element.tag.endswith("port")} == {
        "http_port",
        "tcp_port",
        "port",
    }


def test_queries_reach_no_address_and_crashes_are_reported_to_nobody() -> None:
    config = rendered("config.xml")

    allowed = config.find("remote_url_allow_hosts")
    assert allowed is not None
    assert list(allowed) == []
    assert config.findtext("send_crash_reports/enabled") == "false"


def test_texts_in_queries_are_masked() -> None:
    rule = rendered("config.xml").find("query_masking_rules/rule")
    assert rule is not None
    mask = re.compile(str(rule.findtext("regexp")))

    for query, shown in (
        ("SELECT 'secret' FROM t", "SELECT '...' FROM t"),
        (r"SELECT 'it\'s', 'b' FROM t WHERE x = 1", "SELECT '...', '...' FROM t WHERE x = 1"),
        ("SELECT a FROM t", "SELECT a FROM t"),
    ):
        assert mask.sub(str(rule.findtext("replace")), query) == shown


def test_of_its_own_records_only_that_of_queries_is_kept_and_it_ends() -> None:
    config = rendered("config.xml", query_log_days=14)

    assert [element.tag for element in config if element.tag.endswith("_log")] == ["query_log"]
    assert config.findtext("query_log/ttl") == "event_date + INTERVAL 14 DAY DELETE"


def test_a_service_may_use_its_database_and_nothing_else() -> None:
    users = rendered("users.xml", databases=[DATABASE]).find("users")
    assert users is not None
    service = users.find("langfuse")
    assert service is not None

    assert {element.tag for element in users} == {"freehold", "langfuse"}
    assert users.findtext("freehold/networks/ip") == "127.0.0.1"
    assert service.findtext("networks/ip") == "10.20.0.155"
    assert service.findtext("password_sha256_hex") == "b" * 64
    grants = [str(element.text) for element in service.findall("grants/query")]
    assert [grant for grant in grants if not grant.endswith(" ON langfuse.*")] == [
        "GRANT SELECT ON system.*",
        "GRANT CREATE TEMPORARY TABLE ON *.*",
    ]
    assert not any("DROP DATABASE" in grant or "ALL" in grant for grant in grants)
