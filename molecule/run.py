"""Runs the Molecule scenarios of roles, in parallel where their addresses allow it, and notes which of them passed.

    make molecule                      all roles
    make molecule ROLE=caddy           one role
    make molecule ROLE=caddy OS=debian-13
    make molecule-changed              roles that differ from those that passed last, and caddy always

A scenario is ``roles/<role>/molecule/<name>/``; its containers are those of ``molecule/<role>/stack.yml``, or for another
name than ``default`` of ``molecule/<role>-<name>/stack.yml``. Scenarios whose stacks begin at the same address
(``network.first``) would get in each other's way, and run one after the other: they are a lane.

``molecule/results.json`` says of each scenario what passed (a digest of the role, the roles it imports, their templates,
their proof and the scenario's stack), on which release of Debian, and how long it took in seconds.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freehold.ansible.digest import imported, packages
from freehold.layout.compute import load_layout
from freehold.schema.load import load_stack

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "molecule/results.json"
ALWAYS = frozenset({"caddy"})
"""Scenarios that run even when nothing of them changed: they stand for the machinery itself."""
LONGEST = 3600
"""Seconds after which a scenario has failed."""

_writing = threading.Lock()


@dataclass(frozen=True)
class Scenario:
    """One scenario of a role."""

    role: str
    name: str

    @property
    def title(self) -> str:
        """``caddy``, or ``caddy/debian-13``."""
        return self.role if self.name == "default" else f"{self.role}/{self.name}"

    @property
    def stack(self) -> Path:
        """The stack file of its containers."""
        folder = self.role if self.name == "default" else f"{self.role}-{self.name}"
        return ROOT / "molecule" / folder / "stack.yml"

    @property
    def lane(self) -> str:
        """First address of its containers."""
        return str(load_stack(self.stack).stack.network.first)

    @property
    def os(self) -> str:
        """Release of Debian of the role's container."""
        return load_layout(self.stack).host(self.role).os

    def digest(self) -> str:
        """Of all that this scenario is about."""
        found = hashlib.sha256()
        for path in sorted(self._files()):
            found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
        return found.hexdigest()

    def _files(self) -> Iterator[Path]:
        yield self.stack
        for role in (self.role, *imported(ROOT / "roles" / self.role)):
            yield from _below(ROOT / "roles" / role)
            yield from _below(ROOT / "templates" / role)
            for name in packages(ROOT / "roles" / role):
                yield from _below(ROOT / "src/freehold" / name)
            yield from (ROOT / "tests/hosts").glob(f"test_{role.replace('-', '_')}.py")


def _below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def scenarios() -> list[Scenario]:
    """All scenarios of all roles."""
    files = sorted(ROOT.glob("roles/*/molecule/*/molecule.yml"))
    return [Scenario(path.parents[2].name, path.parent.name) for path in files]


def read_results() -> dict[str, dict[str, Any]]:
    """What passed, by title."""
    found: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    return found


@contextmanager
def alone(lane: str) -> Iterator[None]:
    """Waits until nobody else on this machine, such as from another checkout, runs scenarios at these addresses."""
    lab = Path(os.environ.get("FREEHOLD_LAB_DIR", "/var/lib/freehold-lab"))
    with (lab / f"molecule-{lane}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def in_turn(lane: str, scenarios: list[Scenario]) -> list[bool]:
    """Run the scenarios of a lane one after the other; which of them passed."""
    outcomes = []
    for scenario in scenarios:
        with alone(lane):
            outcomes.append(run(scenario))
    return outcomes


def run(scenario: Scenario) -> bool:
    """Run one scenario; whether it passed. What Molecule says goes to ``molecule.log`` beside the stack file."""
    digest, os_, began = scenario.digest(), scenario.os, time.monotonic()
    log = scenario.stack.with_name("molecule.log")
    command = ["molecule", "test", "--scenario-name", scenario.name]
    print(f"{scenario.title:<24} started", flush=True)
    with log.open("wb") as stream:
        try:
            done = subprocess.run(
                command,
                cwd=ROOT / "roles" / scenario.role,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                timeout=LONGEST,
                check=False,
            )
            passed = done.returncode == 0
        except subprocess.TimeoutExpired:
            stream.write(f"\nNo end after {LONGEST} seconds.\n".encode())
            passed = False
    seconds = round(time.monotonic() - began)
    print(f"{scenario.title:<24} {'passed' if passed else 'FAILED'} after {seconds} s on {os_}", flush=True)
    if passed:
        with _writing:
            results = read_results() | {scenario.title: {"digest": digest, "os": os_, "seconds": seconds}}
            RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    else:
        tail = log.read_text(errors="replace").splitlines()[-40:]
        print("\n".join(f"    {line}" for line in tail), flush=True)
    return passed


def chosen(arguments: argparse.Namespace) -> list[Scenario]:
    """The scenarios that the command line asks for.

    Raises:
        SystemExit: A role or a release is named that has no scenario.
    """
    found = scenarios()
    if arguments.roles:
        found = [scenario for scenario in found if scenario.role in arguments.roles]
        if lacking := set(arguments.roles) - {scenario.role for scenario in found}:
            sys.exit(f"No scenario: {', '.join(sorted(lacking))}")
    if arguments.os:
        found = [scenario for scenario in found if scenario.os == arguments.os]
    elif arguments.roles:
        found = [scenario for scenario in found if scenario.name == "default"]
    if arguments.changed:
        passed = read_results()
        found = [
            scenario
            for scenario in found
            if scenario.title in ALWAYS or passed.get(scenario.title, {}).get("digest") != scenario.digest()
        ]
    if not found:
        sys.exit("No scenario fits.")
    return found


def main() -> int:
    """Run the scenarios; 1 when one failed."""
    parser = argparse.ArgumentParser(description="Run Molecule scenarios of roles.")
    parser.add_argument("roles", nargs="*", metavar="ROLE", help="roles; all when left out")
    parser.add_argument("--os", help="the scenarios on this release of Debian, such as debian-13")
    parser.add_argument(
        "--changed", action="store_true", help="those that differ from what passed, and caddy"
    )
    parser.add_argument("--list", action="store_true", help="say what would run, and stop")
    arguments = parser.parse_args()
    lanes: dict[str, list[Scenario]] = defaultdict(list)
    for scenario in chosen(arguments):
        lanes[scenario.lane].append(scenario)
    for first, lane in sorted(lanes.items()):
        print(f"{first:<16} {', '.join(scenario.title for scenario in lane)}", flush=True)
    if arguments.list:
        return 0
    began = time.monotonic()
    with ThreadPoolExecutor(min(len(lanes), os.cpu_count() or 1)) as pool:
        outcomes = pool.map(in_turn, lanes.keys(), lanes.values())
        passed = [outcome for lane in outcomes for outcome in lane]
    print(f"{sum(passed)} of {len(passed)} scenarios passed in {time.monotonic() - began:.0f} s")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
