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
