"""What the way out writes for itself: who was refused is counted once, whatever becomes of the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from freehold.render import render

LINE = "2026-11-22T02:07:01+0100 {host} CONNECT {name}:443 {answer} 3868\n"
VARIABLES = {
    "egress_hosts": [{"name": "n8n", "address": "10.0.0.45"}, {"name": "litellm", "address": "10.0.0.50"}]
}


class Counter:
    """The program that counts, with files of the test."""

    def __init__(self, folder: Path) -> None:
        self.log, self.figures = folder / "access.log", folder / "egress.prom"
        self.program: dict[str, Any] = {"__name__": "count"}
        text = render("egress/count.py.j2", VARIABLES)
        hosts = folder / "hosts.json"
        hosts.write_text(render("egress/hosts.json.j2", VARIABLES))
        exec(compile(text.replace("/etc/egress/hosts.json", str(hosts)), "count.py", "exec"), self.program)
        self.program |= {"LOG": self.log, "STATE": folder / "counted.json", "FIGURES": self.figures}

    def write(self, *lines: str) -> None:
        with self.log.open("a") as stream:
            stream.writelines(lines)

    def count(self) -> dict[str, int]:
        self.program["main"]()
        lines = [line.rpartition(" ") for line in self.figures.read_text().splitlines() if "from=" in line]
        return {name.split('"')[3] + " " + name.split("_")[2]: int(number) for name, _, number in lines}


@pytest.fixture
def counter(tmp_path: Path) -> Counter:
    return Counter(tmp_path)


def denied(host: str = "10.0.0.45", name: str = "telemetry.example.com") -> str:
    return LINE.format(host=host, name=name, answer="TCP_DENIED/403")


def test_each_refusal_is_counted_once(counter: Counter) -> None:
    assert counter.count()["n8n denied"] == 0
    counter.write(
        denied(), denied(), LINE.format(host="10.0.0.50", name="a.example", answer="TCP_TUNNEL/200")
    )
    assert counter.count() == {"n8n denied": 2, "litellm denied": 0, "n8n allowed": 0, "litellm allowed": 1}
    assert counter.count()["n8n denied"] == 2
    counter.write(denied())
    assert counter.count()["n8n denied"] == 3


def test_a_line_that_is_half_written_is_counted_when_it_is_whole(counter: Counter) -> None:
    line = denied()
    counter.write(line[:30])
    assert counter.count()["n8n denied"] == 0
    counter.write(line[30:])
    assert counter.count()["n8n denied"] == 1


def test_a_new_log_is_read_from_its_beginning(counter: Counter, tmp_path: Path) -> None:
    counter.write(denied(), denied())
    counter.count()
    counter.log.rename(tmp_path / "access.log-20261122")
    counter.write(denied())
    assert counter.count()["n8n denied"] == 3


def test_the_proof_makes_no_alarm(counter: Counter) -> None:
    counter.write(denied(name="freehold.invalid"), denied(name="192.0.2.1"), denied(host="10.0.0.99"))
    assert counter.count()["n8n denied"] == 0
    assert json.loads(render("egress/hosts.json.j2", VARIABLES))["hosts"] == {
        "10.0.0.45": "n8n",
        "10.0.0.50": "litellm",
    }


def way(name: str, port: int = 443, *, tls: bool = True, private: bool = False) -> dict[str, Any]:
    return {"name": name, "port": port, "tls": tls, "private": private}


HOSTS = [
    {
        "name": "litellm",
        "address": "10.0.0.50",
        "clients": ["debian", "npm"],
        "ways": [
            way("api.acme.example"),
            way("ai.inside.example", private=True),
            way(".files.example", 8443),
        ],
    },
    {"name": "n8n", "address": "10.0.0.45", "clients": [], "ways": []},
]


class Squid:
    """Decides as Squid does: line by line, and within a line from the left until something does not fit."""

    def __init__(self) -> None:
        archive = way("archive.example", 80, tls=False)
        options = {
            "egress_hosts": HOSTS,
            "egress_address": "10.0.0.5",
            "egress__registries": {"debian": [archive], "python": []},
        }
        lines = [line.split() for line in render("egress/squid.conf.j2", options).splitlines()]
        self.lists = {line[1]: line[2:] for line in lines if line[:1] == ["acl"]}
        self.rules = [line[1:] for line in lines if line[:1] == ["http_access"]]
        self.resolved: list[str] = []
        self.inside: set[str] = set()

    def fits(self, word: str, host: str, method: str, name: str, port: int) -> bool:
        if word in ("all", "CONNECT", "manager"):
            return {"all": True, "CONNECT": method == "CONNECT", "manager": False}[word]
        kind, *values = self.lists[word]
        if kind == "dst":
            self.resolved.append(name)
            return name in self.inside
        if kind == "dstdomain":
            names = ["registry.example"] if values[1].startswith('"') else values[1:]
            return any(name == each or (each[0] == "." and name.endswith(each)) for each in names)
        known = {"src": f"{host}/32", "port": str(port), "method": method}
        return known[kind] in values

    def lets(self, host: str, method: str, name: str, port: int = 443) -> bool:
        for verdict, *words in self.rules:
            if all(self.fits(word, host, method, name, port) for word in words):
                return verdict == "allow"
        raise AssertionError("no rule")


@pytest.mark.parametrize("method", ["CONNECT", "GET", "POST"])
@pytest.mark.parametrize("host", ["10.0.0.50", "10.0.0.45", "10.0.0.99"])
@pytest.mark.parametrize("port", [443, 80, 8443])
def test_no_name_server_hears_of_a_name_that_is_not_on_the_list(host: str, method: str, port: int) -> None:
    squid = Squid()

    assert not squid.lets(host, method, "mf2gk4tj.attacker.example", port)
    assert squid.resolved == []


def test_a_listed_name_is_let_through_unless_it_leads_inside() -> None:
    squid = Squid()
    asked = [
        ("CONNECT", "api.acme.example", 443),
        ("CONNECT", "a.files.example", 8443),
        ("CONNECT", "registry.example", 443),
        ("GET", "archive.example", 80),
    ]
    assert all(squid.lets("10.0.0.50", *each) for each in asked)
    assert squid.resolved == [name for _, name, _ in asked]

    squid.inside = {name for _, name, _ in asked} | {"ai.inside.example"}
    assert not any(squid.lets("10.0.0.50", *each) for each in asked)
    # What the client named itself may lie inside; nobody else's list holds it.
    assert squid.lets("10.0.0.50", "CONNECT", "ai.inside.example")
    assert not squid.lets("10.0.0.45", "CONNECT", "ai.inside.example")
    assert not squid.lets("10.0.0.50", "GET", "ai.inside.example")
    assert not squid.lets("10.0.0.50", "CONNECT", "api.acme.example", 22)
