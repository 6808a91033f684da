"""Which language model is meant, what may be promoted, and that a name leads where the file says or where it led before."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from freehold.errors import FreeholdError
from freehold.layout import aliases, trial
from freehold.layout.aliases import Target
from freehold.run import check, model_change, model_trial
from freehold.run.context import Client
from freehold.run.model_change import (
    NoRouterError,
    NotSwitchedError,
    NotTriedError,
    Served,
    UnknownModelError,
)
from freehold.ssh import UnreachableError

STACK = """
client: acme
domain: acme.internal
proxmox: {endpoint: "https://pve:8006"}
network: {subnet: 10.20.0.0/24}
services:
  litellm:
  openwebui:
  vllm: {device: cpu, served_name: assistant}
  vllm-2: {device: cpu, served_name: candidate}
  ollama:
    device: cpu
    models:
      - {name: "small:1b", digest: "%064d"}
      - {name: meaning, kind: embedding, digest: "%064d"}
"""
TODAY = date(2026, 11, 21)


def client_of(folder: Path, text: str) -> Client:
    place = folder / "inventory" / "acme"
    place.mkdir(parents=True)
    (place / "stack.yml").write_text(text)
    return Client.open(place / "stack.yml")


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return client_of(tmp_path, STACK % (1, 2))


def again(client: Client) -> Client:
    return Client.open(client.loaded.path)


# --- which is meant --------------------------------------------------------------------------------------------------


def test_all_names_at_the_router_and_where_they_lead(client: Client) -> None:
    assert {(each.name, each.engine, each.kind) for each in model_change.served(client)} == {
        ("assistant", "vllm", "chat"),
        ("candidate", "vllm-2", "chat"),
        ("small:1b", "ollama", "chat"),
        ("meaning", "ollama", "embedding"),
    }


def test_a_candidate_by_its_name(client: Client) -> None:
    new = model_change.candidate(client, "candidate")

    assert new == Served("candidate", "vllm-2", "candidate", "chat", "candidate")
    assert new.deployment == "candidate@vllm-2"


def test_a_candidate_that_nobody_serves_says_what_is_served(client: Client) -> None:
    with pytest.raises(UnknownModelError, match="No engine of acme serves qwen") as caught:
        model_change.candidate(client, "qwen")
    assert "candidate" in str(caught.value.answer)
    with pytest.raises(UnknownModelError, match="on ollama"):
        model_change.candidate(client, "candidate", "ollama")


def test_whose_place_it_takes_must_be_said_where_several_could_be_meant(client: Client) -> None:
    new = model_change.candidate(client, "candidate")

    with pytest.raises(UnknownModelError, match="assistant, small:1b"):
        model_change.current(client, new)
    assert model_change.current(client, new, "assistant").engine == "vllm"
    with pytest.raises(UnknownModelError, match="no name other"):
        model_change.current(client, new, "other")


def test_the_only_other_one_is_meant(tmp_path: Path) -> None:
    small = f'      - {{name: "small:1b", digest: "{1:064d}"}}\n'
    client = client_of(tmp_path, (STACK % (1, 2)).replace(small, ""))

    assert model_change.current(client, model_change.candidate(client, "candidate")).name == "assistant"


def test_an_embedding_model_takes_no_place_of_a_chat_model(client: Client) -> None:
    with pytest.raises(UnknownModelError, match="no other embedding"):
        model_change.current(client, model_change.candidate(client, "meaning"))


def test_a_name_stays_with_its_kind(client: Client) -> None:
    with pytest.raises(UnknownModelError, match="meaning is for embedding, and candidate is for chat"):
        model_change.current(client, model_change.candidate(client, "candidate"), "meaning")


def test_without_a_router_there_are_no_names(tmp_path: Path) -> None:
    alone = client_of(tmp_path, (STACK % (1, 2)).replace("  litellm:\n  openwebui:\n", ""))

    with pytest.raises(NoRouterError, match="no router"):
        model_change.served(alone)


# --- the way to an engine --------------------------------------------------------------------------------------------

_SSH = """#!/usr/bin/env python3
# Stands in for ssh: {what}
import socket, sys
place = sys.argv[sys.argv.index("-L") + 1].split(":")
listening = socket.create_server((place[0], int(place[1])))
{then}
"""


def ssh_is(folder: Path, monkeypatch: pytest.MonkeyPatch, what: str, then: str) -> None:
    program = folder / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(_SSH.format(what=what, then=then), encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr(Client, "ssh", lambda _: SimpleNamespace(config=folder / "ssh_config"))
    monkeypatch.setattr(model_change, "value", lambda *_: "sk-of-the-engine")


def test_a_stranger_who_listens_first_is_not_shown_the_key(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = "import time; time.sleep(1); sys.exit('bind: Address already in use')"
    ssh_is(tmp_path, monkeypatch, "somebody else has the port before it does.", taken)

    with (
        pytest.raises(UnreachableError, match="does not answer") as caught,
        model_trial._reached(client, "vllm"),
    ):
        pytest.fail("the key went to whoever listened")

    assert caught.value.answer == "bind: Address already in use"


def test_an_engine_is_reached_once_ssh_has_the_port(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The command for the other end is the last word; ssh runs it when its own ports are open.
    runs = "import subprocess; sys.exit(subprocess.run(['sh', '-c', sys.argv[-1]]).returncode)"
    ssh_is(tmp_path, monkeypatch, "it has the port, and the other end is this machine.", runs)

    with model_trial._reached(client, "vllm") as (url, key):
        address = urlsplit(url)
        socket.create_connection((str(address.hostname), address.port or 0), timeout=5).close()
        assert key == "sk-of-the-engine"


# --- what may be promoted --------------------------------------------------------------------------------------------


def tried(
    client: Client, *, worse: list[str], leaks: list[str], stamp: str, model: str = "candidate"
) -> None:
    folder = client.directory / "runs" / f"{stamp}-try"
    folder.mkdir(parents=True)
    told = {
        "current": {"model": "assistant", "engine": "vllm"},
        "candidate": {"model": model, "engine": "vllm-2"},
        "worse": worse,
        "leaks": leaks,
        "verdict": "The candidate is worse." if worse else "It leaks." if leaks else "It is not worse.",
    }
    (folder / "comparison.json").write_text(json.dumps(told))


def both(client: Client) -> tuple[Served, Served]:
    new = model_change.candidate(client, "candidate")
    return new, model_change.current(client, new, "assistant")


def test_what_was_not_tried_is_refused(client: Client) -> None:
    tried(client, worse=[], leaks=[], stamp="20261120T100000", model="another")

    with pytest.raises(NotTriedError, match="was not tried against assistant") as caught:
        model_change.require_tried(client, *both(client))
    assert "freehold models try acme candidate --as assistant" in str(caught.value.remedy)


@pytest.mark.parametrize(("worse", "leaks"), [(["notice"], []), ([], ["secret"])])
def test_what_was_found_worse_is_refused(client: Client, worse: list[str], leaks: list[str]) -> None:
    tried(client, worse=[], leaks=[], stamp="20261120T100000")
    tried(client, worse=worse, leaks=leaks, stamp="20261121T100000")

    with pytest.raises(NotTriedError, match="worse" if worse else "leaks") as caught:
        model_change.require_tried(client, *both(client))
    assert "20261121T100000-try" in str(caught.value.where)


def test_the_newest_comparison_counts(client: Client) -> None:
    tried(client, worse=["notice"], leaks=[], stamp="20261120T100000")
    tried(client, worse=[], leaks=[], stamp="20261121T100000")

    model_change.require_tried(client, *both(client))


# --- switching -------------------------------------------------------------------------------------------------------


@pytest.fixture
def ups(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stand-in of ``up`` and of the router: each run notes what the router would get, and the router does so."""
    done: list[dict[str, Any]] = []

    def up(client: Client, sink: Any, options: Any) -> None:
        assert client.only == "litellm"
        assert not options.prove
        done.append({each.name: each.deployment for each in model_change.served(client)})

    monkeypatch.setattr(model_change, "up", up)
    monkeypatch.setattr(model_change, "_who_answers", lambda _, name: done[-1][name])
    return done


