"""The page of applications in Chromium: what people see first, with the state of each application, also without JavaScript."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from freehold.run.context import Client

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def routes(client: Client) -> list[dict[str, Any]]:
    found = list(client.layout.service("caddy").variables["caddy_routes"])
    assert found, "the stack has no application"
    return found


@pytest.fixture
def page(browser: Browser) -> Page:
    page = browser.new_page(viewport={"width": 1100, "height": 640}, locale="en-US")
    page.set_default_timeout(30_000)
    return page


def test_people_see_every_application_and_its_state(
    client: Client, routes: list[dict[str, Any]], page: Page, tmp_path: Path
) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(f"https://{client.stack.domain}/")

    for route in routes:
        link = page.locator(f'a[href="https://{route["fqdn"]}/"]')
        expect(link).to_contain_text(route["title"])
        if route.get("health"):
            expect(link.locator("em")).to_have_text(("Available", "Not available")[_is_down(page, route)])
    expect(page.locator("footer")).to_contain_text("Artificial intelligence")
    assert complaints == []
    picture = Path(os.environ.get("FREEHOLD_SCREENSHOT", tmp_path / "landing.png"))
    page.screenshot(path=picture)
    assert picture.stat().st_size > 10_000


def _is_down(page: Page, route: dict[str, Any]) -> bool:
    return bool(
        page.evaluate("name => fetch(`/state/${name}`).then(answer => answer.text())", route["service"])
        != "up"
    )


def test_a_state_that_changes_is_seen_without_a_reload(
    client: Client, routes: list[dict[str, Any]], page: Page
) -> None:
    watched = next(route for route in routes if route.get("health"))
    page.goto(f"https://{client.stack.domain}/")
    mark = page.locator(f'em[data-service="{watched["service"]}"]')
    for answer, text in (("down", "Not available"), ("up", "Available")):
        page.route("**/state/*", partial(_answer, answer))
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(mark).to_have_text(text)
        page.unroute("**/state/*")


def _answer(body: str, route: Route) -> None:
    route.fulfill(body=body)


def test_it_works_without_scripts_and_by_address(
    client: Client, routes: list[dict[str, Any]], browser: Browser
) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(f"https://{client.layout.service('caddy').address}/")
    for route in routes:
        expect(page.locator(f'a[href="https://{route["fqdn"]}/"]')).to_be_visible()
    assert page.locator("em").count() == len({route["service"] for route in routes if route.get("health")})


def test_dark_rooms_get_a_dark_page(client: Client, browser: Browser) -> None:
    def background(scheme: str) -> str:
        page = browser.new_context(color_scheme=scheme).new_page()  # type: ignore[arg-type]
        page.goto(f"https://{client.stack.domain}/")
        return str(
            page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('color-scheme')")
        ) + str(page.evaluate("getComputedStyle(document.body).color"))

    assert background("dark") != background("light")
