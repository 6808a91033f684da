"""The spool of the audit trail: what was acknowledged is on the disk, whatever kills the process that wrote it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

Record = Callable[..., dict[str, Any]]

_WRITER = """
import secrets, sys, threading, time
import freehold_spool
spool = freehold_spool.Spool(sys.argv[1])
spool.join()
print("ready", flush=True)
lock = threading.Lock()
def write():
    while True:
        record = dict(format=1, id=secrets.token_hex(16), began=time.time_ns() // 1_000_000, application="a", user="u",
                      kind="chat", asked="m", input="x" * secrets.randbelow(20000), status="open")
        name = spool.begin(record)
        with lock:
            print("began", record["id"], flush=True)
        if secrets.randbelow(3):
            spool.end(name, record | {"status": "success", "output": "y" * secrets.randbelow(20000)})
            with lock:
                print("ended", record["id"], flush=True)
for _ in range(4):
    threading.Thread(target=write, daemon=True).start()
time.sleep(60)
"""


@pytest.fixture
def spool(programs: SimpleNamespace, tmp_path: Path) -> Any:
    made = programs.spool.Spool(tmp_path / "var")
    made.join()
    return made


def test_no_acknowledged_call_is_lost_when_the_writer_is_killed(
    folder: Path, programs: SimpleNamespace, tmp_path: Path
) -> None:
    """Eight writers, each killed at a moment of chance: every call that one said to have kept is in the spool and the ledger."""
    began: set[str] = set()
    ended: set[str] = set()
    for _ in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path / "var")],
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={"PYTHONPATH": str(folder)},
        )
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
        lines = [writer.stdout.readline() for _ in range(random.randint(6, 24))]
        time.sleep(random.uniform(0, 0.01))
        writer.kill()
        text, _ = writer.communicate()
        for line in [*map(str.strip, lines), *text.splitlines()]:
            word, _, identifier = line.partition(" ")
            if len(identifier) == 32:
                (began if word == "began" else ended).add(identifier)
    assert len(began) > 24
    spool = programs.spool.Spool(tmp_path / "var")
    spool.interrupt()

    kept = {programs.spool.identifier_of(name): spool.read("done", name) for name in spool.names("done")}
    first = min(each["began"] for each in kept.values())
    calls, _ = spool.ledger(first, time.time_ns() // 1_000_000 + 1)
    assert began <= kept.keys()
    assert began <= calls.keys()
    assert {identifier for identifier in ended if kept[identifier]["status"] != "success"} == set()
    assert {each["status"] for each in kept.values()} <= {"success", "interrupted"}
    assert "interrupted" in {each["status"] for each in kept.values()}
    assert spool.names("open") == []
    assert spool.writers() == set()


def test_a_call_of_a_living_process_is_not_interrupted(spool: Any, record: Record) -> None:
    spool.begin(record())

    assert spool.interrupt() == []
    assert len(spool.names("open")) == 1


def test_a_record_ends_once(spool: Any, record: Record) -> None:
    first = record()
    name = spool.begin(first)
    spool.end(name, first | {"status": "success"})

    assert spool.names("open") == []
    assert spool.read("done", name)["status"] == "success"


def test_a_beginning_that_was_cut_off_is_no_call(
    spool: Any, record: Record, programs: SimpleNamespace, tmp_path: Path
) -> None:
    """Its request never went on: the writer acknowledges what is whole on the disk."""
    gone = programs.spool.Spool(tmp_path / "var")
    name = gone.begin(record())
    path = gone.folder("open") / name
    path.write_bytes(path.read_bytes()[:40])

    assert spool.interrupt() == []
    assert spool.names("open") == spool.names("done") == []


def test_a_full_spool_takes_no_more(programs: SimpleNamespace, record: Record, tmp_path: Path) -> None:
    spool = programs.spool.Spool(tmp_path / "var", limit=3 * 4096)
    for _ in range(3):
        spool.begin(record())

    with pytest.raises(programs.spool.FullError):
        spool.begin(record())
    for name in spool.names("open"):
        spool.remove("open", name)
    spool._scanned = -100
    assert spool.begin(record())


def test_the_ledger_says_what_was_erased_and_forgets_old_days(spool: Any, record: Record) -> None:
    old = record(began=1_700_000_000_000)
    new = record()
    for each in (old, new):
        spool.begin(each)
    spool.note_erased({old["id"]: old["began"]})

    assert spool.ledger(1_699_999_999_000, 1_700_000_000_001) == ({old["id"]: old["began"]}, {old["id"]})
    assert spool.forget(time.time() - 86400) == ["2023-11-14"]
    calls, erased = spool.ledger(new["began"], new["began"] + 1)
    assert (set(calls), erased) == ({new["id"]}, set())


def test_records_are_for_their_owner_alone(spool: Any, record: Record) -> None:
    name = spool.begin(record())

    assert (spool.folder("open") / name).stat().st_mode & 0o077 == 0
    assert spool.folder("open").stat().st_mode & 0o077 == 0
    assert json.loads((spool.folder("open") / name).read_text())["input"][0]["content"] == "Hello"


def test_space_is_measured_while_records_are_removed(
    spool: Any, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        spool.begin(record())
    entries = spool._entries

    def removed_meanwhile(state: str) -> Any:
        found = entries(state)
        for entry in found[:1]:
            spool.remove(state, entry.name)
        return found

    monkeypatch.setattr(spool, "_entries", removed_meanwhile)
    spool._scanned = -100

    assert spool.size() == 2 * 4096
