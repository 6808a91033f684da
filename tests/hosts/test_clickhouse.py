"""Proof of ClickHouse: who gets in, what they may do, and what the server keeps and tells."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from testinfra.host import Host as Machine

from freehold.layout.types import Host, Layout, ServicePlacement

DATABASE = "freehold_proof"
AUTHENTICATION_FAILED = "516"

# Runs on the host itself, where root can read the administrator's password: so it is in no command line.
_ASK = """
import http.client, json, sys
ask = json.loads(sys.argv[1])
if ask["user"] == "freehold" and ask["password"] is None:
    lines = open("/etc/clickhouse-server/admin.env").read().splitlines()
    ask["password"] = dict(line.split("=", 1) for line in lines if "=" in line)["CLICKHOUSE_PASSWORD"]
connection = http.client.HTTPConnection(ask["address"], ask["port"], timeout=60)
headers = {"X-ClickHouse-User": ask["user"], "X-ClickHouse-Key": ask["password"] or ""} if ask["user"] else {}
connection.request(ask["method"], ask["path"], ask["sql"].encode() if ask["sql"] else None, headers)
answer = connection.getresponse()
print(json.dumps({"status": answer.status, "code": answer.getheader("X-ClickHouse-Exception-Code"),
                  "text": answer.read().decode("utf-8", "replace")}))
"""


@dataclass
class Server:
    """Asks the server, over loopback unless another address is given."""

    machine: Machine
    address: str = "127.0.0.1"

    def ask(
        self,
        sql: str = "",
        *,
        user: str = "freehold",
        password: str | None = None,
        path: str = "/",
        port: int = 8123,
    ) -> dict[str, Any]:
        """Status, exception code and text of an answer."""
        question = {"address": self.address, "port": port, "path": path, "sql": sql}
        question |= {"user": user, "password": password, "method": "POST" if sql else "GET"}
        answer: dict[str, Any] = json.loads(
            self.machine.check_output("python3 -c %s %s", _ASK, json.dumps(question))
        )
        return answer

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Rows of a query that succeeds."""
        asks = sql.startswith("SELECT")
        answer = self.ask(f"{sql} FORMAT JSONEachRow" if asks else sql)
        assert answer["status"] == 200, answer
        return [json.loads(line) for line in answer["text"].splitlines()] if asks else []


@pytest.fixture
def server(host: Machine) -> Server:
    return Server(host)


@pytest.fixture
def databases(service: ServicePlacement) -> list[dict[str, Any]]:
    return list(service.variables["clickhouse_databases"])


@pytest.fixture
def table(server: Server) -> Iterator[str]:
    """A table of the kind that traces are kept in, gone afterwards."""
    server.rows(f"DROP DATABASE IF EXISTS {DATABASE}")
    server.rows(f"CREATE DATABASE {DATABASE}")
    server.rows(
        f"CREATE TABLE {DATABASE}.traces (id String, input String, event_ts DateTime64(3), is_deleted UInt8) "
        "ENGINE = ReplacingMergeTree(event_ts, is_deleted) PARTITION BY toYYYYMM(event_ts) ORDER BY id "
        "TTL toDateTime(event_ts) + INTERVAL 30 DAY"
    )
    yield f"{DATABASE}.traces"
    server.rows(f"DROP DATABASE {DATABASE}")


def test_runs_as_its_own_user(host: Machine) -> None:
    unit = host.service("clickhouse.service")

    assert unit.is_running
    assert unit.is_enabled
    assert host.check_output("systemctl show -P User clickhouse.service") == "clickhouse"


def test_only_declared_ports_listen(
    open_to_others: set[str], this_host: Host, service: ServicePlacement
) -> None:
    assert open_to_others == {f"{this_host.address}:{port}" for port in service.ports.values()}


def test_it_answers_whoever_asks_for_life(server: Server) -> None:
    assert server.ask(path="/ping", user="")["text"] == "Ok.\n"


