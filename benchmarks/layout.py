"""How the time of a layout grows with its services: chains of made-up services, each of which needs the one before it.

    python -m benchmarks.layout

Prints milliseconds, and what twice as many services cost as a ratio: 2 is growth in step, 4 with the square.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import yaml

from freehold.layout.compute import compute
from freehold.schema.stack import Stack

SIZES = (10, 20, 40)
ROUNDS = 7


def roles(folder: Path, count: int) -> None:
    """Write the roles of a chain of services."""
    for number in range(count):
        meta = folder / f"service{number}" / "meta"
        meta.mkdir(parents=True)
        service = {
            "name": f"service{number}",
            "title": f"Service {number}",
            "slot": number,
            "os": "debian-12",
            "resources": {"cores": 1, "memory": 512, "disk": 4},
            "needs": [f"service{number - 1}"] if number else [],
            "ports": {"http": {"port": 8000, "sources": ["dependents", "users"]}},
            "variables": {"peer": "services | length", "address": "host.address"},
        }
        options = {f"service{number}_peer": {"type": "int"}, f"service{number}_address": {"type": "str"}}
        specs = {"argument_specs": {"main": {"options": options}}}
        (meta / "service.yml").write_text(yaml.safe_dump(service), encoding="utf-8")
        (meta / "argument_specs.yml").write_text(yaml.safe_dump(specs), encoding="utf-8")


def seconds(count: int) -> float:
    """The shortest of some rounds."""
    stack = Stack.model_validate(
        {
            "client": "acme",
            "domain": "acme.internal",
            "proxmox": {"endpoint": "https://pve:8006"},
            "network": {"subnet": "10.20.0.0/24"},
            "services": {f"service{count - 1}": None},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        roles(Path(folder), count)
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            compute(stack, Path("/x"), roles=Path(folder))
            times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Measure and print."""
    found = {count: seconds(count) for count in SIZES}
    for count, took in found.items():
        half = found.get(count // 2)
        ratio = f", {took / half:.1f} times that of {count // 2}" if half else ""
        print(f"{count} services: {took * 1000:.1f} ms{ratio}")


if __name__ == "__main__":
    main()
