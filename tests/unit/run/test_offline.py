"""Before an offline run: what the mirror lacks, file by file, and what no mirror has."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from freehold.mirror import build
from freehold.mirror.index import Entry, Index, Met
from freehold.mirror.serve import server
from freehold.run import offline, templates
from freehold.run.check import Finding
from freehold.run.context import Client

from .conftest import Open


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "mirror"
    root.mkdir()
    return root


@pytest.fixture
def address(root: Path) -> Iterator[str]:
    with server(root, "127.0.0.1", 0) as running:
        threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


@pytest.fixture(autouse=True)
def _templates_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "find", lambda *_: "local:vztmpl/there")
    monkeypatch.setattr(Client, "api", None)


def fill(root: Path, client: Client) -> Index:
    """A mirror with one file for each need, which is no package of anybody."""
    index = Index()
    for number, need in enumerate(build.needs([client.loaded.path], client.only)):
        path = f"files/{number}/thing"
        (root / path).parent.mkdir(parents=True)
        (root / path).write_text("thing")
        index.files[path] = Entry(size=5, sha256="0" * 64)
        index.needs[need.key] = Met(title=need.title, files=(path,))
    index.write(root)
    return index


def problems(client: Client) -> list[Finding]:
    return [finding for finding in offline.findings(client) if finding.status == "problem"]


def opened(open_client: Open, address: str, **more: Any) -> Client:
    return open_client(sources={"mirror": address}, **more)


def test_without_a_mirror_nothing_is_asked(open_client: Open) -> None:
    with pytest.raises(offline.NoMirrorError) as caught:
        list(offline.findings(open_client()))
    assert "freehold mirror build" in str(caught.value.remedy)


def test_a_full_mirror_has_everything(open_client: Open, root: Path, address: str) -> None:
    client = opened(open_client, address)
    index = fill(root, client)
    found = list(offline.findings(client))
    assert [finding.status for finding in found] == ["ok"]
    assert f"{len(index.files)} files" in found[0].detail


def test_what_was_never_fetched_is_named(open_client: Open, root: Path, address: str) -> None:
    client = opened(open_client, address)
    index = fill(root, client)
    index.needs = {key: met for key, met in index.needs.items() if "postgresql" not in key}
    index.write(root)
    assert [finding.detail for finding in problems(client)] == [
        "The mirror lacks: Debian packages of PostgreSQL"
    ]


def test_files_that_are_gone_or_short_are_named(open_client: Open, root: Path, address: str) -> None:
    client = opened(open_client, address)
    fill(root, client)
    (root / "files/0/thing").unlink()
    (root / "files/1/thing").write_text("thin")
    assert [finding.detail.split()[4] for finding in problems(client)] == ["files/0/thing,", "files/1/thing,"]


def test_a_mirror_that_does_not_answer_is_one_problem(open_client: Open) -> None:
    found = problems(opened(open_client, "http://127.0.0.1:1"))
    assert len(found) == 1
    assert "does not answer" in found[0].detail


def test_something_else_at_the_address_is_said(open_client: Open, root: Path, address: str) -> None:
    (root / "freehold.json").write_text(json.dumps({"format": "other"}))
    assert "not the index of a mirror" in problems(opened(open_client, address))[0].detail


def test_language_models_of_a_hub_are_named(open_client: Open, root: Path, address: str) -> None:
    client = opened(open_client, address, services={"vllm": {"device": "cpu"}})
    fill(root, client)
    found = problems(client)
    assert [finding.about for finding in found] == ["language model"]
    assert "model_files" in found[0].remedy


def test_a_template_that_is_nowhere_is_named(
    open_client: Open, root: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "find", lambda *_: None)
    client = opened(open_client, address)
    fill(root, client)
    assert {finding.about for finding in problems(client)} == {"template debian-12", "template debian-13"}