def test_nobody_gets_in_without_a_password(server: Server, databases: list[dict[str, Any]]) -> None:
    for user in ("", "default", "freehold", *(database["name"] for database in databases)):
        for password in ("", "wrong"):
            answer = server.ask("SELECT 1", user=user, password=password)
            assert answer["status"] in {401, 403}, (user, answer)
            assert answer["code"] == AUTHENTICATION_FAILED, (user, answer)


def test_the_administrator_comes_from_the_host_itself_alone(host: Machine, this_host: Host) -> None:
    assert Server(host).ask("SELECT 1")["text"] == "1\n"
    # its own address is another than loopback's
    assert Server(host, str(this_host.address)).ask("SELECT 1")["code"] == AUTHENTICATION_FAILED


def test_services_reach_the_server_and_others_do_not(
    this_host: Host,
    layout: Layout,
    databases: list[dict[str, Any]],
    reaching: Callable[[Any, int], set[str]],
) -> None:
    hosts = {service.name: service.host for service in layout.services}
    owners = {
        hosts[database["owner_service"]] for database in databases if database["owner_service"] in hosts
    }

    assert owners <= reaching(this_host.address, 8123)
    assert reaching(this_host.address, 8123) <= owners | {this_host.name}
    assert reaching(this_host.address, 9000) <= owners | {this_host.name}


def test_every_service_has_its_database_and_no_power_beyond(
    server: Server, databases: list[dict[str, Any]]
) -> None:
    known = {row["name"] for row in server.rows("SELECT name FROM system.databases")}
    for database in databases:
        name = database["name"]
        answer = server.ask(f"SHOW GRANTS FOR {name}")
        assert answer["status"] == 200, answer
        granted = [line.removesuffix(f" TO {name}") for line in answer["text"].splitlines()]
        own = [line for line in granted if line.endswith(f" ON {name}.*")]

        assert name in known
        assert own
        assert not any("DROP DATABASE" in line for line in own)
        assert set(granted) - set(own) <= {
            "GRANT SELECT ON system.*",
            "GRANT CREATE TEMPORARY TABLE ON *.*",
        }


def test_what_is_stored_is_found_and_replaced(server: Server, table: str) -> None:
    server.rows(
        f"INSERT INTO {table} FORMAT JSONEachRow "
        '{"id": "a", "input": "first", "event_ts": "2100-01-01 00:00:00.000", "is_deleted": 0}'
    )
    server.rows(
        f"INSERT INTO {table} FORMAT JSONEachRow "
        '{"id": "a", "input": "second", "event_ts": "2100-01-01 00:00:01.000", "is_deleted": 0}'
    )

    assert server.rows(f"SELECT id, input FROM {table} FINAL") == [{"id": "a", "input": "second"}]


def test_what_is_old_goes_by_itself(server: Server, table: str) -> None:
    server.rows(
        f"INSERT INTO {table} FORMAT JSONEachRow "
        '{"id": "old", "input": "x", "event_ts": "2020-01-01 00:00:00.000", "is_deleted": 0}'
    )
    server.rows(f"OPTIMIZE TABLE {table} FINAL")

    assert server.rows(f"SELECT count() AS n FROM {table}") in ([{"n": 0}], [{"n": "0"}])


def test_a_database_can_be_saved_and_brought_back(host: Machine, server: Server, table: str) -> None:
    server.rows(
        f"INSERT INTO {table} FORMAT JSONEachRow "
        '{"id": "a", "input": "kept", "event_ts": "2100-01-01 00:00:00.000", "is_deleted": 0}'
    )
    host.check_output("rm -rf /var/lib/clickhouse/backups/%s", DATABASE)
    try:
        server.rows(f"BACKUP DATABASE {DATABASE} TO File('{DATABASE}')")
        server.rows(f"DROP DATABASE {DATABASE} SYNC")
        server.rows(f"RESTORE DATABASE {DATABASE} FROM File('{DATABASE}')")
    finally:
        host.check_output("rm -rf /var/lib/clickhouse/backups/%s", DATABASE)

    assert server.rows(f"SELECT input FROM {table}") == [{"input": "kept"}]


