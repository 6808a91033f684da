"""A machine on the lab's network that belongs to nobody: a network namespace with an address of its own on the bridge."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

BRIDGE = "fhlab0"


@dataclass(frozen=True)
class Vantage:
    """Where somebody stands who knocks."""

    name: str
    """What he is: ``stranger``, ``user``, ``admin``."""
    address: IPv4Address

    @property
    def namespace(self) -> str:
        return f"fhaudit-{int(self.address) & 0xFFFF}"

    def run(self, argv: Sequence[str], stdin: str = "", timeout: int = 900) -> str:
        """Run a program there; what it prints."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.namespace, *argv],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"{argv}: {done.stderr[-2000:]}"
        return done.stdout


def _ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True, text=True, timeout=20)


@contextmanager
def standing(name: str, address: str, subnet: str) -> Iterator[Vantage]:
    """Somebody at that address, for a while."""
    made = Vantage(name, IPv4Address(address))
    number = int(made.address) & 0xFFFF
    here, there = f"fha{number}", f"fhb{number}"
    _ip("netns", "del", made.namespace, check=False)
    _ip("link", "del", here, check=False)
    _ip("netns", "add", made.namespace)
    try:
        _ip("link", "add", here, "type", "veth", "peer", "name", there)
        _ip("link", "set", there, "netns", made.namespace)
        _ip("link", "set", here, "master", BRIDGE, "up")
        inside = ("-n", made.namespace)
        _ip(*inside, "link", "set", "lo", "up")
        _ip(*inside, "addr", "add", f"{address}/{IPv4Network(subnet).prefixlen}", "dev", there)
        _ip(*inside, "link", "set", there, "up")
        yield made
    finally:
        _ip("link", "del", here, check=False)
        _ip("netns", "del", made.namespace, check=False)
