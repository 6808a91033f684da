"""What the program on a host that keeps weights writes as root."""

from __future__ import annotations

import json
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from freehold import resources


@pytest.fixture(scope="module")
def program() -> SimpleNamespace:
    return SimpleNamespace(**run_path(str(resources.templates() / "weights" / "weights.py.j2")))


def test_root_follows_no_link_of_the_fetching_user(program: SimpleNamespace, tmp_path: Path) -> None:
    target = tmp_path / "root.conf"
    target.write_text("root's own")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".request.json.new").symlink_to(target)

    program.write(tmp_path / "run" / "request.json", {"id": "1"})

    assert target.read_text() == "root's own"
    assert not (tmp_path / "run" / "request.json").is_symlink()
    assert json.loads((tmp_path / "run" / "request.json").read_text()) == {"id": "1"}
