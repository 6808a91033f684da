"""One run per client at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.errors import ExitCode
from freehold.proxmox.lock import RunningError, client_lock

HOLDER = """
import sys, time
from pathlib import Path
from freehold.proxmox.lock import client_lock
with client_lock("acme", doing="up", directory=Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_and_told_who_holds_the_lock(tmp_path: Path) -> None:
    with client_lock("acme", doing="up", directory=tmp_path):
        with pytest.raises(RunningError) as caught, client_lock("acme", directory=tmp_path):
            pass
        assert f"process {os.getpid()}, since 20" in str(caught.value.answer)
        assert "(up)" in str(caught.value.answer)
        assert caught.value.exit_code is ExitCode.FAILED
        with client_lock("other", directory=tmp_path):
            pass
    with client_lock("acme", directory=tmp_path):
        pass


def test_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunningError, match="acme"), client_lock("acme", directory=tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with client_lock("acme", directory=tmp_path):
        pass


def test_the_lock_is_private(tmp_path: Path) -> None:
    with client_lock("acme", directory=tmp_path / "locks"):
        assert (tmp_path / "locks/acme.lock").stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "locks").stat().st_mode & 0o777 == 0o700
