"""Presidio as a detector of the router: what its answers become, that its silence holds requests back, and its program."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tests.unit.routing.presidio_standin import PresidioStandIn, answering

from freehold import render
from freehold.routing import presidio
from freehold.routing.cases import judge, told
from freehold.routing.detect import CATEGORIES
from freehold.routing.policy import Policy
from freehold.routing.presidio import KINDS, Presidio, PresidioError, scanner

POLICY: dict[str, Any] = {
    "models": ["assistant"],
    "cloud": {"claude": {"groups": ["lawyers"], "local": "assistant"}},
    "tasks": {},
    "never_leaves": [],
    "countries": ["DE"],
    "ignore": [],
    "presidio": {"languages": ["de"], "finds": ["person", "organisation"]},
    "notice": True,
}
USERS = {"ada@acme.example": {"groups": ["lawyers"]}}
CASE = {"model": "claude", "user": "ada@acme.example", "text": "Ein Brief an Erika Musterfrau."}
ALL_FOUND = {"found": {"PERSON": 0.85, "LOCATION": 0.85, "NRP": 0.85, "SOMETHING": 1.0}}


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PresidioStandIn]:
    monkeypatch.setattr(presidio, "SOCKET", str(tmp_path / "socket"))
    with answering(tmp_path / "socket") as server:
        yield server


def decided(text: str = CASE["text"], **policy: Any) -> dict[str, Any]:
    rules = Policy.from_dict(POLICY | policy)
    return told(judge(rules, USERS, scanner(rules, []), CASE | {"text": text}))


def test_what_it_is_asked_for_is_a_category_like_others() -> None:
    assert set(KINDS) <= set(CATEGORIES)


def test_a_name_keeps_a_request_in_the_building(there: PresidioStandIn) -> None:
    there.answer = ALL_FOUND
    found = decided()

    assert (found["route"], found["reason"]) == ("local", "sensitive")
    assert (found["categories"], found["detectors"]) == (["person"], ["presidio"])
    assert found["sticky"]


def test_a_place_counts_where_it_shall(there: PresidioStandIn) -> None:
    there.answer = {"found": {"LOCATION": 0.85}}

    assert decided()["route"] == "cloud"
    assert decided(presidio={"languages": ["de"], "finds": ["place"]})["categories"] == ["place"]


def test_where_nothing_is_found_a_request_may_leave(there: PresidioStandIn) -> None:
    assert decided()["route"] == "cloud"
    assert there.asked == [[CASE["text"]]]


@pytest.mark.parametrize("off", [None, {"languages": ["de"], "finds": []}])
def test_where_it_is_off_it_is_not_asked(there: PresidioStandIn, off: Any) -> None:
    there.answer = ALL_FOUND

    assert decided(presidio=off)["route"] == "cloud"
    assert there.asked == []


def test_it_is_not_asked_where_a_built_in_detector_has_found_something(there: PresidioStandIn) -> None:
    found = decided("Bitte auf DE89 3704 0044 0532 0130 00.")

    assert (found["route"], found["reason"]) == ("local", "sensitive")
    assert "bank-account" in found["categories"]
    assert there.asked == []


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (503, {}),
        (500, {}),
        (200, {}),
        (200, []),
        (200, {"found": ["PERSON"]}),
        (200, {"found": {"PERSON": "x"}}),
    ],
)
def test_an_answer_that_says_nothing_holds_a_request_back(
    there: PresidioStandIn, status: int, answer: Any
) -> None:
    there.status, there.answer = status, answer
    found = decided()

    assert (found["route"], found["reason"], found["sticky"]) == ("local", "detectors_failed", True)


def test_no_socket_holds_a_request_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presidio, "SOCKET", str(tmp_path / "none"))

    assert (decided()["route"], decided()["reason"]) == ("local", "detectors_failed")


def test_an_answer_that_comes_too_late_holds_a_request_back(
    there: PresidioStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presidio, "SECONDS", 0.05)
    there.wait = 0.5

    assert (decided()["route"], decided()["reason"]) == ("local", "detectors_failed")


def test_its_errors_hold_nothing_of_a_text(there: PresidioStandIn) -> None:
    there.status = 500
    with pytest.raises((PresidioError, HTTPException)) as error:
        Presidio({"person"}).scan(["Erika Musterfrau"])

    assert "Erika" not in str(error.value)


# The program beside the router, with a stand-in of the library.


class Engine:
    """Stands in for Presidio's engine: whoever is called Erika is a person."""

    seconds = 0.0
    asked: list[tuple[str, str]]

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.asked = []

    def analyze(self, text: str, language: str, entities: list[str]) -> list[Any]:
        self.asked.append((language, text))
        time.sleep(self.seconds)
        if "fail" in text:
            raise ValueError(f"no {text}")
        return [SimpleNamespace(entity_type="PERSON", score=0.85)] if "Erika" in text else []