def nowhere(_: Any) -> None:
    pass


def test_a_promoted_name_leads_to_the_candidate_and_back(client: Client, ups: list[dict[str, Any]]) -> None:
    model_change.promote(client, *both(client), nowhere, today=TODAY)

    assert ups[-1]["assistant"] == "assistant@vllm-2"
    (alias,) = aliases.load(client.directory).values()
    assert (alias.model, alias.since) == ("candidate", TODAY)
    assert alias.previous == Target(model="assistant", engine="vllm")

    name, where = model_change.back(again(client), nowhere, today=TODAY)

    assert (name, where.model, where.engine) == ("assistant", "assistant", "vllm")
    assert ups[-1]["assistant"] == "assistant@vllm"
    assert where.previous == Target(model="candidate", engine="vllm-2")


def test_back_and_forth(client: Client, ups: list[dict[str, Any]]) -> None:
    model_change.promote(client, *both(client), nowhere, today=TODAY)
    for expected in ("vllm", "vllm-2", "vllm"):
        model_change.back(again(client), nowhere, today=TODAY)
        assert ups[-1]["assistant"] == f"assistant@{expected}"


def test_what_leads_there_already_is_not_promoted_again(client: Client, ups: list[dict[str, Any]]) -> None:
    model_change.promote(client, *both(client), nowhere, today=TODAY)

    new = model_change.candidate(again(client), "candidate")
    now = model_change.current(again(client), new, "assistant")
    with pytest.raises(UnknownModelError, match="leads to candidate on vllm-2 already"):
        model_change.promote(again(client), new, now, nowhere)
    assert len(ups) == 1