def test_every_night_has_its_backup(host: Machine, table: str) -> None:
    if not host.check_output("ls /var/lib/clickhouse/backups"):
        host.run("systemctl start clickhouse-backup.service")  # the first night is yet to come

    assert host.service("clickhouse-backup.timer").is_running
    assert host.service("clickhouse-backup.timer").is_enabled
    log = host.run("journalctl -u clickhouse-backup.service -n 20 --no-pager").stdout
    assert host.check_output("systemctl show -P Result clickhouse-backup.service") == "success", log
    newest = host.check_output("ls -d /var/lib/clickhouse/backups/2* | tail -n 1")
    assert host.check_output("stat -c '%%U %%a' %s", newest) == "clickhouse 700"


def test_the_monitoring_knows_when_the_last_backup_was_made(
    age_of_backup: Callable[[str], float | None],
) -> None:
    age = age_of_backup("clickhouse-backup.service")

    assert age is None or age < 2 * 86400


def test_memory_is_bounded_by_the_container(server: Server, this_host: Host) -> None:
    sql = "SELECT toUInt64(value) DIV 1048576 AS mib FROM system.server_settings WHERE name = 'max_server_memory_usage'"
    mib = int(server.rows(sql)[0]["mib"])

    assert this_host.memory // 2 < mib < this_host.memory * 9 // 10


def test_times_are_utc(server: Server) -> None:
    assert server.rows("SELECT timezone() AS zone")[0]["zone"].removeprefix("Etc/") == "UTC"


def test_its_own_records_are_few_and_end(server: Server) -> None:
    server.rows("SYSTEM FLUSH LOGS")
    kept = {
        row["name"]: row["create_table_query"]
        for row in server.rows(
            "SELECT name, create_table_query FROM system.tables WHERE database = 'system' AND name LIKE '%_log'"
        )
    }
    loud = ("trace", "text", "metric", "asynchronous_metric", "part", "query_thread", "processors_profile")

    assert not {f"{name}_log" for name in loud} & set(kept)
    assert "TTL event_date" in kept["query_log"]


def test_what_people_wrote_is_in_no_log(host: Machine, server: Server) -> None:
    assert server.ask("SELECT 'never-in-a-log' FROM nowhere")["status"] != 200

    assert "never-in-a-log" not in host.check_output(
        "journalctl -u clickhouse.service --since -5min --no-pager"
    )


def test_it_reaches_out_to_nobody(host: Machine) -> None:
    text = host.file("/etc/clickhouse-server/config.xml").content_string
    section = text[text.index("<send_crash_reports>") : text.index("</send_crash_reports>")]

    assert "<enabled>false</enabled>" in section
    assert "<remote_url_allow_hosts/>" in text


def test_figures_for_the_monitoring(host: Machine, this_host: Host) -> None:
    text = Server(host, str(this_host.address)).ask(path="/metrics", port=9363, user="")["text"]

    for name in ("ClickHouseMetrics_Query", "ClickHouseProfileEvents_Query", "ClickHouseAsyncMetrics_Uptime"):
        assert f"\n{name} " in text


def test_passwords_and_data_are_private(host: Machine, databases: list[dict[str, Any]]) -> None:
    users = host.file("/etc/clickhouse-server/users.xml")
    admin = host.file("/etc/clickhouse-server/admin.env")
    data = host.file("/var/lib/clickhouse")

    assert (users.user, users.group, users.mode) == ("root", "clickhouse", 0o440)
    assert users.content_string.count("<password_sha256_hex>") == 1 + len(databases)
    assert "<password>" not in users.content_string
    assert (admin.user, admin.mode) == ("root", 0o400)
    assert (data.user, data.mode) == ("clickhouse", 0o700)


def test_the_units_are_hardened(host: Machine) -> None:
    for unit in ("clickhouse.service", "clickhouse-backup.service"):
        result = host.run("systemd-analyze security --no-pager --threshold=25 %s", unit)

        assert result.rc == 0, result.stdout
