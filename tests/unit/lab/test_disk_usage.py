"""How full a container of the lab is, while files come and go in it."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from freehold.lab.machine import lxc
from freehold.lab.machine.lxc import LxcBackend, _tree_size
from freehold.lab.machine.network import LabNetwork
from freehold.lab.machine.paths import LabPaths
from freehold.lab.machine.rootfs import Overlay


def test_files_that_go_while_they_are_counted_are_no_failure(tmp_path: Path) -> None:
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for number in range(20):
                (tmp_path / f"{number}/inner").mkdir(parents=True, exist_ok=True)
            for number in range(20):
                shutil.rmtree(tmp_path / str(number))

    (tmp_path / "kept").write_bytes(b"x" * 100_000)
    thread = threading.Thread(target=churn)
    thread.start()
    try:
        assert all(_tree_size(tmp_path) >= 100_000 for _ in range(50))
    finally:
        stop.set()
        thread.join()


def test_what_is_not_there_is_empty(tmp_path: Path) -> None:
    assert _tree_size(tmp_path / "nothing") == 0


def test_who_lists_guests_does_not_wait_for_a_slow_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = LxcBackend(LabPaths(tmp_path), LabNetwork(), tmp_path / "node")
    overlay = Overlay(tmp_path / "volume")
    overlay.note.parent.mkdir(parents=True)
    overlay.note.write_text(str(tmp_path / "base"))
    backend._roots[101] = overlay.volume
    disk_is_free, before = threading.Event(), set(threading.enumerate())

    def slow(path: Path) -> int:
        assert disk_is_free.wait(30)
        return 1000

    monkeypatch.setattr(lxc, "_tree_size", slow)
    assert backend._disk_used(101, 1) == 0
    assert backend._disk_used(101, 1) == 0
    disk_is_free.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
    assert backend._disk_used(101, 1) == 2000
