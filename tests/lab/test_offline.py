"""A stack from the client's own mirror while no way leads out of its hosts, and a counter that says that none was tried."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import yaml

from freehold.mirror.serve import Server, server

from .freehold_command import Freehold

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CLIENT = "offline"
FIRST = IPv4Address("10.86.0.9")
MIRROR = "10.86.0.253"
"""An address of the lab's bridge of its own. The lab lets its containers reach port 8080 of the machine, and nothing else."""
TABLE = "freehold_offline"
CLOSED = f"""
table inet {TABLE} {{}}
delete table inet {TABLE}
table inet {TABLE} {{
  set hosts {{ type ipv4_addr; elements = {{ {{hosts}} }}; }}
  counter out {{}}
  chain forward {{
    type filter hook forward priority -10
    ip saddr @hosts oifname != "fhlab0" counter name out reject
  }}
  chain input {{
    type filter hook input priority -10
    ip saddr @hosts ip daddr != {MIRROR} ct state new counter name out reject
  }}
}}
"""


def _nft(*words: str, rules: str | None = None) -> str:
    return subprocess.run(["nft", *words], input=rules, capture_output=True, text=True, check=True).stdout


def _tried() -> int:
    """Packets that wanted out."""
    found = re.search(r"packets (\d+)", _nft("list", "counter", "inet", TABLE, "out"))
    assert found
    return int(found[1])


@pytest.fixture(scope="module")
def stack(freehold: Freehold) -> Path:
    path = freehold.write(
        CLIENT,
        str(FIRST),
        2300,
        services={"caddy": None, "postgres": None, "qdrant": None},
        hosts={},
        users=[],
        groups=[],
    )
    freehold("lab", "versions", str(path.parent))
    freehold("prepare", CLIENT)
    return path


@pytest.fixture(scope="module")
def mirror(freehold: Freehold, stack: Path) -> Iterator[Server]:
    folder = freehold.home / "mirror"
    filled = freehold.json("mirror", "build", str(folder), CLIENT)
    assert filled["fetched"] > 300
    subprocess.run(["ip", "address", "replace", f"{MIRROR}/32", "dev", "fhlab0"], check=True)
    try:
        with server(folder, MIRROR, 8080) as running:
            threading.Thread(target=running.serve_forever, daemon=True).start()
            document = yaml.safe_load(stack.read_text())
            document["sources"] = {"mirror": f"http://{MIRROR}:8080"}
            stack.write_text(yaml.safe_dump(document, sort_keys=False))
            yield running
            running.shutdown()
    finally:
        subprocess.run(["ip", "address", "delete", f"{MIRROR}/32", "dev", "fhlab0"], check=True)


@pytest.fixture(scope="module")
def closed() -> Iterator[None]:
    hosts = ", ".join(str(FIRST + slot) for slot in (10, 20, 75))
    _nft("-f", "-", rules=CLOSED.replace("{hosts}", hosts))
    try:
        yield
    finally:
        _nft("delete", "table", "inet", TABLE)


def test_without_a_mirror_it_says_what_to_do(freehold: Freehold, stack: Path) -> None:
    done = freehold("up", CLIENT, "--offline", code=2)
    assert "sources.mirror" in done.stderr
    assert "freehold mirror build" in done.stderr


def test_a_second_build_fetches_nothing(freehold: Freehold, mirror: Server) -> None:
    again = freehold.json("mirror", "build", str(freehold.home / "mirror"), CLIENT)
    assert again["fetched"] == 0
    assert again["files"] > 300


def test_what_the_mirror_lacks_is_known_before_anything_is_touched(
    freehold: Freehold, mirror: Server
) -> None:
    index = freehold.home / "mirror/freehold.json"
    whole = index.read_text()
    index.write_text(
        re.sub(r'"pypi:debian-12:(?=[0-9a-f]{64}": \{\s+"files": \[\s+"pypi/caddy)', '"other:', whole)
    )
    assert index.read_text() != whole
    try:
        done = freehold("up", CLIENT, "--offline", code=2)
    finally:
        index.write_text(whole)
    assert "The mirror lacks: Python packages of caddy" in done.stderr
    assert {entry["state"] for entry in freehold.json("status", CLIENT)} == {"missing"}


def test_with_the_way_out_closed_everything_comes_from_the_mirror(
    freehold: Freehold, mirror: Server, closed: None
) -> None:
    summary = freehold.up(CLIENT, "--offline", "--no-proof")
    assert {host["host"] for host in summary["hosts"]} == {"caddy", "postgres", "qdrant"}
    assert _tried() == 0, "a host tried to reach what is not the mirror"


def test_a_second_run_changes_nothing(freehold: Freehold, mirror: Server, closed: None) -> None:
    assert freehold.up(CLIENT, "--offline", "--no-proof")["changes"] == {}
    assert _tried() == 0


def test_that_no_way_leads_out_is_proven_on_every_host(
    freehold: Freehold, mirror: Server, closed: None
) -> None:
    lines = freehold("verify", CLIENT, "--offline", "--json").stdout
    assert "the projects whose software runs here are out of reach" in lines
    assert _tried() > 0, "the proof itself tried every way out, and the counter saw it"
