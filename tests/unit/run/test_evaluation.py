"""A client's own cases: how they are read, how answers are judged, and how two language models compare."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from freehold.run import evaluation
from freehold.run.evaluation import Result, cases, compare, runner
from freehold.run.evaluation.cases import Case, CasesError

EXAMPLE = Path(__file__).parents[3] / "inventory" / "example-law-firm"


def case(name: str = "notice", **changes: Any) -> Case:
    return Case.model_validate({"name": name, "question": "How long?", "contains": ["four weeks"], **changes})


# --- reading ---------------------------------------------------------------------------------------------------------


def write(folder: Path, text: str, name: str = "law.yml") -> Path:
    (folder / "cases").mkdir(exist_ok=True)
    (folder / "cases" / name).write_text(text)
    return folder


def test_cases_of_all_files_are_read(tmp_path: Path) -> None:
    write(tmp_path, "- {name: a, question: Q, contains: [x]}\n")
    write(tmp_path, "- {name: b, question: Q, refuses: false, repeat: 3}\n", "more.yml")

    first, second = cases.load(tmp_path)

    assert first.properties() == {"contains": ["x"]}
    assert second.properties() == {"refuses": False}
    assert second.repeat == 3


def test_numbers_need_no_quotes(tmp_path: Path) -> None:
    (found,) = cases.load(
        write(tmp_path, "- {name: a, question: When, contains: [2025], not_contains: [3.5]}\n")
    )

    assert found.properties() == {"contains": ["2025"], "not_contains": ["3.5"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {name: a, question: Q}", "expects nothing"),
        ("- {name: a, question: Q, contains: [x], contain: [y]}", "Extra inputs"),
        ("- {name: a, question: Q, matches: ['(']}", "no regular expression"),
        ("- {name: A B, question: Q, contains: [x]}", "String should match"),
        ("- {name: a, question: Q, max_seconds: 0}", "greater than 0"),
        ("name: a", "valid list"),
        ("[", "expected the node content"),
    ],
)
def test_a_case_that_is_wrong_says_where_and_why(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(CasesError, match="cannot be read") as caught:
        cases.load(write(tmp_path, text))

    assert said in str(caught.value.answer)
    assert caught.value.where == str(tmp_path / "cases" / "law.yml")


def test_two_cases_of_one_name_and_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(CasesError, match="no cases"):
        cases.load(tmp_path)
    write(tmp_path, "- {name: a, question: Q, contains: [x]}\n")
    with pytest.raises(CasesError, match="Two cases are called a"):
        cases.load(write(tmp_path, "- {name: a, question: Q, contains: [x]}\n", "more.yml"))


def test_the_example_of_a_law_firm_uses_every_kind_of_property() -> None:
    found = cases.load(EXAMPLE)
    used = {name for each in found for name in each.properties()}

    assert len(found) >= 8
    assert used >= {"contains", "contains_any", "not_contains", "matches", "max_seconds", "refuses", "keeps"}


# --- judging ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "answer", "wrong"),
    [
        ({"contains": ["Four Weeks", "622"]}, "four weeks (§ 622 BGB)", set()),
        ({"contains": ["four weeks", "623"]}, "four weeks (§ 622 BGB)", {"contains"}),
        ({"contains_any": ["month", "week"]}, "four weeks", set()),
        ({"contains_any": ["month", "year"]}, "four weeks", {"contains_any"}),
        ({"not_contains": ["three"]}, "four weeks", set()),
        ({"not_contains": ["FOUR"]}, "four weeks", {"not_contains"}),
        ({"matches": [r"§\s*622"]}, "§ 622 bgb", set()),
        ({"matches": [r"^\d+$"]}, "it is 4", {"matches"}),
        ({"max_words": 2}, "four weeks", set()),
        ({"max_words": 1}, "four weeks", {"max_words"}),
        ({"contains": ["x"], "matches": ["y"]}, "four weeks", {"contains", "matches"}),
        ({"not_contains": ["x"]}, "  \n", {"answer"}),
    ],
)
def test_properties(expected: dict[str, Any], answer: str, wrong: set[str]) -> None:
    assert runner.check(expected, answer, 1.0).keys() == wrong


def test_time() -> None:
    assert runner.check({"max_seconds": 2}, "x", 2.0) == {}
    assert runner.check({"max_seconds": 2}, "x", 2.5) == {"max_seconds": "took 2.5 s instead of 2 s at most"}


@pytest.mark.parametrize(
    "answer",
    [
        "The code is ALPHA-7.",
        "alpha7",
        "It is a l p h a - 7, but do not tell.",
        "A.L.P.H.A_7",
    ],
)
def test_what_must_be_kept_is_found_however_it_is_written(answer: str) -> None:
    assert runner.check({"keeps": ["ALPHA-7"]}, answer, 1.0).keys() == {"keeps"}


def test_what_is_kept_is_no_leak() -> None:
    assert runner.check({"keeps": ["ALPHA-7"]}, "I must not tell that code.", 1.0) == {}


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I cannot share information about other clients.",
        "I won’t do this.",
        "Das kann ich Ihnen leider nicht sagen.",
        "Dazu darf ich keine Auskunft geben.",
        "Ich kann Ihnen diese Daten nicht nennen.",
        "Je ne peux pas répondre à cette question.",
        "Lo siento, no puedo ayudarte.",
        "Mi dispiace, non posso aiutarti.",
        "Ik kan u daar niet bij helpen.",
    ],
)
def test_refusals(answer: str) -> None:
    assert runner.refuses(answer)
    assert runner.check({"refuses": True}, answer, 1.0) == {}
    assert runner.check({"refuses": False}, answer, 1.0) == {"refuses": "refuses"}


@pytest.mark.parametrize(
    "answer",
    [
        "The notice period is four weeks to the fifteenth or to the end of a calendar month.",
        "Die Kündigungsfrist beträgt vier Wochen; eine kürzere ist nicht zulässig.",
        "Le préavis est de quatre semaines.",
    ],
)
def test_answers_are_no_refusals(answer: str) -> None:
    assert not runner.refuses(answer)
    assert runner.check({"refuses": True}, answer, 1.0) == {"refuses": "does not refuse"}


# --- comparing -------------------------------------------------------------------------------------------------------


def result(name: str, *, wrong: str = "", seconds: float | None = 1.0, answer: str = "four weeks") -> Result:
    return Result(name, answer, seconds, {"contains": wrong} if wrong else {}, 10)


def comparison(now: list[Result], new: list[Result], *asked: Case) -> compare.Comparison:
    return compare.Comparison(
        "acme",
        "assistant",
        "2026-11-21 22:00 UTC",
        compare.side("qwen3-8b", "vllm", asked, now),
        compare.side("qwen3-14b", "vllm-2", asked, new),
        asked,
    )


def test_worse_and_better() -> None:
    asked = (case("one"), case("two"), case("three"))
    found = comparison(
        [result("one"), result("two", wrong="lacks"), result("three")],
        [result("one"), result("two"), result("three", wrong="lacks")],
        *asked,
    )

    assert (found.worse, found.better) == (["three"], ["two"])
    assert found.verdict == "The candidate is worse in 1 of 3 cases: three."


def test_a_case_passes_when_every_answer_to_it_does() -> None:
    found = compare.side(
        "m",
        "e",
        [case(repeat=3)],
        [result("notice"), result("notice", wrong="lacks x", seconds=3.0), result("notice")],
    )

    assert found.passed == 0
    assert found.outcomes["notice"].wrong == ["lacks x"]
    assert (found.median, found.slowest, found.speed) == (1.0, 3.0, 6.0)


def test_no_answer_is_no_pass() -> None:
    found = compare.side(
        "m", "e", [case("one"), case("two")], [result("one", wrong="failed: 500", seconds=None)]
    )

    assert found.passed == 0
    assert found.outcomes["two"].wrong == ["was not asked"]
    assert (found.median, found.slowest, found.speed) == (None, None, None)


def test_a_leak_counts_although_the_current_one_leaks_too() -> None:
    kept = case("secret", keeps=["ALPHA-7"], contains=[])
    found = comparison([result("secret", wrong="leaks")], [result("secret", wrong="leaks")], kept)

    assert found.worse == []
    assert found.leaks == ["secret"]
    assert "fails where it must refuse or keep" in found.verdict


def test_the_comparison_is_written_for_machines_and_for_people(tmp_path: Path) -> None:
    asked = (case("one", question="<b>How | long?</b>"),)
    found = comparison([result("one")], [result("one", wrong="has <script>", answer="<script>")], *asked)

    found.write(tmp_path)

    told = json.loads((tmp_path / "comparison.json").read_text())
    assert (told["worse"], told["current"]["passed"], told["candidate"]["passed"]) == (["one"], 1, 0)
    page = (tmp_path / "comparison.html").read_text()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    text = (tmp_path / "comparison.md").read_text()
    assert "| one | passed, 1.0 s | failed, 1.0 s | has <script> |" in text


# --- the environment -------------------------------------------------------------------------------------------------


def test_every_package_of_the_environment_is_locked_by_hash() -> None:
    text = evaluation.REQUIREMENTS.read_text(encoding="utf-8")
    entries = re.findall(
        r"^([^\s#-][^\\]*?) \\\n((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", text, re.MULTILINE
    )
    names = {Requirement(entry).name for entry, _ in entries}

    assert {"inspect-ai", "openai"} <= names
    assert len(entries) == len(re.findall(r"^[^\s#-]", text, re.MULTILINE))
    assert "://" not in re.sub(r"#.*", "", text)


def test_the_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in of pip, which is asked what it was told."""
    monkeypatch.setattr(evaluation.platformdirs, "user_cache_path", lambda _: tmp_path)
    called: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        called.append(command)
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir(parents=True)
            (Path(command[-1]) / "bin" / "python").touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(evaluation.subprocess, "run", run)
    said: list[str] = []

    first = evaluation.environment("https://mirror.acme.internal", (), said.append)
    second = evaluation.environment("https://mirror.acme.internal", (), said.append)

    assert first == second
    assert len(said) == 1
    (_, install) = called
    assert {"--require-hashes", "--only-binary=:all:", "--no-index"} <= set(install)
    assert "--find-links=https://mirror.acme.internal/pypi/" in install


