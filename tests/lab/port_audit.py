"""What answers on the network of a client's hosts, and whether what answers wants credentials.

Two looks, both computed from the layout: nmap scans all TCP ports of all hosts from somebody's place on the network, and
what is found is held against what the layout lets him reach; then every port is knocked at without credentials
(``port_audit.yml``), from a host or a place that may reach it.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import yaml

from freehold.layout.types import Host, Layout

from .freehold_command import Freehold
from .vantage import Vantage

TRIES: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))
KNOCK = Path(__file__).with_name("port_audit_knock.py")
EXPORTER = {"tries": ["GET /", "GET /metrics", "GET /debug/pprof/"]}
"""The node exporter of each host: its figures want a password."""
_REFUSED = frozenset({401, 403, 404, 405})
_NMAP = (
    "nmap",
    "-sS",
    "-p-",
    "-PE",
    "--disable-arp-ping",
    "-n",
    "-T4",
    "--min-rate",
    "50000",
    "--max-retries",
    "1",
    "--max-rtt-timeout",
    "300ms",
    "--min-hostgroup",
    "64",
)


def allowed(host: Host, address: IPv4Address) -> frozenset[int]:
    """Ports of a host that the layout lets an address reach; a range is left out, since nobody outside a cluster has one."""
    return frozenset(
        rule.port for rule in host.rules if not rule.last and any(address in net for net in rule.sources)
    )


def scan(vantage: Vantage, hosts: Iterable[Host]) -> dict[str, frozenset[int]]:
    """Open TCP ports of each host, of all 65,535, as seen from a place. Every host must have answered an echo request.

    Raises:
        AssertionError: A host did not answer, so that nothing is known of it.
    """
    by_address = {str(host.address): host.name for host in hosts}
    out = vantage.run([*_NMAP, "-oG", "-", *by_address])
    found: dict[str, frozenset[int]] = {}
    for line in out.splitlines():
        if match := re.match(r"Host: (\S+) .*\tPorts: ([^\t]*)", line):
            open_ = re.findall(r"(\d+)/open/tcp", match[2])
            found[by_address[match[1]]] = frozenset(map(int, open_))
        elif match := re.match(r"Host: (\S+) .*\tStatus: Up", line):
            found.setdefault(by_address[match[1]], frozenset())
    assert set(found) == set(by_address.values()), f"no echo from {set(by_address.values()) - set(found)}"
    return found


@dataclass(frozen=True)
class Knocked:
    """One try without credentials."""

    service: str
    port: str
    number: int
    came_from: str
    tried: str
    answer: str
    verdict: str
    """``refused``, ``redirect``, ``open`` (as it should be) or ``WRONG``."""
    why: str = ""

    def row(self) -> str:
        """The try as a row of a table in Markdown."""
        cells = (
            f"{self.service} {self.port} ({self.number})",
            self.came_from,
            f"`{self.tried}`",
            self.answer,
        )
        return "| " + " | ".join((*cells, f"{self.verdict}{': ' if self.why else ''}{self.why}")) + " |"


def knock(freehold: Freehold, layout: Layout, user: Vantage) -> list[Knocked]:
    """Try every port of every service, and every application through the gateway."""
    wanted: dict[str, list[dict[str, Any]]] = {}
    for entry in _knocks(layout, user):
        wanted.setdefault(entry.pop("from"), []).append(entry)
    found: list[Knocked] = []
    for place, knocks in wanted.items():
        found += [_judged(each, place) for each in _made(freehold, layout, user, place, knocks)]
    return found


def _knocks(layout: Layout, user: Vantage) -> Iterable[dict[str, Any]]:
    for service in layout.services:
        host = layout.host(service.host)
        for port, number in service.ports.items():
            how = TRIES[service.role][port]
            place = _who_may(layout, host, number, user)
            if "not" not in how:
                yield from _of_port(how, service.name, port, host, number, place or host.name)
    for host in layout.hosts:
        if (place := _who_may(layout, host, 9100, user)) is not None:
            yield from _of_port(EXPORTER, host.name, "node exporter", host, 9100, place)
    gateway = next((host for host in layout.hosts if "caddy" in host.services), None)
    for route in layout.routes if gateway else ():
        how = TRIES[layout.service(route.service).role]["http"]
        for entry in _of_port(how, route.service, "https", gateway, 443, user.name):
            yield {**entry, "host": route.fqdn, "port_name": f"by the gateway as {route.fqdn}"}


def _of_port(
    how: Mapping[str, Any], service: str, port: str, host: Host | None, number: int, place: str
) -> Iterable[dict[str, Any]]:
    assert host is not None
    open_ = how.get("open") or {}
    for tried in (*how["tries"], *open_):
        yield {
            "from": place,
            "service": service,
            "port_name": port,
            "address": str(host.address),
            "port": number,
            "speaks": how.get("speaks", "http"),
            "try": tried,
            "why": open_.get(tried, ""),
            "says": how.get("says", {}).get(tried, ""),
        }


def _who_may(layout: Layout, host: Host, port: int, user: Vantage) -> str | None:
    """The user or a host, if the layout lets one in; None where it lets in nobody, so that the host must ask itself."""
    rule = next((rule for rule in host.rules if rule.port == port), None)
    if rule is None:
        return None
    if any(user.address in network for network in rule.sources):
        return user.name
    peers = (peer for peer in layout.hosts if any(peer.address in network for network in rule.sources))
    return next((peer.name for peer in peers if peer.name != host.name), None)


def _made(
    freehold: Freehold, layout: Layout, user: Vantage, place: str, knocks: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Knock from a host over SSH, or from the user's place."""
    if place == user.name:
        out = user.run(["python3", str(KNOCK)], json.dumps(knocks))
    else:
        config = freehold.home / "state/freehold" / layout.client / "ssh_config"
        program = f"python3 -c {json.dumps('import sys,json;exec(json.loads(sys.stdin.readline()))')}"
        done = subprocess.run(
            ["ssh", "-F", str(config), "-o", "BatchMode=yes", place, program],
            input=f"{json.dumps(KNOCK.read_text(encoding='utf-8'))}\n{json.dumps(knocks)}",
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        out = done.stdout
    made: list[dict[str, Any]] = json.loads(out)
    return made


def _judged(entry: Mapping[str, Any], place: str) -> Knocked:
    status, answer = entry.get("status"), str(entry["answer"])
    told = status == 400 and bool(entry["says"]) and entry["says"] in entry.get("text", "")
    refused = (
        told or status in _REFUSED or (status is None and answer.startswith(("refused", "password wanted")))
    )
    if refused:
        verdict = "refused"
    elif status and 300 <= status < 400:
        verdict = "redirect"
    else:
        verdict = "open" if entry["why"] and status in (200, 400) else "WRONG"
    return Knocked(
        service=entry["service"],
        port=entry["port_name"],
        number=entry["port"],
        came_from=place,
        tried=entry["try"],
        answer=answer + (f" {entry['text'][:80]!r}" if verdict == "WRONG" and entry.get("text") else ""),
        verdict=verdict,
        why=str(entry["why"]) if verdict == "open" else str(entry.get("location", ""))[:80],
    )
