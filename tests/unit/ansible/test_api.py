"""Calls of modules to the service next to them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ansible_collections.freehold.stack.plugins.module_utils import api


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was sent, or refuses."""

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(403 if self.path == "/no" else 200)
        self.send_header("X-Type", self.headers["Content-Type"])
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_document_goes_out_as_json_and_past_the_proxy(service: str) -> None:
    answer = api.ask("POST", f"{service}/", {"name": "Ada"})

    assert answer.json() == {"name": "Ada"}
    assert answer.headers["X-Type"] == "application/json"


def test_bytes_go_out_as_they_are(service: str) -> None:
    answer = api.ask("POST", f"{service}/", b"SELECT 1")

    assert answer.content == b"SELECT 1"
    assert answer.headers["X-Type"] != "application/json"


def test_a_refusal_says_its_status_and_what_was_answered(service: str) -> None:
    with pytest.raises(api.RefusedError, match="HTTP 403: not you") as refused:
        api.ask("POST", f"{service}/no", b"not you")

    assert refused.value.status == 403
