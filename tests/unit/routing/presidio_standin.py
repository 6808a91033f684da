"""Stand-in of Presidio's program beside the router: answers at a socket what it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any


class PresidioStandIn(ThreadingMixIn, UnixStreamServer):
    """What it answers, and which texts it was asked about."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.status = 200
        self.answer: Any = {"found": {}}
        self.wait = 0.0
        self.asked: list[list[str]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller who did not wait is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: PresidioStandIn

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["texts"])
        time.sleep(self.server.wait)
        content = json.dumps(self.server.answer).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def answering(path: Path) -> Iterator[PresidioStandIn]:
    """The stand-in at a socket."""
    with PresidioStandIn(path) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
