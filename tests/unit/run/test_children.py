"""Engines as child processes: events come, nonsense is refused, nothing secret is shown, and a stop stops all of it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from freehold.events import Event, Status
from freehold.run import children

SECRET = "a-secret-that-nobody-may-see"
EVENT = '{"stage": "base", "status": "changed", "step": "Locale", "host": "caddy"}'


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The source of a module ``standin_engine`` that plays the engine."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "standin_engine.py"


def run(log: Path, **options: object) -> tuple[int, list[Event]]:
    events: list[Event] = []
    document = {"secrets": {"x": SECRET}}
    code = children.run("standin_engine", document, on_event=events.append, log=log, **options)  # type: ignore[arg-type]
    return code, events


def test_events_come_in_order_and_the_rest_goes_to_a_private_log(engine: Path, tmp_path: Path) -> None:
    engine.write_text(
        "import json, sys\n"
        "document = json.load(sys.stdin)\n"
        f"print('''{EVENT}''', flush=True)\n"
        "print()\n"
        "print('working on', len(document['secrets']['x']), file=sys.stderr)\n"
        f"print('''{EVENT.replace('changed', 'failed')}''')\n"
        "sys.exit(3)\n"
    )
    log = tmp_path / "logs/engine.log"
    code, events = run(log)
    assert code == 3
    assert [event.status for event in events] == [Status.CHANGED, Status.FAILED]
    assert log.read_text() == f"working on {len(SECRET)}\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_no_secret_in_arguments_and_environment(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEHOLD_VAULT_KEY", SECRET)
    engine.write_text(
        "import sys\n"
        "sys.stdin.read()\n"
        "for name in ('cmdline', 'environ'):\n"
        "    sys.stderr.write(open(f'/proc/self/{name}').read().replace(chr(0), chr(10)))\n"
    )
    log = tmp_path / "engine.log"
    assert run(log)[0] == 0
    text = log.read_text()
    assert "standin_engine" in text
    assert "PYTHONPATH" in text
    assert SECRET not in text
    assert "FREEHOLD_VAULT_KEY" not in text


def test_a_line_that_is_no_event_is_an_error_that_names_the_log(engine: Path, tmp_path: Path) -> None:
    engine.write_text("import time\nprint('hello', flush=True)\ntime.sleep(60)\n")
    began = time.monotonic()
    with pytest.raises(children.EngineError) as caught:
        run(tmp_path / "engine.log")
    assert caught.value.answer == "hello\n"
    assert caught.value.where == str(tmp_path / "engine.log")
    assert caught.value.remedy
    assert time.monotonic() - began < 30


def test_an_engine_that_dies_at_once_gives_its_code_and_its_reason(engine: Path, tmp_path: Path) -> None:
    engine.write_text("raise SystemExit('it cannot')\n")
    assert run(tmp_path / "engine.log") == (1, [])
    assert "it cannot" in (tmp_path / "engine.log").read_text()


def test_output_is_echoed_when_asked(
    engine: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    engine.write_text("import sys\nprint('seen', file=sys.stderr)\n")
    run(tmp_path / "engine.log", echo=True)
    assert b"seen" in capfdbinary.readouterr().err
    assert (tmp_path / "engine.log").read_text() == "seen\n"


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_ctrl_c_ends_the_engine_and_its_forks(engine: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    engine.write_text(
        "import os, signal, subprocess, sys, time\n"
        "stubborn = subprocess.Popen([sys.executable, '-c',"
        " 'import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(1, flush=True); time.sleep(120)'],"
        " stdout=subprocess.PIPE)\n"
        "stubborn.stdout.readline()\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{stubborn.pid}}')\n"
        f"print('''{EVENT}''', flush=True)\n"
        "time.sleep(120)\n"
    )
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom pathlib import Path\nfrom freehold.run import children\n"
            "def seen(event): print('event', flush=True)\n"
            "try:\n"
            f"    children.run('standin_engine', {{}}, on_event=seen, log=Path({str(tmp_path / 'log')!r}))\n"
            "except KeyboardInterrupt:\n"
            "    print('stopped', flush=True)\n",
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "event\n"
    numbers = [int(text) for text in pids.read_text().split()]
    assert all(_alive(pid) for pid in numbers)
    parent.send_signal(signal.SIGINT)
    assert parent.communicate(timeout=40)[0] == "stopped\n"
    deadline = time.monotonic() + 5
    while any(map(_alive, numbers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_alive, numbers))
