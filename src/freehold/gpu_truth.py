"""The GPU truth test: does an engine compute on the GPUs that it was given? Standard library alone.

An engine whose unit runs is no evidence: Ollama falls back to the CPU without a word, and inside a container
``nvidia-smi`` lists no processes. So the engine is asked for one token, and then two accounts are taken:

- the *engine's*, on its own host: what it says of its language models (Ollama's ``size_vram``), how much of the memory of
  the cards that it sees is in use, and whether its unit was restarted meanwhile;
- the *node's*: the memory of each process on each card as the driver reports it, with the container that the process is in
  (``/proc/<pid>/cgroup``).

The proof of a run sends this file to hosts and nodes and judges what it prints; a timer runs it there each hour and writes
the verdict where the node exporter finds it. So it imports nothing of ours, and runs with the Python of Debian 12 and 13.

    python3 gpu_truth.py engine '{"role": "ollama", ...}'      what the engine says, as JSON
    python3 gpu_truth.py node                                  what the node sees, as JSON
    python3 gpu_truth.py watch <configuration> <figures>       both verdicts of one machine, as figures

Sources: ``nvidia-smi --help-query-compute-apps`` and ``--help-query-gpu``; ``rocm_smi.py`` of ROCm (``showPids``,
``showGpusByPid``, ``showBus``); ``PVE::LXC`` (``lxc.cgroup.dir.container = lxc/<vmid>``, inner ``ns``); Ollama ``docs/api.md``
(``/api/ps``).
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MINIMUM = 1024
"""MiB that must be in use on a card where the weights' size is not known: a CUDA context alone takes 300 to 600."""

_PATIENCE = 300.0
"""Seconds that one token may take: Ollama may have to load the language model first."""
_ASKING = 60.0
"""Seconds that a tool of a driver may take."""

Run = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class Card:
    """One GPU as its driver shows it."""

    uuid: str
    """UUID; for AMD the PCI address, since its tools name processes by position."""
    pci: str
    """PCI address with domain and function, such as ``0000:01:00.0``."""
    used: int | None
    """MiB in use, by whomever; none where the driver does not say."""


@dataclass(frozen=True)
class Process:
    """One process on one card."""

    card: str
    """UUID of the card."""
    pid: int
    memory: int | None
    """MiB; none where the driver does not say."""
    vmid: int | None = None
    """Its container; none for processes of the node itself."""
    unit: str = ""
    """Its systemd unit inside the container."""


@dataclass(frozen=True)
class Seen:
    """What a node sees."""

    cards: tuple[Card, ...] = ()
    processes: tuple[Process, ...] = ()
    error: str = ""
    """What the driver's tool said instead, if it failed."""

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Seen:
        """From plain data."""
        return cls(
            tuple(Card(**card) for card in data["cards"]),
            tuple(Process(**process) for process in data["processes"]),
            data["error"],
        )


@dataclass(frozen=True)
class Expected:
    """What must be true of an engine."""

    service: str
    role: str
    vmid: int
    unit: str
    url: str
    """Where the engine itself answers on its host, past the proxy."""
    key_file: str = ""
    """File of its key, ``NAME=value`` on a line; empty where it asks for none."""
    key_name: str = ""
    gpus: tuple[str, ...] = ()
    """PCI addresses or UUIDs of its cards; none where the stack says that it computes on the CPU."""
    every: bool = True
    """Whether each of the cards must hold a part: engines with tensor parallelism use all, Ollama as many as it needs."""
    shared: bool = False
    """Whether another host has a share of one of the cards."""
    measured: bool = True
    """Whether the makers of its cards have a tool that tells whose memory is in use: NVIDIA and AMD have, Intel has not."""
    minimum: int = MINIMUM
    """MiB of weights on each card, at least."""
    models: tuple[str, ...] = field(default=())
    """Names of the language models at the engine; those that it lists when empty."""

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Expected:
        """From plain data."""
        return cls(**{**data, "gpus": tuple(data["gpus"]), "models": tuple(data["models"])})


# --- what tools print ------------------------------------------------------------------------------------------------


