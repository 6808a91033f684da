"""The proof of a run as one plain HTML page, made from pytest's JUnit XML."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from jinja2 import Environment, StrictUndefined

HOST_PROPERTY = "host"
"""Property of a test case in the JUnit report: the host that it is about."""


@dataclass(frozen=True)
class Check:
    """One check of the proof."""

    host: str
    about: str
    """``base`` or the service."""
    name: str
    outcome: str
    """``passed``, ``failed`` or ``skipped``."""
    seconds: float
    text: str = ""


def checks(junit: Path) -> list[Check]:
    """The checks in a JUnit report."""
    return list(_read(junit))


def merge(parts: list[Path], junit: Path) -> None:
    """Write several JUnit reports as one."""
    root = ElementTree.Element("testsuites")
    for part in parts:
        root.extend(ElementTree.parse(part).getroot().iter("testsuite"))  # noqa: S314 - our own files
    ElementTree.ElementTree(root).write(junit, encoding="utf-8", xml_declaration=True)


def _read(junit: Path) -> Iterator[Check]:
    for case in ElementTree.parse(junit).getroot().iter("testcase"):  # noqa: S314 - our own file
        base = case.get("name", "").partition("[")[0]
        properties = {item.get("name"): item.get("value", "") for item in case.iter("property")}
        problem = next((child for child in case if child.tag in {"failure", "error", "skipped"}), None)
        outcome = "passed" if problem is None else "skipped" if problem.tag == "skipped" else "failed"
        yield Check(
            host=properties.get(HOST_PROPERTY, ""),
            about=case.get("classname", "").rsplit(".", 1)[-1].removeprefix("test_"),
            name=base.removeprefix("test_").replace("_", " "),
            outcome=outcome,
            seconds=float(case.get("time", "0")),
            text="" if problem is None else (problem.get("message") or "") + "\n" + (problem.text or ""),
        )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Proof of {{ client }}, {{ when }}</title>
<style>
 body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1d2330; }
 table { border-collapse: collapse; width: 100%; margin: .5rem 0 2rem; }
 td, th { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #e3e6ec; vertical-align: top; }
 .passed { color: #0a7a3d; } .failed { color: #b3261e; font-weight: 600; } .skipped { color: #8a6d00; }
 pre { background: #f6f7f9; padding: .6rem; overflow-x: auto; font-size: 12px; }
</style></head><body>
<h1>Proof of {{ client }}</h1>
<p>{{ when }}. {{ passed }} of {{ checks|length }} checks passed{% if failed %}, <span class="failed">{{ failed }} failed</span>{% endif %}{% if skipped %}, <span class="skipped">{{ skipped }} skipped</span>{% endif %}.</p>
{% for host, items in checks|groupby("host") %}
<h2>{{ host or "all hosts" }}</h2>
<table><tr><th>Part</th><th>Check</th><th>Result</th><th>Seconds</th></tr>
{% for check in items %}<tr><td>{{ check.about }}</td><td>{{ check.name }}{% if check.text %}<pre>{{ check.text }}</pre>{% endif %}</td>
<td class="{{ check.outcome }}">{{ check.outcome }}</td><td>{{ "%.2f"|format(check.seconds) }}</td></tr>
{% endfor %}</table>
{% endfor %}
</body></html>
"""


def write_page(junit: Path, page: Path, *, client: str, when: str) -> None:
    """Write the page beside the JUnit file."""
    found = checks(junit)
    count = {kind: sum(check.outcome == kind for check in found) for kind in ("passed", "failed", "skipped")}
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(_PAGE)
    page.write_text(template.render(client=client, when=when, checks=found, **count), encoding="utf-8")
