"""Proof of the weights: what the stack wants is there, whole, checked and scanned; one user writes it, engines read it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host as Machine

from freehold.layout.types import Host, Layout, ServicePlacement

_MODELS = "/models"
_SMALL = 16 << 20
"""Bytes of a file that is read again here; all of them: ``freehold models verify``."""


@pytest.fixture
def register(host: Machine) -> dict[str, dict[str, Any]]:
    """What the host says that it has, by path."""
    program = "/opt/weights/bin/python /etc/weights/weights.py state"
    said = json.loads(host.check_output(f"runuser -u weights -- {program}").splitlines()[-1])
    assert not said["strays"], f"nobody knows where these are from: {said['strays']}"
    return {entry["path"]: entry for entry in said["weights"]}


@pytest.fixture
def wanted(host: Machine, service: ServicePlacement) -> list[str]:
    """Directories that engines read; one whose commit was not known yet leads to that of the register."""
    paths = [model["path"] for model in service.variables["weights_models"]]
    return [host.check_output("readlink -f %s", path) for path in paths]


def test_everything_that_the_stack_wants_is_there_whole(
    register: dict[str, dict[str, Any]], wanted: list[str]
) -> None:
    for path in wanted:
        assert path in register, f"not fetched: {path}"
        assert register[path]["lacking"] == []
        assert register[path]["scanned"]["with"].keys() == {"modelaudit-picklescan", "safetensors"}


def test_weights_are_safetensors_alone(host: Machine, wanted: list[str]) -> None:
    for path in wanted:
        names = host.check_output("find %s -type f", path).splitlines()
        assert any(name.endswith(".safetensors") for name in names), path
        assert not [
            name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt", ".py", ".so"))
        ]


def test_files_are_those_of_the_register(
    host: Machine, register: dict[str, dict[str, Any]], wanted: list[str]
) -> None:
    for path in wanted:
        for file in register[path]["files"]:
            if file["size"] <= _SMALL:
                found = host.check_output("sha256sum %s", f"{path}/{file['name']}").split()[0]
                assert found == file["sha256"], f"{path}/{file['name']}"


def test_known_checksums_are_those_that_were_taken(
    register: dict[str, dict[str, Any]], wanted: list[str], service: ServicePlacement
) -> None:
    for path, model in zip(wanted, service.variables["weights_models"], strict=True):
        found = {file["name"]: file["sha256"] for file in register[path]["files"]}
        known = {file["name"]: file["sha256"] for file in model.get("files", []) if file.get("sha256")}
        assert known.items() <= found.items(), path
        assert model.get("revision") in {None, register[path]["revision"]}


def test_one_user_writes_and_everybody_reads(host: Machine, wanted: list[str]) -> None:
    top = host.file(_MODELS)

    assert (top.uid, top.gid, top.mode) == (2108, 2108, 0o755)
    for path in wanted:
        listed = host.check_output("find %s -printf '%%y %%m %%U\\n'", path).splitlines()
        assert set(listed) <= {"d 755 2108", "f 644 2108"}, path
    assert host.run("runuser -u nobody -- touch /models/x").rc != 0


def test_engines_read_the_same_and_write_nothing(
    this_host: Host, layout: Layout, machine: Callable[[str], Machine], host: Machine, wanted: list[str]
) -> None:
    own = next(mount for mount in this_host.mounts if mount.path == _MODELS)
    readers = [
        each
        for each in layout.hosts
        if each.name != this_host.name and any(mount.source == own.source for mount in each.mounts)
    ]

    for each in readers:
        reader = machine(each.name)
        assert reader.run("touch /models/.x").rc != 0, f"{each.name} can write the weights"
        assert "ro" in reader.check_output("findmnt -no OPTIONS /models").split(","), each.name
        mine, theirs = (at.check_output("cat /models/register.json") for at in (host, reader))
        assert hashlib.sha256(mine.encode()).digest() == hashlib.sha256(theirs.encode()).digest()
        for model in layout.models:
            if model.engine in each.services and model.path:
                assert (
                    reader.file(f"{model.path}/config.json").exists
                    or reader.file(f"{model.path}/params.json").exists
                )


def test_it_runs_only_while_it_fetches_and_answers_nobody(host: Machine) -> None:
    outside = {
        line.split()[3]
        for line in host.check_output("ss -Hltn").splitlines()
        if not line.split()[3].startswith(("127.", "[::1]"))
        and not line.split()[3].endswith((":22", ":9100"))
    }

    assert outside == set()
    assert host.check_output("systemctl show -P User weights-fetch.service") == "weights"


def test_it_tells_nobody_and_runs_no_program_of_a_repository(host: Machine) -> None:
    settings = host.check_output("systemctl show -P Environment weights-fetch.service").split()

    assert {"HF_HUB_DISABLE_TELEMETRY=1", "DO_NOT_TRACK=1", "HF_HUB_DISABLE_IMPLICIT_TOKEN=1"} <= set(
        settings
    )
    assert not host.run("/opt/weights/bin/python -c 'import transformers'").succeeded


def test_the_token_lies_where_root_alone_reads_it(host: Machine) -> None:
    token = host.file("/etc/weights/token")

    assert (token.user, token.group, token.mode) == ("root", "root", 0o400)
    value = next(
        (line for line in token.content_string.splitlines() if line.strip() and not line.startswith("#")),
        None,
    )
    if value:
        for path in ("/etc/weights/settings.json", "/etc/weights/models.json", "/models/register.json"):
            assert value not in host.file(path).content_string, path


def test_the_unit_is_hardened(host: Machine) -> None:
    result = host.run("systemd-analyze security --no-pager --threshold=20 weights-fetch.service")

    assert result.rc == 0, result.stdout
