"""The proof as a child process: Testinfra checks of ``tests/hosts`` against the hosts of a layout.

Reads one JSON document on standard input (layout, ssh_config, secrets, offline, report) and writes events to standard
output; pytest's own output goes to standard error with every secret masked.

Checks wait for hosts most of the time, so several processes like this one each prove a share of the hosts (``hosts``).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, Thread
from typing import IO, Any

import pytest

from freehold import resources
from freehold.events import Event, Stage, Status
from freehold.layout.gpu_truth import engines
from freehold.layout.types import Layout
from freehold.masking import Masked
from freehold.run.proof.report import HOST_PROPERTY, merge


@dataclass(frozen=True)
class Session:
    """What the checks know of the run that they prove."""

    layout: Layout
    ssh_config: str
    secrets: dict[str, str] = field(default_factory=dict)
    """Values by name, such as ``openwebui.admin_password``."""
    hosts: frozenset[str] | None = None
    """Names of the hosts that this process proves; all when left out."""


_session: Session | None = None


def current() -> Session:
    """The session of this process.

    Outside ``freehold verify`` (Molecule, or plain pytest) it is made from the stack file named in ``FREEHOLD_STACK``.
    """
    global _session
    if _session is None:
        from freehold.run import gpus
        from freehold.run.context import Client

        client = Client.open(os.environ["FREEHOLD_STACK"])
        gpus.look(client)
        _session = Session(client.layout, str(client.ssh().config), client.secret_values())
    return _session


_PROCESSES = 4

EVERYWHERE = ("base", "offline")
"""Test modules for all hosts, the second where nothing may lead out of them."""

ENGINES = "gpu_truth"
"""Test module for the hosts of engines, whatever their role."""


def targets(layout: Layout, module: str) -> list[str]:
    """Hosts that a test module is for: those in ``EVERYWHERE`` for all, ``test_<role>`` for those with such a service."""
    name = module.rsplit(".", 1)[-1].removeprefix("test_")
    chosen = engines(layout) if name == ENGINES else [each for each in layout.services if each.role == name]
    with_role = {service.host for service in chosen}
    return [host for host in mine() if name in EVERYWHERE or host in with_role]


def mine() -> list[str]:
    """Names of the hosts that this process proves."""
    session = current()
    return [host.name for host in session.layout.hosts if session.hosts is None or host.name in session.hosts]


class _Reporter:
    """Turns pytest's reports into events."""

    def __init__(self, out: IO[str], masked: Masked) -> None:
        self._out = out
        self._masked = masked

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        hosts: dict[str, int] = {}
        for item in session.items:
            hosts[_host(item)] = hosts.get(_host(item), 0) + 1
            item.user_properties.append((HOST_PROPERTY, _host(item)))
        for host, count in hosts.items():
            self.emit(Status.STARTED, "Proof", host, data={"checks": count})

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Any:
        outcome = yield
        report = outcome.get_result()
        if report.when == "call" or (report.when == "setup" and not report.passed):
            status = {"passed": Status.OK, "skipped": Status.SKIPPED}.get(report.outcome, Status.FAILED)
            text = "" if report.passed else self._masked.mask(report.longreprtext)
            step = item.name.split("[")[0].removeprefix("test_").replace("_", " ")
            self.emit(status, step, _host(item), message=text)
        elif report.when == "teardown" and report.failed:
            self.emit(Status.FAILED, "teardown", _host(item), message=self._masked.mask(report.longreprtext))

    def emit(
        self, status: Status, step: str, host: str, message: str = "", data: dict[str, Any] | None = None
    ) -> None:
        event = Event(
            stage=Stage.PROOF, status=status, step=step, host=host, message=message, data=data or {}
        )
        self._out.write(event.line() + "\n")
        self._out.flush()


def _host(item: pytest.Item) -> str:
    call = getattr(item, "callspec", None)
    return str(call.params.get("this_host", "")) if call else ""


def main() -> int:
    """Run the checks that the document asks for; pytest's exit code."""
    document = json.load(sys.stdin)
    names = [host["name"] for host in document["layout"]["hosts"]]
    shares = [names[first::_PROCESSES] for first in range(min(_PROCESSES, len(names)))]
    if "hosts" in document or len(shares) < 2:
        return _prove(document)
    return _share_out(document, shares)


def _share_out(document: dict[str, Any], shares: list[list[str]]) -> int:
    """Let a process prove each share of the hosts; the highest of their exit codes."""
    report = Path(document["report"])
    with TemporaryDirectory(prefix="freehold-proof-") as folder, ExitStack() as logs:
        # In the process group of this one, so that who stops the proof stops all of it.
        started = []
        for number, hosts in enumerate(shares):
            log = logs.enter_context((Path(folder) / f"{number}.log").open("w+b"))
            child = subprocess.Popen(
                [sys.executable, "-m", "freehold.run.proof"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
            part = Path(folder) / f"{number}.xml"
            started.append((child, log, part))
            assert child.stdin is not None
            with suppress(BrokenPipeError), child.stdin:
                child.stdin.write(json.dumps({**document, "hosts": hosts, "report": str(part)}).encode())
        lock = Lock()
        relays = [Thread(target=_relay, args=(child, lock)) for child, _, _ in started]
        for relay in relays:
            relay.start()
        for relay in relays:
            relay.join()
        codes = [child.wait() for child, _, _ in started]
        for _, log, _ in started:
            log.seek(0)
            shutil.copyfileobj(log, sys.stderr.buffer)
        merge([part for _, _, part in started if part.is_file()], report)
    # A share without a check of its own (5) is no failure.
    return max((code for code in codes if code != pytest.ExitCode.NO_TESTS_COLLECTED), default=0)


def _relay(child: subprocess.Popen[bytes], lock: Lock) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        with lock:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()


def _prove(document: dict[str, Any]) -> int:
    global _session
    _session = Session(
        Layout.model_validate(document["layout"]),
        document["ssh_config"],
        document.get("secrets", {}),
        frozenset(document["hosts"]) if "hosts" in document else None,
    )
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    masked = Masked(sys.stderr, _session.secrets.values())
    sys.stdout = sys.stderr = masked
    services = {
        service.role
        for service in _session.layout.services
        if _session.hosts is None or service.host in _session.hosts
    }
    common = EVERYWHERE if document.get("offline") else EVERYWHERE[:1]
    roles = (
        *sorted(services),
        *([ENGINES] if services & {each.role for each in engines(_session.layout)} else []),
    )
    modules = [resources.host_tests() / f"test_{name}.py" for name in (*common, *roles)]
    report = Path(document["report"])
    code = pytest.main(
        [
            *(str(path) for path in modules if path.is_file()),
            f"--rootdir={resources.host_tests()}",
            "--config-file=/dev/null",
            "--import-mode=importlib",
            "-p",
            "no:cacheprovider",
            "--tb=short",
            "-ra",
            "-v",
            f"--junit-xml={report}",
        ],
        plugins=[_Reporter(out, masked)],
    )
    if report.is_file():
        report.write_text(masked.mask(report.read_text(encoding="utf-8")), encoding="utf-8")
    return int(code)
