"""The proof as a web page, made from what pytest writes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from freehold.events import Event, Status
from freehold.run.proof import report

CHECKS = """
import pytest

@pytest.mark.parametrize("this_host", ["caddy", "llama-cpp"])
@pytest.mark.parametrize("port", [443])
def test_answers_over_tls(this_host, port):
    assert this_host == "caddy", "<b>no & answer</b>" + " a-secret-of-a-host"

@pytest.mark.parametrize("this_host", ["caddy"])
def test_later(this_host):
    pytest.skip("not yet")

@pytest.mark.parametrize("this_host", ["caddy"])
def test_broken(this_host, nothing):
    pass
"""


RUN = """
import os, sys
import pytest
from freehold.masking import Masked
from freehold.run.proof.child import _Reporter
masked = Masked(sys.stderr, ["a-secret-of-a-host"])
sys.exit(pytest.main(sys.argv[1:], plugins=[_Reporter(os.fdopen(os.dup(1), "w"), masked)]))
"""


@dataclass(frozen=True)
class Ran:
    """What a run of checks leaves: pytest's report, and the events."""

    junit: Path
    events: list[Event]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A few checks under pytest itself, with the reporter of the proof."""
    folder = tmp_path_factory.mktemp("proof")
    (folder / "test_caddy.py").write_text(CHECKS)
    options = [
        "-p",
        "no:cacheprovider",
        "-p",
        "no:terminal",
        f"--rootdir={folder}",
        "--config-file=/dev/null",
    ]
    command = [sys.executable, "-c", RUN, *options, f"--junit-xml={folder}/proof.xml", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    return Ran(folder / "proof.xml", [Event.model_validate_json(line) for line in done.stdout.splitlines()])


def test_each_check_with_host_outcome_and_reason(ran: Ran) -> None:
    found = report.checks(ran.junit)
    assert [(check.host, check.about, check.name, check.outcome) for check in found] == [
        ("caddy", "caddy", "answers over tls", "passed"),
        ("llama-cpp", "caddy", "answers over tls", "failed"),
        ("caddy", "caddy", "later", "skipped"),
        ("caddy", "caddy", "broken", "failed"),
    ]
    assert "no & answer" in found[1].text
    assert "not yet" in found[2].text


def test_events_name_host_and_check_and_no_secret(ran: Ran) -> None:
    started = {event.host: event.data["checks"] for event in ran.events if event.status is Status.STARTED}
    assert started == {"caddy": 3, "llama-cpp": 1}
    ended = [(e.host, e.step, e.status) for e in ran.events if e.status is not Status.STARTED]
    assert ended == [
        ("caddy", "answers over tls", Status.OK),
        ("llama-cpp", "answers over tls", Status.FAILED),
        ("caddy", "later", Status.SKIPPED),
        ("caddy", "broken", Status.FAILED),
    ]
    assert "no & answer" in ran.events[3].message
    assert "a-secret-of-a-host" not in " ".join(event.line() for event in ran.events)


def test_the_page_counts_and_escapes(ran: Ran, tmp_path: Path) -> None:
    page = tmp_path / "proof.html"
    report.write_page(ran.junit, page, client="acme", when="2026-11-21 12:00 UTC")
    text = page.read_text()
    assert "1 of 4 checks passed" in text
    assert "2 failed" in text
    assert "1 skipped" in text
    assert "<h2>caddy</h2>" in text
    assert "<h2>llama-cpp</h2>" in text
    assert "&lt;b&gt;no &amp; answer&lt;/b&gt;" in text
    assert "<b>no" not in text
    assert "src=" not in text
