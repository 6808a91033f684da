"""Proof of the one way out: what is on the list gets out, and nothing else, from any host and whoever asks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host as Machine

from freehold.layout.types import Host, Layout, ServicePlacement

# Asks the proxy as any program does, and says which status it answers.
_ASK = """
import socket, sys
address, request = sys.argv[1], sys.argv[2]
try:
    door = socket.create_connection((address, 3128), timeout=10)
except OSError:
    print(0)
    raise SystemExit
door.settimeout(60)
door.sendall(request.encode().decode("unicode_escape").encode())
print(door.recv(64).split()[1].decode())
"""


def _asked(machine: Machine, service: ServicePlacement, request: str) -> int:
    return int(machine.check_output("python3 -c %s %s %s", _ASK, str(service.address), request))


def _connect(name: str, port: int = 443) -> str:
    return f"CONNECT {name}:{port} HTTP/1.1\\r\\nHost: {name}:{port}\\r\\n\\r\\n"


def _get(address: str) -> str:
    return f"GET {address} HTTP/1.1\\r\\nHost: {address.split('/')[2]}\\r\\nConnection: close\\r\\n\\r\\n"


@pytest.fixture
def ways(service: ServicePlacement) -> dict[str, dict[str, Any]]:
    return {host["name"]: host for host in service.variables["egress_hosts"]}


def test_no_host_gets_out_past_it(
    this_host: Host, layout: Layout, everywhere: Callable[[Callable[[Machine], Any]], dict[str, Any]]
) -> None:
    """At once, and counted: an address of a documentation range (RFC 5737), which leads nowhere."""
    if layout.egress is None:
        pytest.skip("the stack lets everything out (egress.closed)")
    try_it = "timeout 5 bash -c 'exec 3<>/dev/tcp/192.0.2.1/443'; echo $?"
    names = (
        "timeout 5 python3 -c 'import socket; socket.getaddrinfo(\"example.com\", 443)' 2>/dev/null; echo $?"
    )

    def refused(machine: Machine) -> int:
        rules = json.loads(machine.check_output("nft -j list chain inet freehold output"))["nftables"]
        parts = [part for rule in rules if "rule" in rule for part in rule["rule"]["expr"]]
        return sum(part["counter"]["packets"] for part in parts if "counter" in part)

    def ask(machine: Machine) -> tuple[str, str, bool]:
        before = refused(machine)
        # on the way out itself, the proxy's user alone may ask
        user = "runuser -u nobody -- " if machine.backend.get_hostname() == this_host.name else ""
        answers = (
            machine.check_output(f"{user}sh -c %s", try_it),
            machine.check_output(f"{user}sh -c %s", names),
        )
        return (*answers, refused(machine) > before)

    for name, (connected, resolved, counted) in everywhere(ask).items():
        direct = {
            rule.port
            for rule in layout.host(name).outgoing or ()
            if "names" in rule.comment and "root" in rule.users
        }
        assert connected == "1", f"{name}: {connected}"  # 124 would be a wait
        assert name == this_host.name or direct or resolved == "1", name
        assert counted, name


def test_every_host_is_refused_what_is_not_on_its_list(
    service: ServicePlacement,
    layout: Layout,
    everywhere: Callable[[Callable[[Machine], Any]], dict[str, Any]],
) -> None:
    # Of these, the monitoring makes no alarm: they lead nowhere.
    questions = [_connect("freehold.invalid"), _get("http://freehold.invalid/"), _connect("192.0.2.1")]
    answers = everywhere(lambda machine: [_asked(machine, service, question) for question in questions])

    assert answers == {host.name: [403] * len(questions) for host in layout.hosts}


def test_what_is_on_the_list_is_let_through(
    service: ServicePlacement,
    ways: dict[str, dict[str, Any]],
    machine: Callable[[str], Machine],
    host: Machine,
    layout: Layout,
) -> None:
    """That it is let through, not that it answers: what lies outside may be away."""
    there = {host.name for host in layout.hosts}  # the list has hosts that this run leaves out, too
    archive = host.check_output("apt-get indextargets --no-release-info --format '$(REPO_URI)'").split()[0]
    for name, entry in ways.items():
        if name not in there:
            continue
        asked = [_get(archive)] if "debian" in entry["clients"] and archive.startswith("http:") else []
        asked += [
            _connect(way["name"], way["port"]) if way["tls"] else _get(f"http://{way['name']}:{way['port']}/")
            for way in entry["ways"]
            if way["private"] and not way["name"].startswith(".")
        ]
        answers = [_asked(machine(name), service, question) for question in asked]
        assert 403 not in answers, name
        assert 0 not in answers, name


def test_nobody_gets_into_a_network_of_ours_by_way_of_it(
    host: Machine, service: ServicePlacement, layout: Layout
) -> None:
    inside = str(layout.hosts[-1].address)
    for question in (
        _connect("127.0.0.1", 22),
        _connect(inside, 22),
        _get(f"http://{inside}:80/"),
        _connect("169.254.169.254", 80),
        _get("http://169.254.169.254/latest/meta-data/"),
        _get("http://localhost/"),
    ):
        assert _asked(host, service, question) == 403, question


def test_only_its_own_user_gets_out_of_it(host: Machine, layout: Layout) -> None:
    if layout.egress is None:
        pytest.skip("the stack lets everything out (egress.closed)")
    rules = host.check_output("nft list chain inet freehold output")

    assert "policy drop" in rules
    for line in rules.splitlines():
        if "0.0.0.0/0" in line or re.search(r"^\s+(tcp|udp) dport .* accept", line):
            assert "meta skuid" in line, line
    for user in ("root", "nobody"):
        assert host.run(f"runuser -u {user} -- timeout 5 bash -c 'exec 3<>/dev/tcp/192.0.2.1/443'").rc == 1


def test_it_looks_into_nothing_and_keeps_nothing(host: Machine, open_to_others: set[str]) -> None:
    configuration = host.file("/etc/squid/squid.conf").content_string

    assert "cache deny all" in configuration
    assert "ssl_bump" not in configuration
    assert configuration.rstrip().endswith("http_access deny all")
    assert {entry.rpartition(":")[2] for entry in open_to_others} <= {"3128", "*"} | _dns_sockets(
        open_to_others
    )


def _dns_sockets(entries: set[str]) -> set[str]:
    """The socket with which Squid asks for names: the firewall lets nobody in there."""
    return {entry.rpartition(":")[2] for entry in entries if entry.startswith(("0.0.0.0:", "[::]:", "*:"))}


def test_log_says_who_asked_for_which_name_and_no_more(
    host: Machine, service: ServicePlacement, this_host: Host
) -> None:
    assert _asked(host, service, _get("http://example.com/a-path?a-question=1")) == 403
    lines = host.check_output("tail -n 5 /var/log/squid/access.log").splitlines()
    ours = [line for line in lines if "example.com:80" in line]

    assert ours
    # "ABORTED" where the one who asked was gone before the last byte of the page.
    assert re.search(rf" {this_host.address} GET example\.com:80 TCP_DENIED(_ABORTED)?/403 ", ours[-1])
    assert "a-path" not in "".join(lines)
    assert "a-question" not in "".join(lines)
    assert host.run("logrotate --debug /etc/logrotate.d/squid").rc == 0


def test_who_was_refused_is_counted(
    host: Machine, layout: Layout, service: ServicePlacement, this_host: Host
) -> None:
    state = "/var/lib/egress/counted.json"
    host.check_output("systemctl start egress-count.service")
    before = json.loads(host.file(state).content_string)["denied"][this_host.name]
    assert _asked(host, service, _connect("example.com")) == 403
    host.check_output("systemctl start egress-count.service")

    assert json.loads(host.file(state).content_string)["denied"][this_host.name] == before + 1
    if layout.monitor:
        figures = host.file("/var/lib/prometheus/node-exporter/egress.prom").content_string
        assert (
            f'freehold_egress_denied_total{{service="egress",from="{this_host.name}"}} {before + 1}\n'
            in figures
        )


def test_it_stays_within_its_bounds(host: Machine) -> None:
    properties = host.check_output(
        "systemctl show -p User,MemoryMax,NoNewPrivileges,ProtectSystem squid.service"
    )

    assert "NoNewPrivileges=yes" in properties
    assert "ProtectSystem=strict" in properties
    assert "MemoryMax=infinity" not in properties
    assert host.check_output("ps -o user= -C squid | sort -u").split()[-1] in {"proxy", "root"}
    assert "proxy" in host.check_output("ps -eo user,comm | grep squid")
