"""A GPU of a server is one client's, unless the shares that clients have of it say otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from freehold.layout.compute import load_layout
from freehold.schema.problems import StackError

STACK = """
client: {client}
domain: {client}.internal
proxmox: {{endpoint: "https://pve:8006"}}
exclusive: {exclusive}
network: {{subnet: 10.20.0.0/16, first: 10.20.{number}.0}}
vmids: {{first: {number}000}}
nodes: {{pve: {{gpus: [{{pci: "{pci}", card: rtx-4090}}]}}}}
services: {{ollama: {{device: cuda}}}}
hosts: {{ollama: {{gpus: [{gpu}]}}}}
"""


def write(inventory: Path, client: str, number: int, gpu: str = "0", **changes: str) -> Path:
    given = {"pci": "0000:01:00.0", "exclusive": "true", **changes}
    path = inventory / client / "stack.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(STACK.format(client=client, number=number, gpu=gpu, **given))
    return path


def test_a_gpu_of_another_client_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "beta", 2, pci="01:00")
    own = write(tmp_path, "acme", 1)

    with pytest.raises(StackError) as caught:
        load_layout(own)

    (problem,) = caught.value.problems
    assert 'the host "ollama" of the client "beta" has it already' in str(problem)


@pytest.mark.parametrize(
    ("own", "changes"),
    [
        ({}, {"pci": "0000:02:00.0"}),
        ({"gpu": "{gpu: 0, share: 0.5}"}, {"gpu": "{gpu: 0, share: 0.5}"}),
        ({"exclusive": "false"}, {"exclusive": "false"}),
    ],
)
def test_another_gpu_shares_and_turns_are_fine(
    tmp_path: Path, own: dict[str, str], changes: dict[str, str]
) -> None:
    write(tmp_path, "beta", 2, **changes)

    assert load_layout(write(tmp_path, "acme", 1, **own)).host("ollama").gpus


def test_shares_of_several_clients_are_added_up(tmp_path: Path) -> None:
    half = "{gpu: 0, share: 0.4}"
    for number, client in enumerate(("beta", "gamma"), start=2):
        write(tmp_path, client, number, gpu=half)

    with pytest.raises(StackError, match="given twice"):
        load_layout(write(tmp_path, "acme", 1, gpu=half))
