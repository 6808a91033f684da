"""The module that brings language models, against the lab's stand-in of Ollama and a stand-in of a registry."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.freehold.stack.plugins.module_utils import pending
from ansible_collections.freehold.stack.plugins.modules import ollama_models as module
from freehold.lab.standins import HERE
from freehold.lab.tiny_gguf import write_tiny_gguf

Bring = Callable[..., dict[str, Any]]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def files(tmp_path: Path) -> Iterator[str]:
    """Address of a file server that has the tiny language model, also as a registry would."""
    write_tiny_gguf(tmp_path / "files")
    handler = functools.partial(Quiet, directory=str(tmp_path / "files"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def ollama(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {"OLLAMA_HOST": address, "OLLAMA_MODELS": str(tmp_path / "models"), "OLLAMA_NO_CLOUD": "1"}
    process = subprocess.Popen(
        [sys.executable, str(HERE / "ollama_server.py"), "serve"],
        env=os.environ | settings,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://{address}/api/version", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def bring(
    tmp_path: Path, ollama: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Bring:
    """Runs the module with these language models; what it answers."""
    monkeypatch.setattr(module, "BROUGHT", tmp_path / "brought.json")
    monkeypatch.setattr(module, "LEARNED", tmp_path / "learned.json")
    monkeypatch.setattr(module, "_ATTEMPTS", 1)
    monkeypatch.setattr(pending, "FOLDER", str(tmp_path / "etc"))

    def bring(*models: dict[str, str], check: bool = False, **more: Any) -> dict[str, Any]:
        given = {"url": ollama, "models": list(models), "_ansible_check_mode": check, **more}
        with patch_module_args(given), pytest.raises(SystemExit):
            module.main()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return bring


def names(ollama: str) -> list[str]:
    with urllib.request.urlopen(f"{ollama}/api/tags", timeout=5) as answer:
        return sorted(model["name"] for model in json.load(answer)["models"])


def by_file(files: str, tmp_path: Path, name: str = "tiny", file: str = "tiny-chat.gguf") -> dict[str, str]:
    digest = hashlib.sha256((tmp_path / "files" / file).read_bytes()).hexdigest()
    return {"name": name, "url": f"{files}/{file}", "sha256": digest}


def publish(tmp_path: Path, tag: str, file: str) -> str:
    """Put a language model into the registry; the digest of its manifest."""
    folder = tmp_path / "files/v2/acme/tiny"
    content = (tmp_path / "files" / file).read_bytes()
    parts = {"application/vnd.ollama.image.model": content, "config": b"{}"}
    layers = []
    for kind, part in parts.items():
        digest = f"sha256:{hashlib.sha256(part).hexdigest()}"
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        (folder / "blobs" / digest).write_bytes(part)
        layers.append({"mediaType": kind, "digest": digest, "size": len(part)})
    manifest = json.dumps({"schemaVersion": 2, "config": layers.pop(), "layers": layers}).encode()
    (folder / "manifests").mkdir(exist_ok=True)
    (folder / "manifests" / tag).write_bytes(manifest)
    return hashlib.sha256(manifest).hexdigest()


def test_a_file_is_brought_once(bring: Bring, files: str, ollama: str, tmp_path: Path) -> None:
    model = by_file(files, tmp_path)

    assert bring(model)["done"] == ["bring tiny:latest"]
    assert names(ollama) == ["tiny:latest"]
    assert bring(model) | {"invocation": None} == {
        "changed": False,
        "done": [],
        "diff": {},
        "invocation": None,
    }


def test_check_mode_says_what_it_would_do(bring: Bring, files: str, ollama: str, tmp_path: Path) -> None:
    assert bring(by_file(files, tmp_path), check=True)["done"] == ["bring tiny:latest"]
    assert names(ollama) == []
    assert not (tmp_path / "brought.json").exists()


def test_other_weights_under_the_same_name_are_brought(
    bring: Bring, files: str, ollama: str, tmp_path: Path
) -> None:
    bring(by_file(files, tmp_path))
    other = by_file(files, tmp_path, file="tiny-embed.gguf")

    assert bring(other)["changed"]
    assert not bring(other)["changed"]
    assert names(ollama) == ["tiny:latest"]


def test_a_file_that_was_changed_is_refused(bring: Bring, files: str, ollama: str, tmp_path: Path) -> None:
    model = by_file(files, tmp_path)
    (tmp_path / "files/tiny-chat.gguf").write_bytes(b"GGUF of somebody else")
    answer = bring(model)

    assert answer["failed"]
    assert "The language model tiny:latest" in answer["msg"]
    assert model["sha256"] in answer["msg"]
    assert names(ollama) == []


def test_a_file_that_is_not_there_is_named(bring: Bring, files: str, tmp_path: Path) -> None:
    answer = bring(by_file(files, tmp_path) | {"url": f"{files}/none.gguf"})

    assert answer["failed"]
    assert f"{files}/none.gguf" in answer["msg"]
    assert "404" in answer["msg"]


def test_what_is_pulled_is_what_was_pinned(bring: Bring, files: str, ollama: str, tmp_path: Path) -> None:
    digest = publish(tmp_path, "1b", "tiny-chat.gguf")
    model = {"name": f"{files.removeprefix('http://')}/acme/tiny:1b", "digest": digest}

    assert bring(model)["changed"]
    assert not bring(model)["changed"]
    assert names(ollama) == [model["name"]]


def test_a_name_that_somebody_moved_is_refused_and_removed(
    bring: Bring, files: str, ollama: str, tmp_path: Path
) -> None:
    pinned = publish(tmp_path, "1b", "tiny-chat.gguf")
    moved = publish(tmp_path, "1b", "tiny-embed.gguf")
    model = {"name": f"{files.removeprefix('http://')}/acme/tiny:1b", "digest": pinned}
    answer = bring(model)

    assert answer["failed"]
    assert moved in answer["msg"]
    assert pinned in answer["msg"]
    assert names(ollama) == []


def served(address: str, **changes: Any) -> dict[str, Any]:
    """A language model as the layout hands it on."""
    name = f"{address.removeprefix('http://')}/acme/tiny:1b"
    return {
        "id": "tiny",
        "served": name,
        "ollama": name,
        "digest": None,
        "files": [],
        "context": 2048,
        **changes,
    }


def test_a_language_model_of_the_stack_is_brought_by_its_digest(
    bring: Bring, files: str, ollama: str, tmp_path: Path
) -> None:
    pinned = publish(tmp_path, "1b", "tiny-chat.gguf")
    model = served(files, digest=pinned)

    assert bring(served=[model])["changed"]
    assert names(ollama) == [model["served"]]
    publish(tmp_path, "1b", "tiny-embed.gguf")
    assert not bring(served=[model])["changed"]
    assert not (tmp_path / "learned.json").exists()


def test_a_digest_that_nobody_knew_is_learned_once_and_counts_from_then_on(
    bring: Bring, files: str, ollama: str, tmp_path: Path
) -> None:
    model = served(files)
    digest = publish(tmp_path, "1b", "tiny-chat.gguf")
    assert bring(served=[model])["changed"]
    assert json.loads((tmp_path / "learned.json").read_text()) == {model["served"]: digest}
    assert not bring(served=[model])["changed"]

    publish(tmp_path, "1b", "tiny-embed.gguf")
    assert not bring(served=[model])["changed"]
    request = urllib.request.Request(
        f"{ollama}/api/delete", json.dumps({"model": model["served"]}).encode(), method="DELETE"
    )
    urllib.request.urlopen(request, timeout=5).close()
    answer = bring(served=[model])
    assert answer["failed"]
    assert digest in answer["msg"]
    assert names(ollama) == []


def test_a_language_model_of_the_stack_may_be_a_file(
    bring: Bring, files: str, ollama: str, tmp_path: Path
) -> None:
    file = by_file(files, tmp_path)
    bring(served=[served(files, served="tiny", ollama=None, files=[{**file, "name": "tiny.gguf"}])])

    assert names(ollama) == ["tiny:latest"]


def test_the_clients_own_setting_of_a_language_model_counts(
    bring: Bring, files: str, ollama: str, tmp_path: Path
) -> None:
    moved = publish(tmp_path, "1b", "tiny-embed.gguf")
    model = served(files, digest="0" * 64)
    bring({"name": model["served"], "digest": moved}, served=[model])

    assert names(ollama) == [model["served"]]


def test_what_left_the_list_is_removed_and_what_others_brought_stays(
    bring: Bring, files: str, ollama: str, tmp_path: Path
) -> None:
    bring(by_file(files, tmp_path), by_file(files, tmp_path, "other"))
    copy = json.dumps({"source": "tiny", "destination": "by-hand"}).encode()
    urllib.request.urlopen(f"{ollama}/api/copy", copy, timeout=5).close()
    answer = bring(by_file(files, tmp_path))

    assert answer["done"] == ["remove other:latest"]
    assert names(ollama) == ["by-hand:latest", "tiny:latest"]
    assert json.loads((tmp_path / "brought.json").read_text()) == ["tiny:latest"]


def test_ollama_that_does_not_answer_is_named(bring: Bring, files: str, tmp_path: Path) -> None:
    answer = bring(by_file(files, tmp_path), url="http://127.0.0.1:1")

    assert answer["failed"]
    assert "journalctl -u ollama" in answer["msg"]
