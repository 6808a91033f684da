"""The proof as a web page, made from what pytest writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from freehold.run.proof import report

CHECKS = """
import pytest

@pytest.mark.parametrize("this_host", ["caddy", "postgres"])
def test_answers_over_tls(this_host):
    assert this_host == "caddy", "<b>no & answer</b>"

@pytest.mark.parametrize("this_host", ["caddy"])
def test_later(this_host):
    pytest.skip("not yet")

@pytest.mark.parametrize("this_host", ["caddy"])
def test_broken(this_host, nothing):
    pass
"""


@pytest.fixture(scope="module")
def junit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pytest itself reports of a few checks."""
    folder = tmp_path_factory.mktemp("proof")
    (folder / "test_caddy.py").write_text(CHECKS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={folder}"]
    command += ["--config-file=/dev/null", f"--junit-xml={folder}/proof.xml", str(folder)]
    subprocess.run(command, capture_output=True, check=False, cwd=folder)
    return folder / "proof.xml"


def test_each_check_with_host_outcome_and_reason(junit: Path) -> None:
    found = report.checks(junit)
    assert [(check.host, check.about, check.name, check.outcome) for check in found] == [
        ("caddy", "caddy", "answers over tls", "passed"),
        ("postgres", "caddy", "answers over tls", "failed"),
        ("caddy", "caddy", "later", "skipped"),
        ("caddy", "caddy", "broken", "failed"),
    ]
    assert "no & answer" in found[1].text
    assert "not yet" in found[2].text


def test_the_page_counts_and_escapes(junit: Path, tmp_path: Path) -> None:
    page = tmp_path / "proof.html"
    report.write_page(junit, page, client="acme", when="2026-11-21 12:00 UTC")
    text = page.read_text()
    assert "1 of 4 checks passed" in text
    assert "2 failed" in text
    assert "1 skipped" in text
    assert "<h2>caddy</h2>" in text
    assert "<h2>postgres</h2>" in text
    assert "&lt;b&gt;no &amp; answer&lt;/b&gt;" in text
    assert "<b>no" not in text
    assert "src=" not in text
    assert "http" not in text
