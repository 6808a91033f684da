"""Stand-in of Langfuse (tests): the two calls of its API that the router's shipper makes, with faults on demand.

``POST /api/public/otel/v1/traces`` (OTLP in JSON) and ``GET /api/public/v2/observations`` (cursor, fromStartTime, toStartTime),
as https://api.reference.langfuse.com has them. It keeps spans in memory, by their id, as ClickHouse does in the end.
"""

from __future__ import annotations

import base64
import gzip
import json
import threading
import urllib.parse
from collections.abc import Callable
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[[list[dict[str, Any]]], tuple[int, Any] | None]
"""Given the spans of a request, what is answered instead of taking them."""


class TracesStandin:
    """A Langfuse at a port of this machine."""

    def __init__(self, port: int = 0) -> None:
        self.spans: dict[str, dict[str, Any]] = {}
        self.requests = 0
        self.received = 0
        self.fault: Fault = lambda spans: None
        self.loses: Callable[[dict[str, Any]], bool] = lambda span: False
        """Spans that it acknowledges and never shows."""
        self.key = "Basic " + base64.b64encode(b"pk:sk").decode()
        self.server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self.server.shutdown()
        self.server.server_close()

    def _handler(outer) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the handler's own self is inside
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Authorization"] != outer.key:
                    return self.answer(401, {"message": "Invalid credentials"})
                assert self.headers["x-langfuse-ingestion-version"] == "4"
                document = json.loads(
                    gzip.decompress(data) if self.headers["Content-Encoding"] == "gzip" else data
                )
                spans = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
                outer.requests += 1
                if (told := outer.fault(spans)) is not None:
                    return self.answer(*told)
                outer.received += len(spans)
                outer.spans |= {span["spanId"]: span for span in spans if not outer.loses(span)}
                return self.answer(200, {})

            def do_GET(self) -> None:
                if self.headers["Authorization"] != outer.key:
                    return self.answer(401, {"message": "Invalid credentials"})
                asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
                since, until = (
                    datetime.fromisoformat(asked[name]).timestamp()
                    for name in ("fromStartTime", "toStartTime")
                )
                rows = sorted(
                    (int(span["startTimeUnixNano"]), span["traceId"])
                    for span in outer.spans.values()
                    if since <= int(span["startTimeUnixNano"]) / 1e9 < until
                )
                start, limit = int(asked.get("cursor", "0")), int(asked.get("limit", "50"))
                page = [{"id": each[1][:16], "traceId": each[1]} for each in rows[start : start + limit]]
                meta = {"cursor": str(start + limit)} if len(rows) > start + limit else {}
                return self.answer(200, {"data": page, "meta": meta})

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """No line per request."""

        return Handler


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a span by name."""
    found = {}
    for each in span["attributes"]:
        value = each["value"]
        found[each["key"]] = value.get("stringValue") or [
            part["stringValue"] for part in value.get("arrayValue", {}).get("values", [])
        ]
    return found
