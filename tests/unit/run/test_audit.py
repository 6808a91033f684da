"""Counting and erasing what the record holds of a person, against an answer of the API that this test gives itself."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from freehold.errors import FreeholdError
from freehold.run import audit
from freehold.run.context import Client
from freehold.ssh import UnreachableError

KEY = "Basic " + base64.b64encode(b"pk-lf-1:sk-lf-1").decode()


class Langfuse(BaseHTTPRequestHandler):
    """Lists and erases observations in memory, two to a page."""

    kept: list[dict[str, str]]
    stubborn = False

    def answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        if self.headers["Authorization"] != KEY:
            return self.answer(401, {"message": "Invalid credentials"})
        assert url.path == "/api/public/v2/observations"
        rows = [row for row in self.kept if row["userId"] == asked["userId"]]
        start = int(asked.get("cursor", "0"))
        more = {"cursor": str(start + 2)} if len(rows) > start + 2 else {}
        return self.answer(200, {"data": rows[start : start + 2], "meta": more})

    def do_DELETE(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.stubborn:
            self.kept[:] = [row for row in self.kept if row["traceId"] not in body["traceIds"]]
        self.answer(200, {"message": "Traces deleted successfully"})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, type[Langfuse]]]:
    kept = [{"traceId": f"t{n // 2}", "userId": "ada@acme.test", "id": str(n)} for n in range(6)]
    kept += [{"traceId": "t9", "userId": "bob@acme.test", "id": "9"}]
    handler = type("Own", (Langfuse,), {"kept": kept})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}", handler
        made.shutdown()


def remote(url: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    given: dict[str, Any] = {
        "url": url,
        "public_key": "pk-lf-1",
        "secret_key": "sk-lf-1",
        "user": "ada@acme.test",
    }
    given |= {"erase": False, "patience": 20, **changes}
    program = audit._REMOTE.read_text()
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, input=json.dumps(given), capture_output=True, text=True, check=False, timeout=60
    )


def test_everything_of_a_person_is_counted_over_all_pages(server: tuple[str, type[Langfuse]]) -> None:
    assert json.loads(remote(server[0]).stdout) == {
        "traces": 3,
        "observations": 6,
        "ids": ["t0", "t1", "t2"],
    }


def test_traces_of_the_person_go_and_those_of_others_stay(server: tuple[str, type[Langfuse]]) -> None:
    found = json.loads(remote(server[0], erase=True).stdout)

    assert found == {"traces": 3, "observations": 6, "left": 0}
    assert [row["userId"] for row in server[1].kept] == ["bob@acme.test"]


def test_what_is_left_is_told(server: tuple[str, type[Langfuse]]) -> None:
    server[1].stubborn = True

    assert json.loads(remote(server[0], erase=True, patience=1).stdout)["left"] == 3


def test_a_refusal_names_the_call_and_no_key(server: tuple[str, type[Langfuse]]) -> None:
    answer = remote(server[0], secret_key="sk-lf-wrong")

    assert answer.returncode
    assert "GET /api/public/v2/observations with HTTP 401" in answer.stderr
    assert "sk-lf" not in answer.stderr


def test_a_stack_without_langfuse_has_no_record(client: Client) -> None:
    with pytest.raises(audit.NoRecordError):
        audit.count(client, "ada@acme.test")


@pytest.mark.parametrize(
    ("code", "kind"), [(255, UnreachableError), (1, FreeholdError)], ids=["unreachable", "refused"]
)
def test_failures_of_the_host_are_told(
    code: int, kind: type[FreeholdError], monkeypatch: pytest.MonkeyPatch, open_client: Any
) -> None:
    opened = open_client(services={"langfuse": None})
    opened.ensure_secrets()
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, code, "", "what the host said")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(kind) as caught:
        audit.count(opened, "ada@acme.test")
    assert caught.value.answer == "what the host said"
    assert not [part for part in asked[0] if opened.secrets.get("langfuse.secret_key") in part]


def test_an_erasure_that_leaves_something_fails(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    monkeypatch.setattr(
        audit, "_ask", lambda *_, **__: {"traces": 3, "observations": 6, "ids": [], "left": 1}
    )

    with pytest.raises(audit.NotErasedError):
        audit.erase(client, "ada@acme.test")
