"""No way leads out of a host: proven where a stack is brought up or verified with ``--offline``."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from testinfra.host import Host as Machine

from freehold.catalog import versions

UPSTREAM = sorted({str(urlsplit(entry.upstream).hostname) for entry in versions.load().values()})
"""Hosts of the projects whose software is installed; any will do, as long as they are many and not ours."""
RESOLVERS = ("1.1.1.1", "9.9.9.9")
_CONNECT = "timeout 3 bash -c 'exec 3<>/dev/tcp/{0}/{1}' 2>/dev/null && echo {0}:{1}"


def _opened(host: Machine, places: list[tuple[str, int]]) -> list[str]:
    """Which of these places a connection opens to; all are tried at once."""
    tries = " & ".join(f"({_CONNECT.format(name, port)})" for name, port in places)
    return sorted(host.run(f"({tries} & wait)").stdout.split())


def test_the_projects_whose_software_runs_here_are_out_of_reach(host: Machine) -> None:
    assert len(UPSTREAM) > 5
    assert _opened(host, [(name, 443) for name in UPSTREAM]) == []


@pytest.mark.parametrize("port", [53, 443])
def test_resolvers_of_the_world_are_out_of_reach(host: Machine, port: int) -> None:
    assert _opened(host, [(address, port) for address in RESOLVERS]) == []


def test_the_mirror_is_the_only_archive_of_packages(host: Machine) -> None:
    listed = host.check_output("apt-get indextargets --format '$(REPO_URI)'").split()
    mirror = host.file("/etc/apt/sources.list.d/freehold.sources").content_string
    assert listed
    assert all(address.rstrip("/") in mirror for address in listed)
