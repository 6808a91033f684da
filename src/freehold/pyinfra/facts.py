"""What a host says of itself over SSH: each fact is one command, however many things it asks for."""

# mypy: allow-subclassing-any, allow-untyped-decorators
from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pyinfra.api import FactBase, QuoteString, StringCommand
from typing_extensions import override

PENDING = "/var/lib/freehold/pending"
"""Directory with an empty file per handler that a written file asked for and that has not run yet."""

MANIFEST = "/etc/freehold/manifest.json"
"""What Freehold put on a host, in the host's own words (root, 0600)."""

UNFINISHED = "/etc/freehold/pending.json"
"""Services whose role began to change something and has not ended (collection, ``module_utils/pending.py``)."""


@dataclass(frozen=True)
class PathState:
    """One path as it is. ``mode`` is octal without a leading zero, as ``stat`` prints it."""

    kind: str
    mode: str = ""
    owner: str = ""
    group: str = ""
    content: str = ""
    """SHA-256 of a file, target of a link."""


_STAT = (
    's() { t=$(stat -c "%a\t%U\t%G" "$1"); '
    'case $t in *UNKNOWN*) stat -c "%a\t%u\t%g" "$1";; *) echo "$t";; esac; }; '
)
"""Mode and owners of a path; owners that have no name here, such as those of a container, by their numbers."""


class PathStates(FactBase[dict[str, PathState]]):
    """State of many paths, by path; one that does not exist is left out."""

    default = dict

    @override
    def command(self, paths: list[str]) -> StringCommand:
        script = _STAT + (
            'for p in "$@"; do '
            'if [ -L "$p" ]; then printf "%s\\tlink\\t\\t\\t\\t%s\\n" "$p" "$(readlink "$p")"; '
            'elif [ -d "$p" ]; then printf "%s\\tdirectory\\t%s\\t\\n" "$p" "$(s "$p")"; '
            'elif [ -f "$p" ]; then h=$(sha256sum < "$p"); '
            'printf "%s\\tfile\\t%s\\t%s\\n" "$p" "$(s "$p")" "${h%% *}"; '
            'elif [ -e "$p" ]; then printf "%s\\tother\\t\\t\\t\\t\\n" "$p"; fi; done'
        )
        return StringCommand("sh", "-c", QuoteString(script), "paths", *map(QuoteString, paths))

    @override
    def process(self, output: list[str]) -> dict[str, PathState]:
        rows = (line.split("\t") for line in output)
        return {path: PathState(*values) for path, *values in rows}


class SystemUsers(FactBase[set[str]]):
    """Which of some users are there."""

    default = set

    @override
    def command(self, names: list[str]) -> StringCommand:
        return StringCommand("getent passwd", *map(QuoteString, names), "|| true")

    @override
    def process(self, output: list[str]) -> set[str]:
        return {line.partition(":")[0] for line in output}


@dataclass(frozen=True)
class UnitState:
    """A systemd unit: ``load`` such as ``loaded`` or ``not-found``, ``file`` such as ``enabled`` or ``masked``."""

    load: str
    active: str
    file: str


class UnitStates(FactBase[dict[str, UnitState]]):
    """State of many systemd units, by full name."""

    default = dict

    @override
    def command(self, units: list[str]) -> StringCommand:
        return StringCommand(
            "systemctl", "show", "-p", "Id,LoadState,ActiveState,UnitFileState", *map(QuoteString, units)
        )

    @override
    def process(self, output: list[str]) -> dict[str, UnitState]:
        states = {}
        for block in "\n".join(output).split("\n\n"):
            row = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            if row:
                states[row["Id"]] = UnitState(row["LoadState"], row["ActiveState"], row["UnitFileState"])
        return states


class InstalledPackages(FactBase[set[str]]):
    """Which of the named Debian packages are installed, and whether dpkg was interrupted (:attr:`INTERRUPTED`)."""

    INTERRUPTED = "!interrupted"
    """Some package is half installed: apt refuses any work until ``dpkg --configure -a`` has ended it.

    apt looks for journals in ``/var/lib/dpkg/updates``, whose names are numbers (apt-pkg/deb/debsystem.cc).
    """

    default = set

    @override
    def command(self, packages: list[str]) -> StringCommand:
        script = (
            "dpkg-query -W -f '${Package} ${db:Status-Status}\\n' \"$@\" 2>/dev/null; "
            "if ls /var/lib/dpkg/updates | grep -q '^[0-9]*$' || dpkg-query -W -f '${db:Status-Status}\\n' "
            "| grep -qE '^(half-configured|unpacked|triggers-pending)'; "
            f"then echo {self.INTERRUPTED}; fi"
        )
        return StringCommand("sh", "-c", QuoteString(script), "packages", *map(QuoteString, packages))

    @override
    def process(self, output: list[str]) -> set[str]:
        rows = (line.split() for line in output)
        return {name for name, *status in rows if status in (["installed"], [])}


