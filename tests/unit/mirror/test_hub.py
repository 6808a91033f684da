"""Checksums as a stand-in of the Hugging Face hub names them, and a mirror that is filled from it."""

from __future__ import annotations

import functools
import hashlib
import pickle
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from freehold import resources
from freehold.errors import BadInputError
from freehold.lab import hub_standin
from freehold.mirror import build
from freehold.mirror.fetch import HUB_TOKEN, FetchError
from freehold.mirror.needs import File, file_url
from freehold.upstream import hub

FILES = {
    "config.json": b'{"model_type": "llama"}\n',
    "model.safetensors": b"\x02\x00\x00\x00\x00\x00\x00\x00{}",
    "LICENSE": b"Apache-2.0\n",
    "modeling.py": b"print(1)\n",
    "onnx/model.onnx": b"\x08",
}
TAKEN = ("LICENSE", "config.json", "model.safetensors")


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, *args: Any, of: hub_standin.Hub) -> None:
        self.of = of
        super().__init__(*args)

    def do_GET(self) -> None:
        self.of.answer(self)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "hub"


@pytest.fixture
def address(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv(HUB_TOKEN, raising=False)
    handler = functools.partial(_Handler, of=hub_standin.Hub(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_all_that_is_taken_gets_a_checksum(folder: Path, address: str) -> None:
    commit = hub_standin.publish(folder, "acme/own", FILES)
    found = hub.lock(address, "acme/own", None)

    assert found.revision == commit
    assert {file.name: file.sha256 for file in found.files} == {
        name: hashlib.sha256(FILES[name]).hexdigest() for name in TAKEN
    }
    assert hub.lock(address, "acme/own", commit) == found


def test_pickles_are_not_locked(folder: Path, address: str) -> None:
    hub_standin.publish(folder, "acme/own", {"config.json": b"{}", "pytorch_model.bin": pickle.dumps(1)})

    with pytest.raises(BadInputError, match="no weights as safetensors"):
        hub.lock(address, "acme/own", None)


def test_what_the_hub_does_not_give_is_said(
    folder: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FetchError) as caught:
        hub.lock(address, "acme/own", None)
    assert "licence must be accepted" in str(caught.value.remedy)

    hub_standin.publish(folder, "acme/own", FILES, gated=True)
    with pytest.raises(FetchError):
        hub.lock(address, "acme/own", None)
    monkeypatch.setenv(HUB_TOKEN, hub_standin.TOKEN)
    assert len(hub.lock(address, "acme/own", None).files) == len(TAKEN)


def test_a_mirror_is_filled_from_the_hub(
    folder: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_standin.publish(folder, "acme/own", FILES, gated=True)
    monkeypatch.setenv(HUB_TOKEN, hub_standin.TOKEN)
    known = hub.lock(address, "acme/own", None)
    needs = [
        File(
            file.name,
            file_url(address, "acme/own", str(known.revision), file.name),
            str(file.sha256),
            file.size,
            True,
        )
        for file in known.files
    ]

    done = build.build(tmp_path / "mirror", needs, lambda *_: None)
    assert done.fetched == len(TAKEN)
    for file in known.files:
        assert (tmp_path / "mirror/files" / str(file.sha256) / file.name).read_bytes() == FILES[file.name]
    assert build.build(tmp_path / "mirror", needs, lambda *_: None).fetched == 0


def test_a_token_is_not_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HUB_TOKEN, hub_standin.TOKEN)

    with pytest.raises(FetchError, match=r"would go to hub\.acme\.invalid in the clear"):
        hub.lock("http://hub.acme.invalid", "acme/own", None)


def test_no_bytecode_is_left_among_the_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    hub._checks.cache_clear()
    assert hub._checks().choose

    assert not list(resources.templates().rglob("*.pyc"))