def table(text: str) -> list[dict[str, str]]:
    """Rows of ``nvidia-smi --format=csv`` by the names of its first line, without units (``used_gpu_memory``).

    What a driver prints instead of a table (``No devices were found``) gives no rows.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    rows = list(csv.reader(lines, skipinitialspace=True))
    if not rows or len(rows[0]) < 2:
        return []
    names = [name.split(" [")[0].strip() for name in rows[0]]
    return [
        dict(zip(names, (cell.strip() for cell in row), strict=True))
        for row in rows[1:]
        if len(row) == len(names)
    ]


def mebibytes(text: str) -> int | None:
    """``77002 MiB`` as a number; none for ``[N/A]``, ``[Not Supported]``, ``[Insufficient Permissions]`` and the like."""
    found = re.fullmatch(r"(\d+)(?: MiB)?", text.strip())
    return int(found.group(1)) if found else None


def pci_address(text: str) -> str:
    """A PCI address as the kernel writes it: ``00000000:01:00.0`` is ``0000:01:00.0``."""
    address = text.strip().lower()
    return address[4:] if re.fullmatch(r"0000[0-9a-f]{4}:.*", address) else address


def compute_apps(text: str) -> list[Process]:
    """Processes of ``nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory --format=csv``, columns in any order."""
    return [
        Process(row["gpu_uuid"], int(row["pid"]), mebibytes(row.get("used_gpu_memory", "")))
        for row in table(text)
        if row.get("gpu_uuid", "").startswith(("GPU-", "MIG-")) and row.get("pid", "").isdigit()
    ]


def cards(text: str) -> list[Card]:
    """Cards of ``nvidia-smi --query-gpu=uuid,pci.bus_id,memory.used --format=csv``."""
    return [
        Card(row["uuid"], pci_address(row["pci.bus_id"]), mebibytes(row.get("memory.used", "")))
        for row in table(text)
        if row.get("uuid", "").startswith("GPU-")
    ]


def container(cgroup: str) -> tuple[int, str] | None:
    """VMID and systemd unit of a process from ``/proc/<pid>/cgroup`` on a node; none for a process of the node itself.

    ``0::/lxc/105/ns/system.slice/vllm.service`` with one hierarchy of control groups, ``4:memory:/lxc/105/ns/...`` with many.
    """
    for line in cgroup.splitlines():
        found = re.search(r":/lxc/(\d+)(?:/ns)?(/.*)?$", line)
        if found:
            units = re.findall(r"/([^/]+\.(?:service|scope))", found.group(2) or "")
            return int(found.group(1)), units[0] if units else ""
    return None


def rocm_processes(pids: str, gpus: str, bus: str) -> list[Process]:
    """Processes on AMD's cards, from ``rocm-smi --showpids``, ``--showpidgpus`` and ``--showbus``.

    ``--showpids`` says how much memory a process has on all cards together, and its column ``GPU(s)`` is their number, not
    which (ROCm/rocm_smi_lib#166); so the memory is known only of a process on one card.
    """
    addresses = {
        int(n): pci_address(pci)
        for n, pci in re.findall(r"^GPU\[(\d+)\]\s*: PCI Bus: (\S+)", bus, re.MULTILINE)
    }
    used: dict[int, str] = {}
    for line in pids.splitlines():
        cells = line.split()  # a process's name may have spaces: the figures are counted from the end
        if len(cells) >= 6 and cells[0].isdigit():
            used[int(cells[0])] = cells[-3]
    on: dict[int, list[int]] = {}
    current: list[int] | None = None
    for line in gpus.splitlines():
        if head := re.match(r"PID (\d+) is using \d+ DRM device", line):
            current = on.setdefault(int(head.group(1)), [])
        elif current is not None and re.fullmatch(r"[\d ]+", line):
            current += [int(number) for number in line.split()]
        else:
            current = None
    found = []
    for pid, positions in on.items():
        memory = used.get(pid, "")
        known = len(positions) == 1 and memory.isdigit()
        found += [
            Process(addresses[position], pid, int(memory) // 2**20 if known else None)
            for position in positions
            if position in addresses
        ]
    return found


def rocm_cards(bus: str, memory: str) -> list[Card]:
    """AMD's cards, from ``rocm-smi --showbus`` and ``--showmeminfo vram``."""
    used = dict(re.findall(r"^GPU\[(\d+)\]\s*: VRAM Total Used Memory \(B\): (\d+)", memory, re.MULTILINE))
    return [
        Card(pci_address(pci), pci_address(pci), int(used[n]) // 2**20 if n in used else None)
        for n, pci in re.findall(r"^GPU\[(\d+)\]\s*: PCI Bus: (\S+)", bus, re.MULTILINE)
    ]


# --- looking ---------------------------------------------------------------------------------------------------------


class ToolError(Exception):
    """A driver's tool did not answer; the text is what it said."""


class NoToolError(ToolError):
    """The tool is not there: the machine may have cards of another maker."""


def run(command: Sequence[str]) -> str:
    """Output of a tool.

    Raises:
        ToolError: It is not there, hangs or fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_ASKING)
    except FileNotFoundError as error:
        raise NoToolError(f"there is no {command[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{command[0]} does not end within {_ASKING:.0f} s: the driver hangs") from error
    if done.returncode:
        said = (done.stdout.strip() or done.stderr.strip()).splitlines()
        raise ToolError(f"{command[0]} failed: {said[0] if said else f'exit code {done.returncode}'}")
    return done.stdout


def _nvidia(asking: Run, what: str) -> str:
    return asking(["nvidia-smi", what, "--format=csv"])


def look(asking: Run = run, proc: Path = Path("/proc")) -> Seen:
    """What this node sees: cards of NVIDIA and of AMD, and the processes on them with their containers."""
    found: list[Card] = []
    processes: list[Process] = []
    errors, missing = [], []
    try:
        found += cards(_nvidia(asking, "--query-gpu=uuid,pci.bus_id,memory.used"))
        processes += compute_apps(_nvidia(asking, "--query-compute-apps=gpu_uuid,pid,used_memory"))
    except NoToolError as error:
        missing.append(str(error))
    except ToolError as error:
        errors.append(str(error))
    try:
        bus = asking(["rocm-smi", "--showbus"])
        found += rocm_cards(bus, asking(["rocm-smi", "--showmeminfo", "vram"]))
        processes += rocm_processes(
            asking(["rocm-smi", "--showpids"]), asking(["rocm-smi", "--showpidgpus"]), bus
        )
    except NoToolError as error:
        missing.append(str(error))
    except ToolError as error:
        errors.append(str(error))
    placed = []
    for process in processes:
        try:
            inside = container((proc / str(process.pid) / "cgroup").read_text(encoding="utf-8"))
        except OSError:  # it ended in between
            inside = None
        vmid, unit = inside or (None, "")
        placed.append(Process(process.card, process.pid, process.memory, vmid, unit))
    said = errors or ([] if found else missing or ["its tools list no card"])
    return Seen(tuple(found), tuple(placed), "; ".join(said))


def _unit(unit: str, asking: Run) -> dict[str, str]:
    names = "ActiveState,NRestarts,ActiveEnterTimestampMonotonic,InvocationID"
    lines = asking(["systemctl", "show", "-p", names, unit]).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _key(expected: Expected) -> str:
    if not expected.key_file:
        return ""
    text = Path(expected.key_file).read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(expected.key_name)}=(.*)$", text, re.MULTILINE)
    return found.group(1).strip() if found else ""


def _ask(expected: Expected, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """One question to the engine.

    Raises:
        urllib.error.HTTPError: It refuses.
        OSError: It does not answer.
        ValueError: What it answers is no JSON.
    """
    headers = {"Content-Type": "application/json"}
    if key := _key(expected):
        headers["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(expected.url + path, data, headers)  # noqa: S310 - always the loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_PATIENCE) as answer:
        return json.load(answer)


def _one_token(expected: Expected, name: str) -> None:
    """The least work that a language model can be given, whatever it is for."""
    if expected.role == "ollama":
        tries: tuple[tuple[str, dict[str, Any]], ...] = (
            (
                "/api/generate",
                {"model": name, "prompt": "Hello", "stream": False, "options": {"num_predict": 1}},
            ),
            ("/api/embed", {"model": name, "input": "Hello"}),
        )
    else:
        tries = (
            ("/v1/completions", {"model": name, "prompt": "Hello", "max_tokens": 1}),
            ("/v1/embeddings", {"model": name, "input": "Hello"}),
            ("/v1/rerank", {"model": name, "query": "Hello", "documents": ["Hello"]}),
        )
    for number, (path, body) in enumerate(tries, start=1):
        try:
            _ask(expected, path, body)
        except urllib.error.HTTPError as error:
            if error.code not in (400, 404, 405) or number == len(tries):
                said = error.read(300).decode("utf-8", "replace").strip()
                raise OSError(f"HTTP {error.code} at {path}: {said}") from error
        else:
            return


def _to_ask(expected: Expected, *, idle: bool) -> list[str]:
    """Names of the language models to ask. With ``idle`` nothing is loaded that was not: only what the engine holds."""
    if expected.role != "ollama":
        return list(expected.models) or [model["id"] for model in _ask(expected, "/v1/models")["data"]][:1]
    listed = [str(model["name"]) for model in _ask(expected, "/api/tags")["models"]]
    wanted = [name if ":" in name else f"{name}:latest" for name in expected.models] or listed
    if not idle:
        return wanted
    loaded = [str(model["name"]) for model in _ask(expected, "/api/ps")["models"]]
    return [name for name in loaded if name in wanted][:1] or wanted[:1]


def ask(expected: Expected, *, idle: bool = False, asking: Run = run) -> dict[str, Any]:
    """Ask the engine for a token of each of its language models, and take its account.

    Args:
        expected: The engine; this is its host.
        idle: Ask one language model alone, one that is loaded if there is one: what a timer may do to a busy engine.
        asking: Runs tools.
    """
    told: dict[str, Any] = {"error": "", "asked": [], "models": [], "cards": [], "cards_error": ""}
    try:
        told["before"] = _unit(expected.unit, asking)
        for name in _to_ask(expected, idle=idle):
            _one_token(expected, name)
            told["asked"].append(name)
            if expected.role == "ollama":
                # Right away: the next language model may push this one out.
                loaded = {model["name"]: model for model in _ask(expected, "/api/ps")["models"]}
                told["models"] += [
                    {key: loaded[name].get(key, 0) for key in ("name", "size", "size_vram")}
                    if name in loaded
                    else {"name": name, "size": 0, "size_vram": 0}
                ]
        told["after"] = _unit(expected.unit, asking)
    except (ToolError, OSError, ValueError, KeyError) as error:
        told["error"] = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
    if expected.gpus:
        try:
            told["cards"] = [
                asdict(card) for card in cards(_nvidia(asking, "--query-gpu=uuid,pci.bus_id,memory.used"))
            ]
        except ToolError as error:
            told["cards_error"] = str(error)
    return told


# --- judging ---------------------------------------------------------------------------------------------------------


def judge_engine(expected: Expected, told: Mapping[str, Any]) -> list[str]:
    """What is wrong by the engine's own account; nothing for an engine that may compute on the CPU and answers."""
    if told["error"]:
        return [f"{expected.service} does not answer: {told['error']}"]
    if not told["asked"]:
        return [f"{expected.service} serves no language model"]
    problems = []
    before, after = told["before"], told["after"]
    if after.get("ActiveState") != "active":
        problems.append(f"{expected.unit} is {after.get('ActiveState', 'unknown')}")
    for name in ("NRestarts", "InvocationID", "ActiveEnterTimestampMonotonic"):
        if before.get(name) != after.get(name):
            problems.append(f"{expected.unit} was restarted while it was asked ({name} changed)")
            break
    if expected.gpus:
        problems += [
            f"{model['name']}: {_gib(model['size_vram'])} of {_gib(model['size'])} GiB are in VRAM, "
            "so that the rest computes on the CPU"
            for model in told["models"]
            if not model["size"] or model["size_vram"] != model["size"]
        ]
    return problems


def judge_cards(expected: Expected, told: Mapping[str, Any]) -> list[str]:
    """What is wrong with the memory in use of the cards that the engine's host sees: the evidence where no node is asked.

    It cannot tell whose memory it is, so it is no evidence for a card that two hosts share.
    """
    if not expected.gpus:
        return []
    if expected.role == "ollama" and (expected.shared or told["cards_error"]):
        return []  # its own word is about its own processes
    if expected.shared:
        return [
            f"{expected.service} shares a card with another host, and only the node knows whose memory is in use: "
            "give Freehold SSH to the node (nodes.<name>.address)"
        ]
    if told["cards_error"]:
        return [f"{expected.service} cannot see its cards: {told['cards_error']}"]
    found = [Card(**card) for card in told["cards"]]
    problems, held = [], 0
    for key in expected.gpus:
        card = _find(found, key)
        if card is None:
            problems.append(f"{expected.service} does not see the card {key}")
        elif card.used is None or card.used < expected.minimum:
            if expected.every:
                problems.append(_too_little(expected, card, card.used))
        else:
            held += 1
    if not problems and not held:
        problems.append(f"{expected.service} holds nothing on any of its cards: it computes on the CPU")
    return problems


def judge(expected: Expected, seen: Seen) -> list[str]:
    """What is wrong by the node's account: the engine's processes must hold memory on its cards, and on no other."""
    if not expected.gpus:
        return []
    if seen.error:
        return [f"the node does not see its GPUs: {seen.error}"]
    own = [process for process in seen.processes if process.vmid == expected.vmid]
    problems, assigned, held = [], set(), 0
    for key in expected.gpus:
        card = _find(seen.cards, key)
        if card is None:
            problems.append(f"the node has no GPU {key}, which {expected.service} was given")
            continue
        assigned.add(card.uuid)
        here = [process for process in own if process.card == card.uuid]
        if not here:
            if expected.every:
                problems.append(
                    f"no process of {expected.service} (container {expected.vmid}) computes on {_name(card)}: "
                    "it computes on the CPU or on another card"
                )
            continue
        memory = _memory(card, here, seen.processes)
        if memory is None:
            problems.append(
                f"the driver does not say how much memory of {_name(card)} {expected.service} holds, and others use it too"
            )
        elif memory < expected.minimum:
            problems.append(_too_little(expected, card, memory))
        else:
            held += 1
    if not problems and not held:
        problems.append(
            f"no process of {expected.service} (container {expected.vmid}) computes on any of its cards: "
            "it computes on the CPU"
        )
    elsewhere = sorted({process.card for process in own} - assigned)
    problems += [
        f"{expected.service} (container {expected.vmid}) computes on {uuid}, which it was not given"
        for uuid in elsewhere
    ]
    return problems


def _find(found: Sequence[Card], key: str) -> Card | None:
    wanted = pci_address(key)
    return next((card for card in found if key == card.uuid or wanted == card.pci), None)


def _memory(card: Card, here: Sequence[Process], everyone: Sequence[Process]) -> int | None:
    """MiB of the processes; that of the card where the driver does not say, if nobody else uses it."""
    known = [process.memory for process in here if process.memory is not None]
    if len(known) == len(here):
        return sum(known)
    alone = all(process.vmid == here[0].vmid for process in everyone if process.card == card.uuid)
    return card.used if alone else None


def _too_little(expected: Expected, card: Card, memory: int | None) -> str:
    held = "an unknown amount of memory" if memory is None else f"{memory} MiB"
    return (
        f"{expected.service} holds {held} of {_name(card)}; with its language model there it would be {expected.minimum} MiB "
        "or more"
    )


def _name(card: Card) -> str:
    return f"{card.uuid} ({card.pci})" if card.uuid != card.pci else card.pci


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f}"


# --- watching --------------------------------------------------------------------------------------------------------


def figures(verdicts: Mapping[str, Sequence[str]], seen_by: str, client: str, now: float) -> str:
    """Verdicts as figures for the node exporter: 1 where nothing is wrong, and the time of the look."""
    lines = [
        "# HELP freehold_gpu_truth Whether the engine's language models are in the memory of its GPUs (1) or not (0).",
        "# TYPE freehold_gpu_truth gauge",
    ]
    labels = {
        service: f'{{client="{client}",service="{service}",seen_by="{seen_by}"}}' for service in verdicts
    }
    lines += [
        f"freehold_gpu_truth{labels[service]} {0 if wrong else 1}" for service, wrong in verdicts.items()
    ]
    lines.append("# TYPE freehold_gpu_truth_timestamp_seconds gauge")
    lines += [f"freehold_gpu_truth_timestamp_seconds{label} {now:.0f}" for label in labels.values()]
    return "\n".join(lines) + "\n"


def verdicts(
    engines: Sequence[Expected], seen_by: str, asking: Run = run, proc: Path = Path("/proc")
) -> dict[str, list[str]]:
    """The verdict on each engine, by service, from its own host (``engine``) or from the node (``node``).

    From the node, an engine that loads its language models when asked (Ollama) and holds none now is left out: its own
    host knows better.
    """
    if seen_by == "engine":
        found = {}
        for expected in engines:
            told = ask(expected, idle=True, asking=asking)
            wrong = judge_engine(expected, told)
            # A host without NVIDIA's tools (AMD, Intel) has the engine's word alone, and so has one that shares a card.
            if not wrong and expected.measured and not expected.shared and not told["cards_error"]:
                wrong = judge_cards(expected, told)
            found[expected.service] = wrong
        return found
    seen = look(asking, proc)
    present = {process.vmid for process in seen.processes}
    return {
        expected.service: judge(expected, seen)
        for expected in engines
        if expected.measured and (seen.error or expected.every or expected.vmid in present)
    }


def _watch(configuration: str, path: str) -> None:
    told = json.loads(Path(configuration).read_text(encoding="utf-8"))
    engines = [Expected.of(each) for each in told["engines"]]
    found = verdicts(engines, told["seen_by"])
    for service, wrong in found.items():
        for text in wrong:
            print(f"{service}: {text}", file=sys.stderr)
    new = Path(f"{path}.new")
    new.write_text(figures(found, told["seen_by"], told["client"], time.time()), encoding="utf-8")
    new.chmod(0o644)
    new.replace(path)


def main(arguments: Sequence[str]) -> int:
    """See the top of this file."""
    match list(arguments):
        case ["engine", given]:
            print(json.dumps(ask(Expected.of(json.loads(given)))))
        case ["node"]:
            print(json.dumps(look().as_dict()))
        case ["watch", configuration, path]:
            _watch(configuration, path)
        case _:
            print(
                "usage: gpu_truth.py engine JSON | node | watch CONFIGURATION FIGURES",
                file=sys.stderr,
            )
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
