"""What modules remember on a host is replaced whole, and read by root alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.freehold.stack.plugins.module_utils import kept


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_what_is_written_can_be_read_and_by_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "freehold/made.json"
    kept.write(path, {"users": ["1"]}, folder_mode=0o755)

    assert kept.read(path) == {"users": ["1"]}
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o755
    assert [each.name for each in path.parent.iterdir()] == ["made.json"]


def test_a_left_over_that_others_can_read_is_not_written_to(tmp_path: Path) -> None:
    left = tmp_path / ".made.json.new"
    left.touch(mode=0o644)
    with left.open() as others:
        kept.write(tmp_path / "made.json", {"key": "of this host"})

        assert others.read() == ""
    assert [each.name for each in tmp_path.iterdir()] == ["made.json"]


def test_what_cannot_be_written_leaves_the_old(tmp_path: Path) -> None:
    kept.write(tmp_path / "made.json", {"users": ["1"]})
    with pytest.raises(TypeError):
        kept.write(tmp_path / "made.json", {"users": [object()]})

    assert kept.read(tmp_path / "made.json") == {"users": ["1"]}
    assert [each.name for each in tmp_path.iterdir()] == ["made.json"]


def test_nothing_is_kept_where_there_is_no_file(tmp_path: Path) -> None:
    assert kept.read(tmp_path / "made.json") is None
