"""What a run counts, keeps and says when a stage fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from freehold.errors import BadInputError, ExitCode, FreeholdError
from freehold.events import Event, Stage, Status
from freehold.run import children
from freehold.run.context import Client
from freehold.run.folder import RunFolder
from freehold.run.stages import Run, StageFailedError, failure


def event(status: Status, host: str = "caddy", message: str = "", **data: Any) -> Event:
    return Event(stage=Stage.BASE, status=status, step="Packages", host=host, message=message, data=data)


@pytest.fixture
def seen() -> list[Event]:
    return []


@pytest.fixture
def run(client: Client, tmp_path: Path, seen: list[Event]) -> Run:
    return Run(client, RunFolder(tmp_path, "up"), seen.append)


def test_changes_are_those_of_hosts_not_of_the_stage_itself(run: Run, seen: list[Event]) -> None:
    with run.stage(Stage.BASE, "Base"):
        run(event(Status.CHANGED))
        run(event(Status.OK))
        run(event(Status.CHANGED, host="postgres"))
    with run.stage(Stage.PROOF, "Proof"):
        pass
    assert {stage: number for stage, number in run.changed.items() if number} == {Stage.BASE: 2}
    ends = [(e.stage, e.status, e.message) for e in seen if not e.host and e.status is not Status.STARTED]
    assert ends == [(Stage.BASE, Status.CHANGED, "2 changes"), (Stage.PROOF, Status.OK, "")]
    assert len((run.folder.path / "events.jsonl").read_text().splitlines()) == len(seen)


def test_a_stage_that_fails_does_not_end(run: Run, seen: list[Event]) -> None:
    with pytest.raises(RuntimeError), run.stage(Stage.BASE, "Base"):
        raise RuntimeError
    assert [e.status for e in seen] == [Status.STARTED]


def test_an_error_is_an_event_too(run: Run, seen: list[Event]) -> None:
    """Who reads the events, or the run's folder later, learns why the run ended."""
    with pytest.raises(FreeholdError), run.stage(Stage.PLAN, "Plan"):
        raise FreeholdError("no answer", remedy="Mend it")
    last = seen[-1]
    assert (last.stage, last.status, last.step, last.message) == (
        Stage.PLAN,
        Status.FAILED,
        "Plan",
        "no answer",
    )
    assert last.data["error"]["remedy"] == "Mend it"
    assert "no answer" in (run.folder.path / "events.jsonl").read_text()


def test_bad_input_found_after_a_change_does_not_say_that_nothing_was_touched(run: Run) -> None:
    with pytest.raises(BadInputError) as caught, run.stage(Stage.CHECK, "Check"):
        raise BadInputError("wrong")
    assert caught.value.exit_code is ExitCode.BAD_INPUT
    with run.stage(Stage.CONTAINERS, "Containers"):
        run(event(Status.CHANGED))
    with pytest.raises(BadInputError) as caught, run.stage(Stage.ROOT_STEPS, "Root steps"):
        raise BadInputError("no password")
    assert caught.value.exit_code is ExitCode.FAILED


def engine(monkeypatch: pytest.MonkeyPatch, code: int, *events: Event) -> list[dict[str, Any]]:
    """An engine that reports events and ends with a code; what it was asked."""
    asked: list[dict[str, Any]] = []

    def play(module: str, document: dict[str, Any], *, on_event: Any, log: Path, echo: bool) -> int:
        asked.append({"module": module, "log": log, **document})
        for one in events:
            on_event(one)
        return code

    monkeypatch.setattr(children, "run", play)
    return asked


def test_an_engine_gets_the_layout_and_its_events_are_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = engine(monkeypatch, 0, event(Status.CHANGED))
    (got,) = run.pyinfra("base", Stage.BASE, ssh_config="/x")
    assert (run.folder.path / "events.jsonl").read_text() == got.line() + "\n"
    assert asked[0]["module"] == "freehold.pyinfra"
    assert asked[0]["layout"]["client"] == "acme"
    assert (asked[0]["deploy"], asked[0]["stage"], asked[0]["ssh_config"]) == ("base", "base", "/x")
    assert asked[0]["log"] == run.folder.path / "base-pyinfra.log"


def test_a_host_that_failed_is_named_with_its_step_and_remedy(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = event(Status.FAILED, message="no route", error={"answer": "apt: no route", "remedy": "Mend it"})
    engine(monkeypatch, 1, event(Status.OK, host="postgres"), broken)
    with pytest.raises(StageFailedError) as caught:
        run.pyinfra("base", Stage.BASE)
    error = caught.value
    assert error.message == "The stage base failed on caddy"
    assert error.answer == "caddy: Packages: no route\napt: no route"
    assert error.remedy == "Mend it"
    assert error.where == str(run.folder.path / "base-pyinfra.log")
    assert [e.host for e in run.failed] == ["caddy"]


def test_an_engine_that_ends_badly_without_a_word_is_a_failure(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine(monkeypatch, 2)
    with pytest.raises(StageFailedError) as caught:
        run.ansible(Stage.SERVICES)
    assert "without saying why" in caught.value.message
    assert str(caught.value.where).endswith("services-ansible.log")
    assert caught.value.remedy


def test_many_failures_are_listed_up_to_a_limit() -> None:
    events = [event(Status.FAILED, host=f"h{number}", message="no") for number in range(20)]
    error = failure(Stage.BASE, events, log="/log")
    assert len((error.answer or "").splitlines()) == 8
    assert "h19" in error.message
    assert error.remedy
