"""Proof of PostgreSQL: who gets in, with what, and how the data lies."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host as Machine

from freehold.layout.types import Host, Layout, ServicePlacement

# The first message of PostgreSQL's protocol (version 3.0) and the server's answer: "R 10" asks for SCRAM, "E" refuses.
_KNOCK = """
import socket, struct, sys
address, user, database = sys.argv[1:]
try:
    door = socket.create_connection((address, 5432), timeout=2)
except OSError:
    print("unreachable")
    raise SystemExit
pairs = b"".join(part.encode() + b"\\0" for part in ("user", user, "database", database)) + b"\\0"
door.sendall(struct.pack("!ii", len(pairs) + 8, 196608) + pairs)
head = door.recv(9)
print("scram" if head[:1] == b"R" and struct.unpack("!i", head[5:9])[0] == 10 else "refused")
"""


# Asks for TLS as the protocol does ("N" refuses), and verifies the server by its address and the client's authority.
_KNOCK_TLS = """
import socket, ssl, struct, sys
address, authority = sys.argv[1:]
door = socket.create_connection((address, 5432), timeout=5)
door.sendall(struct.pack("!ii", 8, 80877103))
assert door.recv(1) == b"S", "no TLS"
trust = ssl.create_default_context(cafile=authority)
print(trust.wrap_socket(door, server_hostname=address).version())
"""


# PostgreSQL would show the whole row in the error's detail.
_REFUSED_ROW = "CREATE TEMP TABLE r (t text, n int NOT NULL); INSERT INTO r VALUES ('never-in-a-log', NULL)"


def _knock(machine: Machine, address: object, user: str, database: str) -> str:
    return str(machine.check_output("python3 -c %s %s %s %s", _KNOCK, str(address), user, database))


def _ask(host: Machine, sql: str, database: str = "postgres") -> Any:
    text = host.check_output(
        # the owner of a database may have set a search path for it, which the superuser must not follow
        "cd / && PGOPTIONS='-c search_path=pg_catalog' runuser -u postgres -- psql -XAtq -d %s -c %s",
        database,
        f"SELECT json_agg(answer) FROM ({sql}) answer",
    )
    return json.loads(text) if text else []


@pytest.fixture
def databases(service: ServicePlacement) -> list[dict[str, Any]]:
    return list(service.variables["postgres_databases"])


@pytest.fixture
def owners(databases: list[dict[str, Any]], layout: Layout) -> dict[str, str]:
    """Database -> host of the service that owns it. ``--only`` leaves services out, which may not exist yet."""
    hosts = {service.name: service.host for service in layout.services}
    return {
        database["name"]: hosts[database["owner_service"]]
        for database in databases
        if database["owner_service"] in hosts
    }


def test_runs(host: Machine) -> None:
    assert host.service("postgresql@17-main.service").is_running
    assert host.check_output("systemctl show -P User postgresql@17-main.service") == "postgres"


def test_only_declared_ports_listen(
    open_to_others: set[str], this_host: Host, service: ServicePlacement
) -> None:
    assert open_to_others == {f"{this_host.address}:{port}" for port in service.ports.values()}


def test_data_lies_on_volumes_of_their_own(host: Machine, this_host: Host) -> None:
    assert this_host.volumes
    for volume in this_host.volumes:
        assert host.run("mountpoint -q %s", volume.path).rc == 0, volume.path
    assert host.check_output("stat -c %U:%a /var/lib/postgresql/17/main") == "postgres:700"


def test_pages_carry_checksums_and_text_sorts_the_same_everywhere(host: Machine) -> None:
    assert _ask(host, "SELECT current_setting('data_checksums') AS on") == [{"on": "on"}]
    assert {row["datlocprovider"] for row in _ask(host, "SELECT datlocprovider FROM pg_database")} == {"b"}


def test_every_database_belongs_to_its_user_and_has_its_extensions(
    host: Machine, databases: list[dict[str, Any]]
) -> None:
    owners = {
        row["datname"]: row["owner"]
        for row in _ask(host, "SELECT datname, pg_get_userbyid(datdba) AS owner FROM pg_database")
    }
    for database in databases:
        installed = {
            row["extname"] for row in _ask(host, "SELECT extname FROM pg_extension", database["name"])
        }
        assert owners[database["name"]] == database["name"]
        assert set(database["extensions"]) <= installed


def test_users_of_services_have_no_power_beyond_their_database(
    host: Machine, databases: list[dict[str, Any]]
) -> None:
    rows = _ask(host, "SELECT rolname, rolsuper OR rolcreaterole OR rolcreatedb AS power FROM pg_roles")
    power = {row["rolname"]: row["power"] for row in rows}
    for database in databases:
        assert power[database["name"]] is False
    opened = _ask(
        host,
        "SELECT datname FROM pg_database WHERE has_database_privilege('public', oid, 'CONNECT')",
    )
    assert not {row["datname"] for row in opened} & {database["name"] for database in databases}


def test_passwords_are_kept_as_scram_verifiers(host: Machine) -> None:
    kept = _ask(host, "SELECT rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL")

    assert all(row["rolpassword"].startswith("SCRAM-SHA-256$") for row in kept)
    assert _ask(host, "SELECT current_setting('password_encryption') AS kind") == [{"kind": "scram-sha-256"}]


def test_a_service_reaches_its_own_database_and_is_asked_for_its_password(
    this_host: Host, owners: dict[str, str], machine: Callable[[str], Machine]
) -> None:
    for database, owner in owners.items():
        own = machine(owner)
        assert _knock(own, this_host.address, database, database) == "scram"
        assert _knock(own, this_host.address, database, "postgres") == "refused"
        assert _knock(own, this_host.address, "postgres", database) == "refused"


def test_other_hosts_do_not_get_in(
    this_host: Host,
    databases: list[dict[str, Any]],
    owners: dict[str, str],
    everywhere: Callable[[Callable[[Machine], str]], dict[str, str]],
) -> None:
    for database in databases:
        name = database["name"]
        answers = everywhere(lambda host, name=name: _knock(host, this_host.address, name, name))  # type: ignore[misc]
        others = {
            host: answer for host, answer in answers.items() if host not in {*owners.values(), this_host.name}
        }
        assert set(others.values()) <= {"refused", "unreachable"}, others


def test_a_client_can_verify_the_server(host: Machine, this_host: Host, layout: Layout) -> None:
    authority = f"/usr/local/share/ca-certificates/freehold-{layout.client}.crt"
    spoken = host.check_output("python3 -c %s %s %s", _KNOCK_TLS, str(this_host.address), authority)
    key = host.file("/etc/postgresql/17/main/server.pem")

    assert spoken == "TLSv1.3"
    assert (key.user, key.group, key.mode) == ("root", "postgres", 0o640)


def test_the_server_fits_its_container(host: Machine, this_host: Host) -> None:
    rows = _ask(
        host, "SELECT name, setting::bigint * 8192 AS bytes FROM pg_settings WHERE name = 'shared_buffers'"
    )

    assert rows[0]["bytes"] == this_host.memory // 4 * 1024 * 1024
    # a setting that could not be applied, or needs a restart that did not happen
    assert _ask(host, "SELECT name, error FROM pg_file_settings WHERE error IS NOT NULL") == []
    assert _ask(host, "SELECT name FROM pg_settings WHERE pending_restart") == []


def test_every_database_is_dumped_each_day_and_a_dump_can_be_restored(
    host: Machine, databases: list[dict[str, Any]]
) -> None:
    assert host.service("postgres-dump.timer").is_enabled
    assert host.service("postgres-dump.timer").is_running
    done = host.run("systemctl start postgres-dump.service")
    assert done.rc == 0, host.run("journalctl -u postgres-dump.service -n 20 --no-pager").stdout
    newest = host.check_output("ls -d /var/lib/postgresql/dumps/2* | tail -n 1")
    files = set(host.check_output("ls %s", newest).split())

    assert {"users.sql", "postgres.dump", *(f"{database['name']}.dump" for database in databases)} <= files
    assert host.check_output("stat -c '%%U %%a' %s", newest) == "postgres 700"
    smallest = host.check_output("ls -Sr %s/*.dump | head -n 1", newest)
    host.run("cd / && runuser -u postgres -- dropdb --if-exists freehold_proof")
    host.run_expect([0], "cd / && runuser -u postgres -- createdb freehold_proof")
    try:
        host.run_expect(
            [0],
            "cd / && runuser -u postgres -- pg_restore --exit-on-error --dbname=freehold_proof %s",
            smallest,
        )
    finally:
        host.run_expect([0], "cd / && runuser -u postgres -- dropdb freehold_proof")


def test_the_monitoring_knows_when_the_last_dump_was_made(host: Machine) -> None:
    folder = "/var/lib/prometheus/node-exporter"
    if not host.file(folder).exists:
        assert not host.file("/etc/systemd/system/prometheus-node-exporter.service").exists
        return
    host.run_expect([0], "systemctl start postgres-dump.service")
    text = host.file(f"{folder}/postgres.prom").content_string

    assert text.startswith('freehold_backup_timestamp_seconds{service="postgres"} ')
    assert abs(float(host.check_output("date +%s")) - float(text.split()[-1])) < 600


def test_logs_hold_no_queries(host: Machine) -> None:
    host.run("cd / && runuser -u postgres -- psql -XAtq -c %s", "SELECT 'never-in-a-log' FROM nowhere")
    host.run("cd / && runuser -u postgres -- psql -XAtq -c %s", _REFUSED_ROW)
    log = host.check_output("cat /var/log/postgresql/postgresql-17-main.log")

    assert 'relation "nowhere" does not exist' in log
    assert "violates not-null constraint" in log
    assert "never-in-a-log" not in log


@pytest.mark.parametrize(
    "unit", ["postgresql@17-main.service", "postgres-dump.service", "prometheus-postgres-exporter.service"]
)
def test_the_unit_is_hardened(host: Machine, unit: str) -> None:
    result = host.run("systemd-analyze security --no-pager --threshold=20 %s", unit)

    assert result.rc == 0, result.stdout


def test_figures_come_from_a_user_that_reads_no_rows(host: Machine, this_host: Host) -> None:
    # The first question after a restart of the server finds the connection closed, and opens another.
    figures = host.check_output(
        "python3 -c %s",
        "import time, urllib.request as u\n"
        "for _ in range(5):\n"
        f"    text = u.urlopen('http://{this_host.address}:9187/metrics', timeout=20).read().decode()\n"
        "    if '\\npg_up 1\\n' in text:\n"
        "        break\n"
        "    time.sleep(1)\n"
        "print(text)",
    )
    assert "\npg_up 1\n" in figures
    assert "pg_database_size_bytes" in figures

    may = (
        "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls AS power, "
        "pg_has_role('prometheus', 'pg_read_all_data', 'member') AS rows FROM pg_roles WHERE rolname = 'prometheus'"
    )
    assert _ask(host, may) == [{"power": False, "rows": False}]
    refused = host.run("cd / && runuser -u nobody -- psql -XAtq -U prometheus -d postgres -c %s", "SELECT 1")
    assert refused.rc != 0