class Nlp:
    """Stands in for spaCy's pipelines; knows which of their parts are off."""

    def __init__(self, models: list[dict[str, str]], ner_model_configuration: Any) -> None:
        self.models = models
        self.off: list[str] = []

    def load(self) -> None:
        pipe = SimpleNamespace(
            pipe_names=["tok2vec", "tagger", "parser", "ner", "entity_ruler"],
            select_pipes=lambda disable: self.off.extend(disable),
        )
        self.nlp = {model["lang_code"]: pipe for model in self.models}


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    def module(name: str, **content: Any) -> None:
        made = ModuleType(name)
        made.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, made)

    module("presidio_analyzer", AnalyzerEngine=Engine, RecognizerRegistry=SimpleNamespace)
    module(
        "presidio_analyzer.nlp_engine",
        NerModelConfiguration=lambda model_to_presidio_entity_mapping: None,
        SpacyNlpEngine=Nlp,
    )
    module("presidio_analyzer.predefined_recognizers", SpacyRecognizer=SimpleNamespace)
    found: dict[str, Any] = {"__name__": "freehold_presidio"}
    exec(compile(render.render("litellm/freehold_presidio.py.j2", {}), "freehold_presidio.py", "exec"), found)
    return found


@pytest.fixture
def analyzer(program: dict[str, Any], tmp_path: Path) -> Any:
    for language in ("de", "en"):
        (tmp_path / language / "inner").mkdir(parents=True)
        (tmp_path / language / "inner/config.cfg").touch()
    return program["Analyzer"]({language: str(tmp_path / language) for language in ("de", "en")})


@pytest.fixture
def served(
    program: dict[str, Any], analyzer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    path = tmp_path / "socket"
    monkeypatch.setattr(presidio, "SOCKET", str(path))
    with program["Server"](str(path), analyzer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield path
        server.shutdown()
        thread.join()


def test_the_program_answers_the_router(served: Path) -> None:
    assert Presidio({"person"}).scan(["Hallo"]) == ()
    (found,) = Presidio({"person"}).scan(["Hallo", "Frau Erika Musterfrau"])

    assert (found.category, found.detector, found.score) == ("person", "presidio", 0.85)


def test_its_socket_is_its_user_s_alone(served: Path) -> None:
    assert served.stat().st_mode & 0o777 == 0o600


def test_every_text_is_read_in_every_language_and_whole(analyzer: Any, program: dict[str, Any]) -> None:
    name, size = "Erika Musterfrau", program["PIECE"]
    text = "x" * (size - 5) + name + "y" * size
    assert analyzer.found(["kurz", text], time.monotonic() + 9) == {"PERSON": 0.85}

    asked = analyzer._engine.asked
    assert {language for language, _ in asked} == {"de", "en"}
    assert max(len(piece) for _, piece in asked) == size
    assert any(name in piece for _, piece in asked)


@pytest.mark.parametrize("texts", ["Erika", [1], None, {"a": 1}])
def test_what_is_no_list_of_texts_is_refused(served: Path, texts: Any) -> None:
    connection = presidio._Connection(str(served))
    connection.request("POST", "/analyze", json.dumps({"texts": texts}))

    assert connection.getresponse().status in {400, 500}
    connection.close()


def test_what_it_cannot_read_it_does_not_repeat(served: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(PresidioError, match="500"):
        Presidio({"person"}).scan(["fail Erika"])

    assert "ValueError" in caplog.text
    assert "Erika" not in caplog.text


def test_it_says_when_its_time_is_over(
    served: Path, program: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(program, "SECONDS", 0.05)
    monkeypatch.setattr(Engine, "seconds", 0.1)
    with pytest.raises(PresidioError, match="503"):
        Presidio({"person"}).scan(["one", "two"])


def test_too_much_at_once_is_not_read(
    served: Path, program: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(program, "LARGEST", 10)
    with pytest.raises(PresidioError, match="413"):
        Presidio({"person"}).scan(["one", "two"])


def test_parts_that_find_no_names_are_off(analyzer: Any, tmp_path: Path) -> None:
    engine = analyzer._engine.options["nlp_engine"]

    assert engine.off == ["tagger", "parser"] * 2
    assert [model["model_name"] for model in engine.models] == [
        str(tmp_path / language / "inner") for language in ("de", "en")
    ]
