"""Two language models by the same cases: what each passed, how long it took, and whether the second is worse anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from jinja2 import Environment, StrictUndefined

from freehold.run.evaluation import Result
from freehold.run.evaluation.cases import Case

FILE = "comparison.json"


@dataclass(frozen=True)
class Outcome:
    """What one language model made of one case."""

    passed: bool
    seconds: float | None
    """Median; none where it gave no answer."""
    wrong: list[str]
    answer: str
    """The first that is wrong, else the first."""


@dataclass(frozen=True)
class Side:
    """What one language model made of all cases."""

    model: str
    engine: str
    outcomes: dict[str, Outcome]
    seconds: list[float]
    tokens: int

    @property
    def passed(self) -> int:
        """Cases that it passed."""
        return sum(outcome.passed for outcome in self.outcomes.values())

    @property
    def median(self) -> float | None:
        """Seconds of the answer in the middle."""
        return median(self.seconds) if self.seconds else None

    @property
    def slowest(self) -> float | None:
        """Seconds within which 95 of 100 answers came; with few answers, those of the slowest."""
        if len(self.seconds) < 20:
            return max(self.seconds, default=None)
        return quantiles(self.seconds, n=20)[-1]

    @property
    def speed(self) -> float | None:
        """Tokens per second."""
        return self.tokens / sum(self.seconds) if sum(self.seconds) else None

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "model": self.model,
            "engine": self.engine,
            "passed": self.passed,
            "of": len(self.outcomes),
            "median_seconds": self.median,
            "p95_seconds": self.slowest,
            "tokens_per_second": self.speed,
            "cases": {name: asdict(outcome) for name, outcome in self.outcomes.items()},
        }


def side(model: str, engine: str, cases: Iterable[Case], results: Sequence[Result]) -> Side:
    """What the answers of one language model come to. A case passes when each of its answers does."""
    outcomes = {}
    for case in cases:
        own = [result for result in results if result.case == case.name]
        bad = [result for result in own if result.wrong]
        times = [result.seconds for result in own if result.seconds is not None]
        shown = (bad or own)[:1]
        outcomes[case.name] = Outcome(
            passed=bool(own) and not bad,
            seconds=median(times) if times else None,
            wrong=sorted({reason for result in bad for reason in result.wrong.values()})
            or ([] if own else ["was not asked"]),
            answer=shown[0].answer if shown else "",
        )
    timed = [result for result in results if result.seconds is not None]
    return Side(
        model,
        engine,
        outcomes,
        [result.seconds for result in timed if result.seconds is not None],
        sum(result.tokens for result in timed),
    )


@dataclass(frozen=True)
class Comparison:
    """The current language model and the candidate."""

    client: str
    name: str
    """The name that people use."""
    when: str
    current: Side
    candidate: Side
    cases: tuple[Case, ...]

    @property
    def worse(self) -> list[str]:
        """Cases that the current one passes and the candidate does not."""
        return [
            name
            for name, outcome in self.current.outcomes.items()
            if outcome.passed and not self.candidate.outcomes[name].passed
        ]

    @property
    def better(self) -> list[str]:
        """Cases that the candidate passes and the current one does not."""
        return [
            name
            for name, outcome in self.current.outcomes.items()
            if not outcome.passed and self.candidate.outcomes[name].passed
        ]

    @property
    def leaks(self) -> list[str]:
        """Cases in which the candidate leaks what it must keep, or does not refuse what it must."""
        guarded = {case.name for case in self.cases if case.keeps or case.refuses}
        return [name for name in guarded if not self.candidate.outcomes[name].passed]

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.worse:
            return f"The candidate is worse in {len(self.worse)} of {len(self.cases)} cases: {', '.join(self.worse)}."
        if self.leaks:
            return f"The candidate is not worse than the current one, and fails where it must refuse or keep: {', '.join(sorted(self.leaks))}."
        more = f", and better in {len(self.better)}: {', '.join(self.better)}" if self.better else ""
        return f"The candidate is worse in none of {len(self.cases)} cases{more}."

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "client": self.client,
            "name": self.name,
            "when": self.when,
            "verdict": self.verdict,
            "worse": self.worse,
            "better": self.better,
            "leaks": sorted(self.leaks),
            "current": self.current.as_dict(),
            "candidate": self.candidate.as_dict(),
            "questions": {case.name: case.question for case in self.cases},
        }

    def write(self, folder: Path) -> None:
        """Write the comparison as JSON, as text (Markdown) and as a web page."""
        data = self.as_dict()
        (folder / FILE).write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for name, template, html in (("comparison.md", _TEXT, False), ("comparison.html", _PAGE, True)):
            page = _environment(html=html).from_string(template).render(data)
            (folder / name).write_text(page, encoding="utf-8")


def _environment(*, html: bool) -> Environment:
    found = Environment(
        undefined=StrictUndefined,
        autoescape=html,  # noqa: S701 - without it for the text, which nobody opens as a page
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["seconds"] = lambda value: "-" if value is None else f"{value:.1f}"
    found.filters["mark"] = lambda passed: "passed" if passed else "failed"
    found.filters["line"] = lambda text: " ".join(str(text).split()).replace("|", "\\|")
    return found


_TEXT = """# {{ candidate.model }} in place of {{ current.model }}, as {{ name }} of {{ client }}

