"""What facts make of a host's answers."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from freehold.pyinfra.facts import (
    HostManifest,
    InstalledPackages,
    PathState,
    PathStates,
    UnitState,
    UnitStates,
)


def test_path_states_of_real_paths(tmp_path: Path) -> None:
    """The script runs for real: it is what every host runs."""
    plain, link, hollow = tmp_path / "a file", tmp_path / "link", tmp_path / "hollow"
    plain.write_text("a\n")
    plain.chmod(0o640)
    link.symlink_to("/somewhere/else")
    hollow.mkdir(mode=0o700)
    fact = PathStates()
    command = fact.command([str(plain), str(link), str(hollow), str(tmp_path / "missing"), "/dev/null"])

    output = subprocess.run(["sh", "-c", command.get_raw_value()], capture_output=True, text=True, check=True)
    states = fact.process(output.stdout.splitlines())

    owner, group = plain.owner(), plain.group()
    assert states == {
        str(plain): PathState(
            "file", "640", owner, group, "87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7"
        ),
        str(link): PathState("link", content="/somewhere/else"),
        str(hollow): PathState("directory", "700", owner, group),
        "/dev/null": PathState("other"),
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owners_without_a_name_are_numbers(tmp_path: Path) -> None:
    os.chown(tmp_path, 102108, 102108)
    tmp_path.chmod(0o755)
    command = PathStates().command([str(tmp_path)]).get_raw_value()

    output = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert PathStates().process(output.splitlines()) == {
        str(tmp_path): PathState("directory", "755", "102108", "102108")
    }


def test_unit_states() -> None:
    text = """\
Id=ssh.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled

Id=nothing.service
LoadState=not-found
ActiveState=inactive
UnitFileState="""

    assert UnitStates().process(text.splitlines()) == {
        "ssh.service": UnitState("loaded", "active", "enabled"),
        "nothing.service": UnitState("not-found", "inactive", ""),
    }


def test_removed_packages_do_not_count() -> None:
    lines = ["python3 installed", "nftables config-files", "locales not-installed"]

    assert InstalledPackages().process(lines) == {"python3"}


@pytest.mark.parametrize(
    ("journal", "status", "interrupted"),
    [
        (None, "install ok installed", False),
        ("0001", "install ok installed", True),
        ("tmp.i", "install ok installed", False),
        (None, "install ok half-configured", True),
        (None, "install ok unpacked", True),
        (None, "install ok triggers-pending", True),
        (None, "deinstall ok config-files", False),
    ],
)
def test_an_interrupted_installation_is_seen(
    tmp_path: Path, journal: str | None, status: str, interrupted: bool
) -> None:
    """The script runs for real, with dpkg's own tools over a database of the test."""
    (tmp_path / "updates").mkdir()
    (tmp_path / "info").mkdir()
    (tmp_path / "status").write_text(
        f"Package: one\nStatus: {status}\nMaintainer: nobody\nArchitecture: all\nVersion: 1\n"
        + ("Triggers-Pending: two\n" if "triggers" in status else "")
        + "Description: one\n"
    )
    if journal:
        (tmp_path / "updates" / journal).write_text("")
    script = InstalledPackages().command(["one"]).get_raw_value().replace("/var/lib/dpkg", str(tmp_path))
    environment = {"PATH": os.environ["PATH"], "DPKG_ADMINDIR": str(tmp_path)}
    output = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, env=environment)

    found = InstalledPackages().process(output.stdout.splitlines())

    assert (InstalledPackages.INTERRUPTED in found) == interrupted
    assert ("one" in found) == (status == "install ok installed")


def test_manifest_tells_what_a_run_left_unfinished(tmp_path: Path) -> None:
    """The script runs for real: it is what every host runs."""
    (tmp_path / "manifest.json").write_text('{"services": {}}')
    script = HostManifest().command().get_raw_value().replace("/etc/freehold", str(tmp_path))

    def asked() -> dict[str, Any]:
        output = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        return HostManifest().process(output.stdout.splitlines())

    assert asked()["pending"] == []
    (tmp_path / "pending.json").write_text('{"openwebui": [], "caddy": ["Reload Caddy"]}')
    assert asked()["pending"] == ["caddy", "openwebui"]


def test_manifest_beside_what_is_there() -> None:
    answer = {"manifest": {"base": {}}, "files": {"/etc/x": None}, "units": {"ssh.service": "active"}}

    assert HostManifest().process([json.dumps(answer)]) == answer
