"""Fixtures of the checks that prove every host: the layout, the host at hand, its services and secrets.

``freehold verify`` runs these files; Molecule and plain pytest do so with ``FREEHOLD_STACK`` naming a stack file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from ipaddress import IPv4Address
from typing import TypeVar

import pytest
import testinfra
from testinfra.host import Host as Machine

from freehold.layout.network import EXPORTER_PORT
from freehold.layout.types import Host, Layout, ServicePlacement
from freehold.run.proof import child

Answer = TypeVar("Answer")


@cache
def _machine(name: str) -> Machine:
    return testinfra.get_host(f"ssh://{name}", ssh_config=child.current().ssh_config)


@cache
def _silent() -> dict[str, str]:
    """What SSH says of the hosts that do not answer. Asked once and at once: no check waits for such a host again."""

    def ask(name: str) -> str:
        try:
            _machine(name).run("true")
        except RuntimeError as error:
            return str(getattr(error.args[0], "stderr", error)).strip()
        return ""

    names = child.mine()
    with ThreadPoolExecutor(len(names)) as pool:
        answers = zip(names, pool.map(ask, names), strict=True)
    return {name: answer for name, answer in answers if answer}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "this_host" in metafunc.fixturenames:
        names = child.targets(child.current().layout, metafunc.module.__name__)
        metafunc.parametrize("this_host", names, indirect=True)


@pytest.fixture(scope="session")
def layout() -> Layout:
    """The layout of the client."""
    return child.current().layout


@pytest.fixture
def this_host(request: pytest.FixtureRequest, layout: Layout) -> Host:
    """The host at hand, as the layout wants it; it answers over SSH."""
    if reason := _silent().get(request.param):
        pytest.fail(f"{request.param} does not answer over SSH: {reason}", pytrace=False)
    return layout.host(request.param)


@pytest.fixture
def host(this_host: Host) -> Machine:
    """The host at hand, over SSH."""
    return _machine(this_host.name)


@pytest.fixture
def machine() -> Callable[[str], Machine]:
    """Any host of the layout by its name, over SSH."""
    return _machine


@pytest.fixture
def service(request: pytest.FixtureRequest, layout: Layout, this_host: Host) -> ServicePlacement:
    """The service that the test module is about, on the host at hand."""
    return layout.of_role(request.module.__name__.rsplit(".", 1)[-1].removeprefix("test_"), this_host.name)


@pytest.fixture
def open_to_others(host: Machine) -> set[str]:
    """Addresses with ports where the host listens to others, but for SSH and its own figures; what filters them is nftables."""
    listeners = [line.split()[4] for line in host.check_output("ss -Hltnu").splitlines()]
    return {
        re.sub(r"\[::ffff:(.+)\]", r"\1", entry)
        for entry in listeners
        if not entry.startswith(("127.", "[::1]", "[fe80"))
        and not entry.endswith((":22", f":{EXPORTER_PORT}"))
    }


@pytest.fixture
def age_of_backup(host: Machine, service: ServicePlacement) -> Callable[[str], float | None]:
    """Seconds since the last backup of the service, as the monitoring is told, by the unit that makes it.

    None where there is no monitoring. Before the first night the unit is started.
    """

    def age(unit: str) -> float | None:
        folder = "/var/lib/prometheus/node-exporter"
        if not host.file(folder).exists:
            assert not host.file("/etc/systemd/system/prometheus-node-exporter.service").exists
            return None
        told = f"{folder}/{service.role}.prom"
        if not host.file(told).exists:
            host.check_output("systemctl start %s", unit)
        name, when = host.file(told).content_string.split()
        assert name == f'freehold_backup_timestamp_seconds{{service="{service.role}"}}'
        return float(host.check_output("date +%s")) - float(when)

    return age


@pytest.fixture
def secret() -> Callable[[str], str]:
    """The value of a secret by its name, such as ``openwebui.admin_password``."""
    return lambda name: child.current().secrets[name]


@pytest.fixture
def everywhere(layout: Layout) -> Callable[[Callable[[Machine], Answer]], dict[str, Answer]]:
    """Asks every host of the layout at once, since most of what is asked is whether a wait ends; answers by host."""

    def ask(question: Callable[[Machine], Answer]) -> dict[str, Answer]:
        names = [host.name for host in layout.hosts]
        with ThreadPoolExecutor(len(names)) as pool:
            return dict(zip(names, pool.map(lambda name: question(_machine(name)), names), strict=True))

    return ask


@pytest.fixture
def reaching(
    everywhere: Callable[[Callable[[Machine], bool]], dict[str, bool]],
) -> Callable[[IPv4Address, int], set[str]]:
    """Names of the hosts that can open a connection to an address and a port."""

    def names(address: IPv4Address, port: int) -> set[str]:
        command = f"timeout 2 bash -c 'exec 3<>/dev/tcp/{address}/{port}'"
        return {name for name, opened in everywhere(lambda host: host.run(command).rc == 0).items() if opened}

    return names
