"""How full a container of the lab is, while files come and go in it."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from freehold.lab.machine.lxc import _tree_size


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