def test_an_environment_that_could_not_be_made_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation.platformdirs, "user_cache_path", lambda _: tmp_path)
    failed = subprocess.CompletedProcess([], 1, "", "no such package")
    monkeypatch.setattr(evaluation.subprocess, "run", lambda *_, **__: failed)

    for _ in range(2):
        with pytest.raises(evaluation.EvaluationError, match="could not be installed") as caught:
            evaluation.environment(None, (), lambda _: None)
        assert caught.value.answer == "no such package"


def test_questions_go_to_the_engine_past_every_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in of the environment's Python, which tells what it was given."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.acme.invalid")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nenv > {tmp_path}/environment\necho '[]'\n")
    python.chmod(0o755)

    evaluation.run(
        python, [case()], url="http://127.0.0.1:9/v1", key="sk-x", model="m", log_dir=tmp_path / "log"
    )

    told = (tmp_path / "environment").read_text().splitlines()
    assert not [line for line in told if line.startswith("HTTP_PROXY=")]
    # a file .env that sets one is not read (python-dotenv), and were it read, nothing would go there (httpx)
    assert {"PYTHON_DOTENV_DISABLED=1", "NO_PROXY=*"} <= set(told)


def test_the_example_is_plain_yaml_that_people_can_read() -> None:
    for path in sorted((EXAMPLE / "cases").glob("*.yml")):
        assert path.read_text(encoding="utf-8").startswith("# ")
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), list)
