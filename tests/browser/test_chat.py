"""A person's way: open the chat in Chromium, log in, ask, and read the answer."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from freehold.run.context import Client

pytestmark = pytest.mark.lab

_ANSWER = "Hello from the tiny stand-in model of this lab."


@pytest.fixture
def page(browser: Browser) -> Page:
    return browser.new_page(viewport={"width": 1280, "height": 800}, locale="en-US")


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
