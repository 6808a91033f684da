"""What is learned of weights is locked once, and laid over the catalogue; what is fetched, verified and removed is chosen."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold import ssh
from freehold.catalog import models as catalog
from freehold.errors import BadInputError, ExitCode, FreeholdError
from freehold.layout import trial
from freehold.mirror.fetch import FetchError
from freehold.run import models, models_lock, weights
from freehold.run.context import Client
from freehold.run.weights import NoWeightsError, WeightsError

from .conftest import Open

COMMIT, OTHER = "a" * 40, "b" * 40
ENTRY: dict[str, Any] = {
    "title": "Own",
    "family": "Own",
    "provider": "Acme",
    "jurisdiction": "DE",
    "architecture": {"layers": 2, "context": 4096},
    "licence": "Apache-2.0",
    "quantizations": {
        "bf16": {"repository": "acme/own", "engines": ["vllm"], "source": "https://acme.example"},
        "q4": {"ollama": "own:q4", "engines": ["ollama"], "source": "https://acme.example"},
    },
    "sources": {"architecture": "https://acme.example"},
}
FILES = [
    {"name": "config.json", "size": 12, "sha256": "1" * 64},
    {"name": "model.safetensors", "size": 99, "sha256": "2" * 64},
]
RESULT: dict[str, Any] = {
    "id": "own",
    "quantization": "bf16",
    "repository": "acme/own",
    "revision": COMMIT,
    "path": f"/models/acme--own/{COMMIT}",
    "since": "2026-01-01T00:00:00+00:00",
    "size": 111,
    "fetched": True,
    "files": FILES,
    "lacking": [],
}

Opened = Callable[..., Client]


@pytest.fixture
def opened(open_client: Open, home: Path) -> Opened:
    """A client with an entry of its own, which vLLM serves; keys of its form can be given."""

    def make(form: dict[str, Any] | None = None, **changes: Any) -> Client:
        entry = json.loads(json.dumps(ENTRY))
        entry["quantizations"]["bf16"] |= form or {}
        folder = home / "freehold_inventory/acme"
        folder.mkdir(exist_ok=True)
        (folder / "models.yml").write_text(yaml.safe_dump({"own": entry}))
        given: dict[str, Any] = {"services": {"vllm": {"device": "cpu"}}, "models": {"own": {}}}
        return open_client(**(given | changes))

    return make


def host(monkeypatch: pytest.MonkeyPatch, *answers: dict[str, Any]) -> list[list[str]]:
    """A host that answers each question with one line; the questions."""
    asked: list[list[str]] = []
    left = list(answers)

    def ask(client: Client, keeper: Any, words: list[str], **given: Any) -> Any:
        asked.append([*words, *([given["given"]] if given.get("given") else [])])
        return iter([left.pop(0)])

    monkeypatch.setattr(models, "ask", ask)
    monkeypatch.setattr(weights, "ask", ask)
    return asked


def form(client: Client) -> catalog.Quantization:
    return catalog.load(client.directory)["own"].quantizations["bf16"]


def test_what_was_learned_is_locked_once_and_counts_from_then_on(opened: Opened) -> None:
    client = opened()
    assert form(client).revision is None

    assert models_lock.learn_results(client, [RESULT]) == ["own"]
    path = client.directory / "models.lock.yml"
    assert form(client).revision == COMMIT
    assert [file.model_dump(exclude_none=True) for file in form(client).files] == FILES
    assert yaml.safe_load(path.read_text())["own"]["bf16"]["revision"] == COMMIT
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    before = path.read_bytes()
    assert models_lock.learn_results(client, [RESULT]) == []
    assert path.read_bytes() == before
    assert Client.open(client.loaded.path).layout.models[0].path == f"/models/acme--own/{COMMIT}"


def test_a_checksum_that_is_locked_is_not_replaced_by_another(opened: Opened) -> None:
    client = opened()
    models_lock.learn_results(client, [RESULT])
    before = (client.directory / "models.lock.yml").read_bytes()
    forged = [{**FILES[0], "sha256": "f" * 64}, FILES[1], {"name": "LICENSE", "size": 1, "sha256": "3" * 64}]

    with pytest.raises(FreeholdError, match=r"config\.json of own has another checksum"):
        models_lock.learn_results(client, [{**RESULT, "files": forged}])

    assert (client.directory / "models.lock.yml").read_bytes() == before


def test_a_run_begins_with_the_revision_that_the_hub_names(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = opened()
    asked: list[str] = []

    def hub(address: str, repository: str, revision: str | None, report: object) -> catalog.LockedForm:
        asked.append(repository)
        return catalog.LockedForm.model_validate(
            {"repository": repository, "revision": COMMIT, "files": FILES}
        )

    monkeypatch.setattr(models_lock, "lock", hub)
    assert client.layout.models[0].path == "/models/acme--own/unlocked"
    assert models_lock.before_a_run(client) == (["own"], None)
    assert client.layout.models[0].path == f"/models/acme--own/{COMMIT}"
    assert models_lock.before_a_run(client) == ([], None)
    assert asked == ["acme/own"]


def test_a_run_goes_on_where_the_hub_does_not_answer_this_machine(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = opened()
    silent = FetchError("The hub does not answer")

    def hub(*_: object) -> catalog.LockedForm:
        raise silent

    monkeypatch.setattr(models_lock, "lock", hub)
    assert models_lock.before_a_run(client) == ([], silent)
    assert client.layout.models[0].path == "/models/acme--own/unlocked"


def test_what_the_catalogue_knows_is_not_locked(opened: Opened) -> None:
    client = opened({"revision": COMMIT, "files": FILES})

    assert models_lock.learn_results(client, [RESULT]) == []
    assert not (client.directory / "models.lock.yml").exists()


def test_the_digest_of_what_ollama_pulled_is_locked(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    client = opened(
        services={"ollama": {"device": "cpu"}}, models={"own": {"engine": "ollama", "quantization": "q4"}}
    )
    client.ensure_secrets()
    asked = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command[-2:])
        return subprocess.CompletedProcess(command, 0, json.dumps({"own:q4": "3" * 64, "x:y": "4" * 64}), "")

    monkeypatch.setattr(ssh, "run", run)
    assert models_lock.learn(client) == ["own"]
    assert asked == [["ollama", f"cat {models_lock.LEARNED}"]]
    assert catalog.load(client.directory)["own"].quantizations["q4"].digest == "3" * 64
    assert models_lock.learn(Client.open(client.loaded.path)) == []
    assert len(asked) == 1


def test_the_entry_counts_where_it_says_something_else(opened: Opened) -> None:
    models_lock.learn_results(opened(), [RESULT])

    assert form(opened({"revision": OTHER})).revision == OTHER
    assert form(opened({"revision": OTHER})).files == ()
    assert form(opened({"repository": "acme/other"})).revision is None
    own = [{"name": "config.json", "sha256": "9" * 64}]
    merged = {file.name: file for file in form(opened({"files": own})).files}
    assert merged["config.json"].sha256 == "9" * 64
    assert merged["config.json"].size == 12
    assert merged["model.safetensors"].sha256 == "2" * 64


def test_a_lock_that_is_damaged_is_named(opened: Opened) -> None:
    client = opened()
    (client.directory / "models.lock.yml").write_text("own: {bf16: {revision: main}}\n")

    with pytest.raises(BadInputError, match=r"models\.lock\.yml"):
        catalog.load(client.directory)


def test_a_fetch_asks_for_what_the_stack_uses_or_for_what_is_named(opened: Opened) -> None:
    client = opened()
    (wanted,) = models.request(client, [])

    assert (wanted["id"], wanted["quantization"], wanted["repository"]) == ("own", "bf16", "acme/own")
    assert wanted["path"] == "/models/acme--own/unlocked"
    assert models.request(client, ["own"]) == [wanted]
    with pytest.raises(BadInputError, match="did you mean own"):
        models.request(client, ["onw"])
    with pytest.raises(BadInputError, match="no q4 of Own that a node keeps"):
        models.request(client, ["own"], "q4")
    with pytest.raises(NoWeightsError):
        models.request(opened(models={}), [])


def test_a_fetch_that_fails_says_why_and_what_to_do(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    error = {"message": "acme/own needs 40.0 GiB more", "remedy": "freehold models remove CLIENT MODEL"}
    host(monkeypatch, {"state": "failed", "error": error, "results": []})
    client = opened()

    with pytest.raises(WeightsError, match="GiB more") as caught:
        models.fetch(client, models.request(client, []), lambda _: None)
    assert caught.value.remedy == "freehold models remove acme MODEL"


def test_a_fetch_locks_what_it_learned(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = host(monkeypatch, {"state": "done", "results": [RESULT]})
    client = opened()

    (result,) = models.fetch(client, models.request(client, []), lambda _: None)
    assert result["host"] == "weights"
    assert asked[0][:2] == ["run", "-"]
    assert json.loads(asked[0][2])["models"][0]["repository"] == "acme/own"
    assert form(client).revision == COMMIT


def test_the_list_shows_what_is_there(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"weights": [RESULT], "active": False, "progress": None}
    host(
        monkeypatch,
        answer,
        answer | {"weights": [RESULT | {"lacking": ["config.json"]}]},
        answer | {"weights": []},
    )
    client = opened({"revision": COMMIT})

    states = [models.listing(client, used_only=True)[0][0].state for _ in range(3)]
    assert states == ["ready", "incomplete", "missing"]


def test_the_list_is_shown_before_anything_runs(opened: Opened) -> None:
    listed, problem = models.listing(opened())

    assert listed[0].id == "own"
    assert listed[0].engines == ("vllm",)
    assert problem
    assert len(listed) > len(catalog.load())


def test_what_the_stack_uses_is_not_removed(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    old = RESULT | {"revision": OTHER, "path": f"/models/acme--own/{OTHER}"}
    answer = {"weights": [RESULT, old]}
    host(monkeypatch, answer, answer, *[{"weights": [RESULT]}] * 2, {"weights": []})
    client = opened({"revision": COMMIT})

    for name in (None, "own"):
        assert [entry["path"] for entry in models.removable(client, name)] == [old["path"]]
    with pytest.raises(BadInputError, match="vllm serves Own") as caught:
        models.removable(client, "own")
    assert caught.value.exit_code is ExitCode.BAD_INPUT
    assert models.removable(client, None) == []
    with pytest.raises(BadInputError, match="No node has weights of own"):
        models.removable(client, "own")


def test_weights_of_a_revision_that_is_not_locked_yet_are_in_use(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    host(monkeypatch, {"weights": [RESULT]})

    assert models.removable(opened(), None) == []


def test_nothing_is_removed_while_another_one_stands_in(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = opened()
    host(monkeypatch, {"weights": [RESULT]})
    running = trial.Trial(instead="own", model="other", until=datetime.now(UTC))
    (client.directory / "trial.yml").write_text(trial.dump(running))

    with pytest.raises(BadInputError, match="While other is tried, own looks unused"):
        models.removable(client, None)


def test_damage_is_told_with_its_host(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"path": RESULT["path"], "file": "config.json", "what": "has another content"}
    asked = host(monkeypatch, {"state": "done", "read": [RESULT["path"]], "damaged": [found]})

    assert models.verify(opened(), None, lambda _: None) == [{"host": "weights", **found}]
    assert asked == [["verify"]]