def test_back_without_a_promotion(client: Client, ups: list[dict[str, Any]]) -> None:
    with pytest.raises(UnknownModelError, match="No name was promoted"):
        model_change.back(client, nowhere)
    with pytest.raises(UnknownModelError, match="assistant was not promoted"):
        model_change.back(client, nowhere, "assistant")
    assert ups == []


def test_a_router_that_does_not_take_it_over_leaves_all_as_it_was(
    client: Client, ups: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_change, "_who_answers", lambda *_: "assistant@vllm")

    with pytest.raises(NotSwitchedError, match="answered by vllm instead of vllm-2"):
        model_change.promote(client, *both(client), nowhere, today=TODAY)

    assert not (client.directory / aliases.FILE).exists()
    assert [each["assistant"] for each in ups] == ["assistant@vllm-2", "assistant@vllm"]


def test_a_run_that_fails_leaves_all_as_it_was(
    client: Client, ups: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model_change.promote(client, *both(client), nowhere, today=TODAY)
    before = (client.directory / aliases.FILE).read_text()
    good = model_change.up
    calls: list[int] = []

    def up(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise FreeholdError("the host does not answer")
        return good(*given)

    monkeypatch.setattr(model_change, "up", up)
    with pytest.raises(FreeholdError, match="does not answer"):
        model_change.back(again(client), nowhere)

    assert (client.directory / aliases.FILE).read_text() == before
    assert len(calls) == 2


def test_a_run_that_cannot_even_go_back_says_the_first_reason(
    client: Client, ups: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def up(*_: Any) -> None:
        raise FreeholdError("the host does not answer")

    monkeypatch.setattr(model_change, "up", up)
    with pytest.raises(FreeholdError, match="does not answer"):
        model_change.promote(client, *both(client), nowhere, today=TODAY)

    assert not (client.directory / aliases.FILE).exists()


# --- in the place of the current one ---------------------------------------------------------------------------------

OF_MODELS = """
client: acme
domain: acme.internal
proxmox: {endpoint: "https://pve:8006"}
network: {subnet: 10.20.0.0/24}
services:
  litellm:
  vllm: {device: cpu}
models:
  qwen3-8b: {name: assistant, engine: vllm, licence_accepted: true}
"""


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client with one engine and one language model; with stand-ins of the engines and of Inspect."""
    client = client_of(tmp_path, OF_MODELS)
    (client.directory / "cases").mkdir()
    (client.directory / "cases" / "a.yml").write_text("- {name: a, question: Q, contains: [four weeks]}\n")
    monkeypatch.setattr(model_trial.evaluation, "environment", lambda *_: Path("/python"))

    @contextmanager
    def reached(client: Client, engine: str) -> Iterator[tuple[str, str]]:
        yield f"http://{engine}/v1", "key"

    monkeypatch.setattr(model_trial, "_reached", reached)
    return client


@pytest.fixture
def runs(one: Client, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done, in order; ``up`` with what the router would get."""
    done: list[str] = []

    def up(client: Client, sink: Any, options: Any) -> None:
        assert client.only is not None
        assert set(client.only.split(",")) >= {"vllm", "litellm"}
        (now,) = model_change.served(client)
        done.append(f"up {now.name}={now.model}")

    def run(*_: Any, model: str, **__: Any) -> list[Any]:
        done.append(f"ask {model}")
        return [model_trial.evaluation.Result("a", "four weeks", 1.0, {}, 5)]

    monkeypatch.setattr(model_trial, "up", up)
    monkeypatch.setattr(model_trial.evaluation, "run", run)
    return done


def test_a_candidate_in_the_place_of_the_current_one_for_a_window(one: Client, runs: list[str]) -> None:
    def wait(seconds: float) -> None:
        runs.append("wait")
        assert 29 * 60 < seconds <= 30 * 60
        assert trial.load(one.directory) is not None

    found, folder = model_trial.try_instead(one, "qwen3-4b", nowhere, minutes=30, wait=wait)

    assert (found.current.model, found.candidate.model) == ("qwen3-8b", "qwen3-4b")
    assert [step.split()[0] for step in runs] == ["ask", "up", "ask", "wait", "up"]
    assert runs[1] == "up assistant=qwen3-4b"
    assert runs[-1] == "up assistant=qwen3-8b"
    assert not (one.directory / trial.FILE).exists()
    assert (folder / "comparison.html").is_file()


def test_whatever_fails_the_current_one_comes_back(
    one: Client, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any, model: str, **__: Any) -> list[Any]:
        if "4b" in model.lower():
            raise model_trial.evaluation.EvaluationError("Inspect did not run the cases")
        return []

    monkeypatch.setattr(model_trial.evaluation, "run", run)
    with pytest.raises(model_trial.evaluation.EvaluationError):
        model_trial.try_instead(one, "qwen3-4b", nowhere)

    assert runs[-1] == "up assistant=qwen3-8b"
    assert not (one.directory / trial.FILE).exists()


def test_ctrl_c_ends_the_window(one: Client, runs: list[str]) -> None:
    def wait(_: float) -> None:
        raise KeyboardInterrupt

    model_trial.try_instead(one, "qwen3-4b", nowhere, minutes=30, wait=wait)

    assert runs[-1] == "up assistant=qwen3-8b"


def test_what_cannot_be_is_said_before_anything_is_touched(one: Client, runs: list[str]) -> None:
    with pytest.raises(FreeholdError):
        model_trial.try_instead(one, "no-such-model", nowhere)
    with pytest.raises(trial.TrialError, match="has qwen3-8b"):
        model_trial.try_instead(one, "qwen3-8b", nowhere)

    assert runs == []
    assert not (one.directory / trial.FILE).exists()


def test_a_trial_that_was_cut_off_is_told_and_ended(one: Client, runs: list[str]) -> None:
    until = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
    running = trial.Trial(instead="qwen3-8b", model="qwen3-4b", until=until)
    (one.directory / trial.FILE).write_text(trial.dump(running))
    assert trial.load(one.directory) == running

    findings = [each for each in check._old_models(again(one)) if each.about == "trial"]
    assert "qwen3-4b stands in for qwen3-8b until 2026-11-21 22:00" in findings[0].detail
    with pytest.raises(trial.TrialError, match="is being tried"):
        model_trial.try_instead(again(one), "qwen3-1.7b", nowhere)

    assert model_trial.end_trial(again(one), nowhere)
    assert runs == ["up assistant=qwen3-8b"]
    assert not model_trial.end_trial(again(one), nowhere)


def test_what_was_accepted_of_the_current_one_is_not_of_the_candidate(one: Client) -> None:
    running = trial.Trial(instead="qwen3-8b", model="qwen3-4b", until=datetime.now(UTC))

    use = trial.lay_over(one.stack, running).models["qwen3-4b"]

    assert use is not None
    assert (use.name, use.engine, use.licence_accepted) == ("assistant", "vllm", False)
    assert trial.lay_over(one.stack, None) is one.stack
