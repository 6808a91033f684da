"""Clients that share a server do not share VMIDs, addresses or names."""

from __future__ import annotations

from pathlib import Path

import pytest

from freehold.schema import neighbours
from freehold.schema.load import load_stack
from freehold.schema.problems import StackError


def write(inventory: Path, folder: str, *, client: str = "", host: str = "pve", more: str = "") -> None:
    (inventory / folder).mkdir()
    (inventory / folder / "stack.yml").write_text(
        f"client: {client or folder}\ndomain: {folder}.internal\nproxmox: {{endpoint: 'https://{host}:8006'}}\n"
        f"network:\n  subnet: 10.20.0.0/16\n{more}"
    )


def problems(inventory: Path, folder: str) -> list[str]:
    with pytest.raises(StackError) as caught:
        neighbours.check(load_stack(inventory / folder))
    return [str(problem).replace(str(inventory), "") for problem in caught.value.problems]


def test_overlaps_are_named(tmp_path: Path) -> None:
    write(tmp_path, "one")
    write(tmp_path, "two", more="  first: 10.20.0.150\nvmids:\n  first: 1099\n")
    assert problems(tmp_path, "two") == [
        '/two/stack.yml:8: vmids.first: the VMIDs 1099 to 1198 overlap those of the client "one", 1000 to 1099 '
        "(allowed: another hundred, on the same server)",
        '/two/stack.yml:6: network.first: the addresses 10.20.0.150 to 10.20.0.249 overlap those of the client "one", '
        "10.20.0.100 to 10.20.0.199 (allowed: another hundred, or another subnet)",
    ]


def test_same_name(tmp_path: Path) -> None:
    write(tmp_path, "one")
    write(tmp_path, "two", client="one", more="  first: 10.20.9.0\nvmids: {first: 2000}\n")
    assert "is the name of another client" in problems(tmp_path, "two")[0]


def test_the_server_may_stand_in_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "defaults.yml").write_text("proxmox: {endpoint: 'https://shared:8006/'}\n")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "stack.yml").write_text(
            f"client: {folder}\ndomain: {folder}.internal\nnetwork: {{subnet: 10.20.0.0/16}}\n"
        )
    assert len(problems(tmp_path, "one")) == 2


def test_neighbours_apart_are_fine(tmp_path: Path) -> None:
    write(tmp_path, "one")
    write(tmp_path, "two", more="  first: 10.20.1.0\nvmids: {first: 1100}\n")
    write(tmp_path, "three", host="elsewhere")
    write(tmp_path, "broken", more="nonsense: 1\n")
    for folder in ("one", "two", "three"):
        neighbours.check(load_stack(tmp_path / folder))


def test_stacks_that_take_turns_may_share_with_each_other_alone(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(tmp_path, folder, more="exclusive: false\n")
    neighbours.check(load_stack(tmp_path / "one"))
    write(tmp_path, "three")
    assert len(problems(tmp_path, "three")) == 4
    assert len(problems(tmp_path, "one")) == 2
