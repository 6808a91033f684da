"""A person's way: open the chat in Chromium, log in, ask, and read the answer.

Needs a stack that is up (``FREEHOLD_STACK`` names its file or its client, ``lab`` when left out), and Debian's packages
chromium and libnss3-tools. ``FREEHOLD_SCREENSHOT`` names a file for the picture of the chat.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from freehold.run.context import Client

pytestmark = pytest.mark.lab

_ANSWER = "Hello from the tiny stand-in model of this lab."
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


@pytest.fixture
def home(client: Client, tmp_path: Path) -> Path:
    """A home whose certificate store trusts the client's authority, as an office's computers would."""
    store = tmp_path / ".pki" / "nssdb"
    store.mkdir(parents=True)
    database = f"sql:{store}"
    subprocess.run(["certutil", "-d", database, "-N", "--empty-password"], check=True)
    trust = ["certutil", "-d", database, "-A", "-t", "C,,", "-n", "freehold"]
    subprocess.run([*trust, "-i", str(client.authority_file)], check=True)
    return tmp_path


@pytest.fixture
def page(client: Client, home: Path) -> Iterator[Page]:
    program = shutil.which("chromium")
    assert program, "Debian's package chromium is not installed"
    gateway = client.layout.service("caddy").address
    names = f"--host-resolver-rules=MAP *.{client.stack.domain} {gateway}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            headless=True,
            args=[*_FLAGS, names],
            env={**os.environ, "HOME": str(home)},
        )
        yield browser.new_page(viewport={"width": 1280, "height": 800}, locale="en-US")
        browser.close()


def test_a_person_logs_in_asks_and_gets_an_answer(client: Client, page: Page, tmp_path: Path) -> None:
    page.set_default_timeout(60_000)
    page.goto(f"https://chat.{client.stack.domain}/auth")
    page.locator("input[type=email]").fill(f"admin@{client.stack.domain}")
    page.locator("input[type=password]").fill(client.secrets.get("openwebui.admin_password"))
    page.locator("button[type=submit]").click()

    page.locator("#chat-input").wait_for()
    news = page.get_by_role("button", name="Okay, Let's Go!")
    if news.is_visible():
        news.click()
    # That a machine answers is said before anybody asks it, in the language of the people.
    expect(page.get_by_text(re.compile("artificial intelligence|künstliche Intelligenz"))).to_be_visible()
    page.locator("#chat-input").fill("Who are you?")
    page.keyboard.press("Enter")

    expect(page.locator(".chat-assistant").last).to_contain_text(_ANSWER, timeout=120_000)
    page.wait_for_timeout(1500)  # the title of the chat is written after the answer
    picture = Path(os.environ.get("FREEHOLD_SCREENSHOT", tmp_path / "chat.png"))
    page.screenshot(path=picture)
    assert picture.stat().st_size > 10_000
