"""Running the tools of the host for the lab (a stand-in of a Proxmox VE node, for development)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from freehold.lab.backend import BackendError

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(args: Sequence[str], *, stdin: str | None = None, timeout: float = 120) -> str:
    """Run a tool and return its standard output.

    Raises:
        BackendError: It could not be run, failed, or took more than ``timeout`` seconds.
    """
    shown = " ".join(args[:6])
    try:
        done = subprocess.run(
            args,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={"PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8", "HOME": "/root"},
        )
    except FileNotFoundError as error:
        raise BackendError(f"command '{shown}' failed: {error.strerror}: {args[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise BackendError(f"command '{shown}' failed: got timeout") from error
    if done.returncode:
        detail = done.stderr.strip() or done.stdout.strip()
        raise BackendError(f"command '{shown}' failed: exit code {done.returncode}: {detail[-2000:]}")
    return done.stdout


def lxc(tool: str, *args: str) -> list[str]:
    """The command line of one of LXC's tools, without the helpers ``newuidmap`` and ``newgidmap`` in reach.

    With them on PATH, LXC wants the id ranges written into the host's ``/etc/subuid``; without them it writes
    the id map itself, as root may, and the host's files stay as they are (lxc ``src/lxc/conf.c``, lxc_map_ids).
    """
    path = shutil.which(tool, path=SYSTEM_PATH)
    if path is None:
        raise BackendError(f"{tool} is not installed")
    return [shutil.which("env", path=SYSTEM_PATH) or "/usr/bin/env", "-i", "PATH=/nonexistent", path, *args]


def is_root() -> bool:
    """Whether this process may make containers, mounts and bridges."""
    return os.geteuid() == 0
