"""Proof of Valkey: who gets in, what each may touch, and that nothing is evicted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host as Machine

from freehold.layout.types import Host, Layout, ServicePlacement

# Speaks RESP 2 (https://valkey.io/topics/protocol/): commands come as JSON on standard input, one answer each goes out.
_TALK = """
import json, socket, sys
address, commands = json.load(sys.stdin)
try:
    door = socket.create_connection((address, 6379), timeout=2)
except OSError:
    print(json.dumps("unreachable"))
    raise SystemExit
stream = door.makefile("rb")
def answer():
    line = stream.readline()
    kind, rest = line[:1], line[1:-2].decode()
    if kind == b"$":
        return None if rest == "-1" else stream.read(int(rest) + 2)[:-2].decode("utf-8", "replace")
    if kind == b"*":
        return [answer() for _ in range(int(rest))]
    return line[:-2].decode() if kind == b"-" else rest
answers = []
for command in commands:
    door.sendall(b"*%d\\r\\n" % len(command) + b"".join(b"$%d\\r\\n%s\\r\\n" % (len(p.encode()), p.encode()) for p in command))
    answers.append(answer())
print(json.dumps(answers))
"""


def _talk(machine: Machine, address: object, *commands: list[str]) -> Any:
    # By standard input: a password in an argument would stand in the process list.
    question = json.dumps([str(address), commands])
    return json.loads(machine.check_output("printf '%%s' %s | python3 -c %s", question, _TALK))


@pytest.fixture
def metrics(secret: Callable[[str], str]) -> list[str]:
    """The login of the metrics' user."""
    return ["AUTH", "metrics", secret("valkey.metrics_password")]


@pytest.fixture
def users(service: ServicePlacement) -> list[dict[str, Any]]:
    return list(service.variables["valkey_databases"])


@pytest.fixture
def logins(users: list[dict[str, Any]], secret: Callable[[str], str]) -> dict[str, list[str]]:
    """User -> the login of the user."""
    return {user["name"]: ["AUTH", user["name"], secret(user["password"].split("'")[3])] for user in users}


def test_runs_as_its_own_user_and_never_had_to_be_restarted(host: Machine) -> None:
    for unit, user in (("valkey-server", "valkey"), ("prometheus-redis-exporter", "prometheus")):
        assert host.service(f"{unit}.service").is_running
        assert host.service(f"{unit}.service").is_enabled
        assert host.check_output("systemctl show -P User %s.service", unit) == user
        assert host.check_output("systemctl show -P NRestarts %s.service", unit) == "0"


def test_only_declared_ports_listen(
    open_to_others: set[str], this_host: Host, service: ServicePlacement
) -> None:
    assert open_to_others == {f"{this_host.address}:{port}" for port in service.ports.values()}


def test_nobody_gets_in_without_a_password(host: Machine, this_host: Host) -> None:
    answers = _talk(
        host, this_host.address, ["PING"], ["AUTH", "metrics", "wrong"], ["AUTH", "wrong"], ["INFO"]
    )

    assert answers[0].startswith("-NOAUTH")
    assert answers[1].startswith("-WRONGPASS")
    assert answers[2].startswith("-WRONGPASS")
    assert answers[3].startswith("-NOAUTH")


def test_nothing_is_evicted_and_everything_is_written(
    host: Machine, this_host: Host, metrics: list[str]
) -> None:
    asked = ("maxmemory-policy", "maxmemory", "appendonly", "appendfsync")
    answers = _talk(host, this_host.address, metrics, *(["CONFIG", "GET", name] for name in asked))
    found = dict(answers[1:])

    assert found["maxmemory-policy"] == "noeviction"
    assert 0 < int(found["maxmemory"]) <= this_host.memory * 1024 * 1024 * 6 // 10
    assert found["appendonly"] == "yes"
    assert found["appendfsync"] == "everysec"
    assert host.file("/var/lib/valkey/appendonlydir").user == "valkey"


def test_the_user_of_the_metrics_reads_no_data(host: Machine, this_host: Host, metrics: list[str]) -> None:
    answers = _talk(
        host,
        this_host.address,
        metrics,
        ["INFO", "server"],
        ["GET", "any"],
        ["SET", "any", "1"],
        ["SCAN", "0"],
    )

    assert "valkey_version:8" in answers[1]
    assert all(answer.startswith("-NOPERM") for answer in answers[2:])


def test_every_user_reaches_its_own_keys_and_administers_nothing(
    host: Machine, this_host: Host, logins: dict[str, list[str]], service: ServicePlacement
) -> None:
    for name, login in logins.items():
        key = f"{name}:freehold-proof"
        answers = _talk(
            host,
            this_host.address,
            login,
            ["SET", key, "here", "EX", "60"],
            ["GET", key],
            ["EVAL", "return redis.call('GET', KEYS[1])", "1", key],
            ["DEL", key],
            ["INFO", "memory"],
            ["GET", "of-nobody:freehold-proof"],
            ["CONFIG", "SET", "maxmemory", "1"],
            ["ACL", "LIST"],
            ["FLUSHALL"],
            ["KEYS", "*"],
        )
        assert answers[:5] == ["OK", "OK", "here", "here", "1"], name
        assert "maxmemory_policy:noeviction" in answers[5]
        if name not in service.variables.get("valkey_unprefixed", ["litellm"]):
            assert answers[6].startswith("-NOPERM"), name
        assert all(answer.startswith("-NOPERM") for answer in answers[7:]), name


def test_passwords_are_kept_as_digests(
    host: Machine, metrics: list[str], logins: dict[str, list[str]]
) -> None:
    file = host.file("/etc/valkey/users.acl")
    lines = dict(line.split(" ", 2)[1:] for line in file.content_string.splitlines() if line)

    assert set(lines) == {"default", "metrics", *logins}
    assert lines["default"] == "reset off"
    assert not [login for login in [metrics, *logins.values()] if login[2] in file.content_string]
    assert (file.user, file.group, file.mode) == ("root", "valkey", 0o640)
    environment = host.file("/etc/valkey/exporter.env")
    assert (environment.user, environment.mode) == ("root", 0o400)
    processes = host.check_output("ps -eo args")
    assert not [login for login in [metrics, *logins.values()] if login[2] in processes]


def test_metrics_tell_the_state_and_no_keys(host: Machine, this_host: Host) -> None:
    fetch = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=10).read().decode())"
    text = host.check_output("python3 -c %s %s", fetch, f"http://{this_host.address}:9121/metrics")

    assert "\nredis_up 1\n" in text
    assert "\nredis_memory_max_bytes " in text
    assert 'key="' not in text


def test_only_dependents_and_prometheus_reach_it(
    this_host: Host,
    layout: Layout,
    service: ServicePlacement,
    users: list[dict[str, Any]],
    reaching: Callable[[Any, int], set[str]],
) -> None:
    owners = {user["owner_service"] for user in users}
    hosts = {placed.name: placed.host for placed in layout.services}
    allowed = {hosts[owner] for owner in owners if owner in hosts}

    assert reaching(service.address, service.ports["resp"]) - {this_host.name} >= allowed
    prometheus = {hosts["prometheus"]} if "prometheus" in hosts else set()
    assert reaching(service.address, service.ports["metrics"]) - {this_host.name} == prometheus


@pytest.mark.parametrize("unit", ["valkey-server.service", "prometheus-redis-exporter.service"])
def test_the_units_are_hardened(host: Machine, unit: str) -> None:
    result = host.run("systemd-analyze security --no-pager --threshold=20 %s", unit)

    assert result.rc == 0, result.stdout
