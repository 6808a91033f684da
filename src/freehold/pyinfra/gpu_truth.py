"""The timer of the GPU truth test on the hosts of engines and on nodes: see :mod:`freehold.gpu_truth`."""

# mypy: allow-untyped-decorators
from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyinfra import host
from pyinfra.api import StringCommand, operation

from freehold import gpu_truth
from freehold.layout.gpu_truth import engines, expectation, watched
from freehold.layout.types import Layout, ServicePlacement
from freehold.pyinfra.facts import PathStates
from freehold.pyinfra.system import Directory, Entry, File
from freehold.render import render

FIGURES = "/var/lib/prometheus/node-exporter"
"""Directory whose files the node exporter reads (Debian's package, and our unit of it)."""
LIBRARY = "/usr/local/lib/freehold"
HANDLER = "gpu-truth"


@dataclass(frozen=True)
class Watch:
    """The timer on one machine: on an engine's host for that engine, on a node for all engines of a client there."""

    layout: Layout
    services: Sequence[ServicePlacement]
    node: bool
    engine: bool = True
    """Whether there is an engine at all; other hosts are not even asked for a timer that is left over."""

    @classmethod
    def of_host(cls, layout: Layout, name: str) -> Watch:
        """On the host of an engine."""
        here = [each for each in watched(layout) if each.host == name]
        return cls(layout, here, node=False, engine=any(each.host == name for each in engines(layout)))

    @classmethod
    def of_node(cls, layout: Layout, name: str) -> Watch:
        """On a node. Several clients may use one: each has a timer of its own there."""
        here = {each.name for each in layout.hosts if each.node == name}
        return cls(layout, [each for each in watched(layout) if each.host in here], node=True)

    @property
    def wanted(self) -> bool:
        """Whether there is something to watch, and someone who is told."""
        return bool(self.services and self.layout.monitor)

    @property
    def name(self) -> str:
        """Name of the unit, without its ending."""
        return f"freehold-gpu-truth-{self.layout.client}" if self.node else "freehold-gpu-truth"

    @property
    def timer(self) -> str:
        """The unit that is enabled."""
        return f"{self.name}.timer"

    @property
    def configuration(self) -> str:
        """File that says what is expected."""
        return f"/etc/freehold/{self.name.removeprefix('freehold-')}.json"

    @property
    def figures(self) -> str:
        """File with the verdict."""
        return f"{FIGURES}/{self.name}.prom"

    @property
    def paths(self) -> list[str]:
        """All files that are this timer's own."""
        units = [f"/etc/systemd/system/{self.name}.{kind}" for kind in ("service", "timer")]
        return [*units, self.configuration, self.figures]

    def entries(self) -> list[Entry]:
        """What belongs on the machine; nothing where it is not wanted."""
        if not self.wanted:
            return []
        program = f"{LIBRARY}/gpu_truth.py"
        told = {
            "client": self.layout.client,
            "seen_by": "node" if self.node else "engine",
            "engines": [expectation(self.layout, service).as_dict() for service in self.services],
        }
        variables = {
            "client": self.layout.client,
            "node": self.node,
            "program": program,
            "configuration": self.configuration,
            "figures": self.figures,
        }
        units = (
            File(
                f"/etc/systemd/system/{self.name}.{kind}",
                render(f"gpu_truth/watch.{kind}.j2", variables),
                handler=HANDLER,
            )
            for kind in ("service", "timer")
        )
        return [
            Directory(LIBRARY),
            # read anew at every run
            File(program, Path(gpu_truth.__file__).read_text(encoding="utf-8")),
            Directory("/etc/freehold", mode="700"),
            File(self.configuration, json.dumps(told, indent=1, sort_keys=True) + "\n", mode="600"),
            *units,
        ]

    def handlers(self) -> dict[str, str]:
        """What runs after a change of the units."""
        return {HANDLER: f"systemctl daemon-reload && systemctl restart {self.timer}"}


@operation()
def no_watch(unit: str, paths: Sequence[str]) -> Iterator[StringCommand]:
    """Stop and remove the timer of the truth test where no engine computes on a GPU any more, or nobody is told.

    + unit: the timer
    + paths: its files
    """
    if not host.get_fact(PathStates, paths=list(paths)):
        host.noop("there is no timer of the truth test")
        return
    yield StringCommand(
        f"systemctl disable --now {unit} 2>&1; rm -f {' '.join(paths)} && systemctl daemon-reload"
    )