ARCHIVES = "/etc/apt/sources.list.d"
"""Where lists of package archives lie."""

ASIDE = ".freehold.disabled"
"""Ending of a list of package archives that was put aside; apt passes over ``.disabled`` in silence."""


class ArchiveFiles(FactBase[list[str]]):
    """Files that name package archives, and those that were put aside (:data:`ASIDE`)."""

    default = list

    @override
    def command(self) -> StringCommand:
        return StringCommand(
            f"ls -d /etc/apt/sources.list {ARCHIVES}/*.list {ARCHIVES}/*.sources"
            f" /etc/apt/*{ASIDE} {ARCHIVES}/*{ASIDE} 2>/dev/null || true"
        )

    @override
    def process(self, output: list[str]) -> list[str]:
        return sorted(line for line in output if line)


class PendingHandlers(FactBase[set[str]]):
    """Handlers that were asked for and have not run, even if the run that asked was killed."""

    default = set

    @override
    def command(self) -> StringCommand:
        return StringCommand("ls", PENDING, "2>/dev/null || true")

    @override
    def process(self, output: list[str]) -> set[str]:
        return {line for line in output if line}


FIREWALL_IN_FORCE = "{ cat /etc/nftables.conf; nft -s list table inet freehold; } 2>/dev/null | sha256sum"
"""Prints a fingerprint of the firewall's file together with the rules that the kernel holds."""

FIREWALL_APPLIED = "/var/lib/freehold/firewall.sha256"
"""That fingerprint as it was when the file was last applied."""


class FirewallInForce(FactBase[bool]):
    """Whether the rules in the kernel are those of ``/etc/nftables.conf``, with nothing added or taken away."""

    default = bool

    @override
    def command(self) -> StringCommand:
        return StringCommand(f"{FIREWALL_IN_FORCE}; cat {FIREWALL_APPLIED} 2>/dev/null || true")

    @override
    def process(self, output: list[str]) -> bool:
        return len(output) == 2 and output[0] == output[1]


class ControllerAddress(FactBase[str]):
    """The address from which this SSH connection comes, as the host sees it; empty without SSH."""

    default = str

    @override
    def command(self) -> StringCommand:
        return StringCommand("echo", '"${SSH_CONNECTION%% *}"')

    @override
    def process(self, output: list[str]) -> str:
        return output[0].strip() if output else ""


# Runs on the host, whose Python may be older than the controller's.
_READ_MANIFEST = f"""
import hashlib, json, subprocess
def checksum(path):
    try:
        with open(path, "rb") as handle:
            return hashlib.sha256(handle.read()).hexdigest()
    except OSError:
        return None
def content(path):
    try:
        with open(path) as handle:
            return json.load(handle)
    except (OSError, ValueError):
        return {{}}
manifest = content({MANIFEST!r})
sections = [manifest.get("base") or {{}}] + list((manifest.get("services") or {{}}).values())
files = sorted(set(path for section in sections for path in section.get("files") or ()))
units = sorted(set(unit for section in sections for unit in section.get("units") or ()))
states = []
if units:
    answer = subprocess.run(["systemctl", "is-active", "--"] + units, stdout=subprocess.PIPE, universal_newlines=True)
    states = answer.stdout.split()
print(json.dumps({{
    "manifest": manifest,
    "files": {{path: checksum(path) for path in files}},
    "units": dict(zip(units, states)),
    "pending": sorted(content({UNFINISHED!r})),
}}))
"""


class HostManifest(FactBase[dict[str, Any]]):
    """The host's manifest beside what is really there.

    ``manifest`` is the content of ``/etc/freehold/manifest.json`` (empty when there is none), ``files`` maps every
    path named in it to its checksum now (``None`` when it is gone), ``units`` every unit to its state now. ``pending``
    lists services whose role began to change something and has not ended. A host without Python
    has had no base system yet: the answer is empty.
    """

    default = dict

    @override
    def requires_command(self) -> str:
        return "python3"

    @override
    def command(self) -> StringCommand:
        return StringCommand("python3", "-c", QuoteString(_READ_MANIFEST))

    @override
    def process(self, output: list[str]) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads("\n".join(output))
        return answer
