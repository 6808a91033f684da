"""Chromium as people have it: it finds the client's names, and trusts the client's authority.

Needs a stack that is up (``FREEHOLD_STACK`` names its file or its client, ``lab`` when left out), and Debian's packages
chromium and libnss3-tools. ``FREEHOLD_SCREENSHOT`` names a file for a picture.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from freehold.run.context import Client

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def client() -> Client:
    return Client.open(os.environ.get("FREEHOLD_STACK", "lab"))


@pytest.fixture(scope="module")
def browser(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser that trusts the client's authority, as an office's computers would."""
    program = shutil.which("chromium")
    assert program, "Debian's package chromium is not installed"
    home = tmp_path_factory.mktemp("home")
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    database = f"sql:{store}"
    subprocess.run(["certutil", "-d", database, "-N", "--empty-password"], check=True)
    trust = ["certutil", "-d", database, "-A", "-t", "C,,", "-n", "freehold"]
    subprocess.run([*trust, "-i", str(client.authority_file)], check=True)
    gateway, domain = client.layout.service("caddy").address, client.stack.domain
    names = f"--host-resolver-rules=MAP {domain} {gateway},MAP *.{domain} {gateway}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            headless=True,
            args=[*_FLAGS, names],
            env={**os.environ, "HOME": str(home)},
        )
        yield browser
        browser.close()
