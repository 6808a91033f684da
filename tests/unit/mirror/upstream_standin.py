"""A stand-in of everything upstream: a web server of the test's own, with faults."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Upstream:
    """Files by path, faults that come first, and what was asked."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    faults: dict[str, list[int]] = field(default_factory=dict)
    """Answers to give before the file: a status, or 0 to cut the file off in the middle."""
    token: str = ""
    """What must be shown as a bearer token, where it is not empty."""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and range of each request."""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    state = Upstream()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            state.asked.append((self.command, path, self.headers.get("Range", "")))
            shown = self.headers.get("Authorization") == f"Bearer {state.token}"
            if state.token and path.startswith("/v2/") and not shown:
                realm = f'Bearer realm="{state.address}/token",service="test",scope="pull"'
                return self.answer(401, b"", {"WWW-Authenticate": realm})
            text = state.files.get(path)
            if text is None:
                return self.answer(404, b"")
            fault = state.faults[path].pop(0) if state.faults.get(path) else None
            if fault:
                return self.answer(fault, b"")
            given = self.headers.get("Range")
            if given:
                first = int(given.removeprefix("bytes=").rstrip("-"))
                if first >= len(text):
                    return self.answer(416, b"")
                return self.answer(206, text[first:])
            if fault == 0:
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text[: len(text) // 2])
                self.wfile.flush()
                self.close_connection = True
                return None
            return self.answer(200, text, {"Content-Type": state.kinds.get(path, "application/octet-stream")})

        def do_HEAD(self) -> None:
            self.do_GET()

        def answer(self, status: int, text: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state.address = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield state
        server.shutdown()