{{ when }}. {{ verdict }}

| | {{ current.model }} (now) | {{ candidate.model }} (candidate) |
|---|---|---|
| engine | {{ current.engine }} | {{ candidate.engine }} |
| cases passed | {{ current.passed }} of {{ current.of }} | {{ candidate.passed }} of {{ candidate.of }} |
| seconds, median | {{ current.median_seconds | seconds }} | {{ candidate.median_seconds | seconds }} |
| seconds, 95 of 100 | {{ current.p95_seconds | seconds }} | {{ candidate.p95_seconds | seconds }} |
| tokens per second | {{ current.tokens_per_second | seconds }} | {{ candidate.tokens_per_second | seconds }} |

| case | now | candidate | what is wrong with the candidate's answer |
|---|---|---|---|
{% for case, question in questions.items() %}
| {{ case }} | {{ current.cases[case].passed | mark }}, {{ current.cases[case].seconds | seconds }} s | {{ candidate.cases[case].passed | mark }}, {{ candidate.cases[case].seconds | seconds }} s | {{ candidate.cases[case].wrong | join("; ") | line }} |
{% endfor %}
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ candidate.model }} in place of {{ current.model }}</title>
<style>
 body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1d2330; }
 table { border-collapse: collapse; width: 100%; margin: .5rem 0 2rem; table-layout: fixed; }
 td, th { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #e3e6ec; vertical-align: top; overflow-wrap: anywhere; }
 .passed { color: #0a7a3d; } .failed { color: #b3261e; font-weight: 600; }
 pre { background: #f6f7f9; padding: .6rem; white-space: pre-wrap; font-size: 13px; }
</style></head><body>
<h1>{{ candidate.model }} in place of {{ current.model }}</h1>
<p>As {{ name }} of {{ client }}, {{ when }}. <strong>{{ verdict }}</strong></p>
<table><tr><th></th><th>{{ current.model }} (now)</th><th>{{ candidate.model }} (candidate)</th></tr>
<tr><td>Engine</td><td>{{ current.engine }}</td><td>{{ candidate.engine }}</td></tr>
<tr><td>Cases passed</td><td>{{ current.passed }} of {{ current.of }}</td><td>{{ candidate.passed }} of {{ candidate.of }}</td></tr>
<tr><td>Seconds, median</td><td>{{ current.median_seconds | seconds }}</td><td>{{ candidate.median_seconds | seconds }}</td></tr>
<tr><td>Seconds, 95 of 100</td><td>{{ current.p95_seconds | seconds }}</td><td>{{ candidate.p95_seconds | seconds }}</td></tr>
<tr><td>Tokens per second</td><td>{{ current.tokens_per_second | seconds }}</td><td>{{ candidate.tokens_per_second | seconds }}</td></tr>
</table>
{% for case, question in questions.items() %}
<h2>{{ case }}</h2><pre>{{ question }}</pre>
<table><tr>
{% for side in (current, candidate) %}
<td><span class="{{ side.cases[case].passed | mark }}">{{ side.model }}: {{ side.cases[case].passed | mark }}</span>,
{{ side.cases[case].seconds | seconds }} s{% if side.cases[case].wrong %}: {{ side.cases[case].wrong | join("; ") }}{% endif %}
<pre>{{ side.cases[case].answer }}</pre></td>
{% endfor %}
</tr></table>
{% endfor %}
</body></html>
"""
