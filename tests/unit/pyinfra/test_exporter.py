"""Figures of machines: how the node exporter comes to a node, and what is said of GPUs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from freehold import resources
from freehold.pyinfra import node
from freehold.render import render

Commands = Callable[..., list[str]]


def test_a_node_that_has_the_exporter_is_left_alone(commands: Commands) -> None:
    assert commands(node.exporter_package, {"dpkg": ["prometheus-node-exporter"]}) == []


def test_a_node_with_an_archive_that_refuses_it_gets_the_exporter_all_the_same(commands: Commands) -> None:
    (shown,) = commands(node.exporter_package, {"dpkg": []})

    # Lists are read only when the first try failed, and how that ended decides nothing.
    assert " install " in shown.partition("||")[0]
    assert " update; " in shown.partition("||")[2]


@pytest.mark.parametrize("mirror", [None, "https://mirror.acme.internal/"])
def test_debians_own_unit_which_answers_everybody_is_never_started(
    commands: Commands, mirror: str | None
) -> None:
    (shown,) = commands(node.exporter_package, {"dpkg": []}, mirror=mirror)

    assert shown.index(" mask --runtime ") < shown.index(" install ") < shown.index(" unmask --runtime ")


def test_a_node_of_a_client_with_a_mirror_asks_the_mirror_and_keeps_its_archives(commands: Commands) -> None:
    (shown,) = commands(node.exporter_package, {"dpkg": []}, mirror="https://mirror.acme.internal/")

    assert "https://mirror.acme.internal/debian" in shown
    assert shown.count("Dir::Etc::SourceParts=-") == shown.count("Dir::State::Lists=$d/lists") == 2
    assert "/etc/apt" not in shown


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of commands that note that they were called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("chgrp", "systemctl"):
        tool = folder / name
        tool.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/called\n')
        tool.chmod(0o755)
    return folder


def test_every_client_of_a_node_has_a_user_of_its_own(tmp_path: Path, tools: Path) -> None:
    """The command runs for real over files as the deploy writes them."""
    there = tmp_path / "freehold"
    there.mkdir()
    for client, address in [("acme", "10.0.0.2"), ("beta", "192.168.1.2"), ("gamma", "10.0.0.2")]:
        (there / f"{client}.user").write_text(f"  {client}: $2b$08$hash.of.{client}\n")
        (there / f"{client}.address").write_text(f"{address}\n")
    command = node.ASSEMBLE_EXPORTER.replace("/etc/prometheus/freehold", str(there))

    subprocess.run(["sh", "-c", command], check=True, env={"PATH": f"{tools}:{os.environ['PATH']}"})

    assert yaml.safe_load((there / "web.yml").read_text()) == {
        "basic_auth_users": {name: f"$2b$08$hash.of.{name}" for name in ("acme", "beta", "gamma")}
    }
    assert (there / "web.yml").stat().st_mode & 0o777 == 0o640
    assert (there / "addresses").read_text().split("=", 1)[1].split() == [
        "--web.listen-address=10.0.0.2:9100",
        "--web.listen-address=192.168.1.2:9100",
    ]
    assert "systemctl restart prometheus-node-exporter" in (tmp_path / "called").read_text()


def test_a_client_that_leaves_takes_its_user_along(tmp_path: Path, tools: Path, commands: Commands) -> None:
    there = tmp_path / "freehold"
    there.mkdir()
    for client in ("acme", "beta"):
        (there / f"{client}.user").write_text(f"  {client}: hash\n")
        (there / f"{client}.address").write_text("10.0.0.2\n")
    (there / "acme.gpus").write_text("0000:01:00.0\n")
    known = {"sha256sum": [f"{node.EXPORTER}/acme.user\tfile\t600\troot\troot\t00"]}

    def leave(client: str) -> None:
        (command,) = commands(node.no_exporter_user, known, client=client)
        command = command.replace(node.EXPORTER, str(there))
        subprocess.run(["sh", "-c", command], check=True, env={"PATH": f"{tools}:{os.environ['PATH']}"})

    leave("acme")
    assert yaml.safe_load((there / "web.yml").read_text()) == {"basic_auth_users": {"beta": "hash"}}
    assert not list(there.glob("acme.*"))
    leave("beta")
    assert "systemctl disable --now prometheus-node-exporter" in (tmp_path / "called").read_text()
    assert commands(node.no_exporter_user, {}, client="gamma") == []


SMI = """\
00000000:01:00.0, NVIDIA GeForce RTX 4090, 24564, 22100, 37, 61, 288.41
00000000:03:00.0, NVIDIA A2, 16000, [N/A], 0, 40, [N/A]
"""


def figures(tmp_path: Path, tools: Path, smi: str) -> dict[str, str]:
    program = tools / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{smi}\n")
    program.chmod(0o755)
    file = tmp_path / "gpus.prom"
    subprocess.run(
        ["sh", str(resources.templates() / "node/gpu-figures.sh.j2")],
        check=True,
        timeout=60,
        env={
            "PATH": f"{tools}:{os.environ['PATH']}",
            "ONCE": "1",
            "EXPECTED": str(tmp_path),
            "FILE": str(file),
        },
    )
    lines = (line for line in file.read_text().splitlines() if not line.startswith("#"))
    return dict(line.rsplit(" ", 1) for line in lines)


def test_figures_of_gpus_and_what_a_gpu_does_not_know_is_left_out(tmp_path: Path, tools: Path) -> None:
    (tmp_path / "acme.gpus").write_text("0000:01:00.0\n")

    found = figures(tmp_path, tools, f"cat <<'X'\n{SMI}X")

    ours = '{pci="0000:01:00.0",model="NVIDIA GeForce RTX 4090"}'
    other = '{pci="0000:03:00.0",model="NVIDIA A2"}'
    assert found[f"freehold_gpu_memory_used_bytes{ours}"] == str(22100 << 20)
    assert found[f"freehold_gpu_memory_total_bytes{ours}"] == str(24564 << 20)
    assert found[f"freehold_gpu_temperature_celsius{ours}"] == "61"
    assert found[f"freehold_gpu_power_watts{ours}"] == "288.41"
    assert f"freehold_gpu_memory_used_bytes{other}" not in found
    assert f"freehold_gpu_power_watts{other}" not in found
    assert found['freehold_gpu_up{pci="0000:03:00.0"}'] == "1"


def test_a_gpu_that_fell_off_is_down(tmp_path: Path, tools: Path) -> None:
    (tmp_path / "acme.gpus").write_text("0000:01:00.0\n0000:02:00.0\n")
    (tmp_path / "beta.gpus").write_text("0000:02:00.0\n")

    found = figures(tmp_path, tools, f"cat <<'X'\n{SMI}X")

    assert found['freehold_gpu_up{pci="0000:01:00.0"}'] == "1"
    assert found['freehold_gpu_up{pci="0000:02:00.0"}'] == "0"


def test_a_driver_that_fails_leaves_every_gpu_down(tmp_path: Path, tools: Path) -> None:
    (tmp_path / "acme.gpus").write_text("0000:01:00.0\n")

    found = figures(tmp_path, tools, "echo 'Unable to determine the device handle'; exit 9")

    assert found['freehold_gpu_up{pci="0000:01:00.0"}'] == "0"
    assert "freehold_gpu_read_timestamp_seconds" in found


def test_the_exporter_listens_at_the_address_of_its_host_alone() -> None:
    text = render("base/node-exporter.service.j2", {"address": "10.20.0.120"})

    assert "ADDRESSES=--web.listen-address=10.20.0.120:9100" in text
    assert "EnvironmentFile" not in text
    assert "--web.config.file=" in text
