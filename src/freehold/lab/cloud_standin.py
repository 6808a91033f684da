"""Stand-in of cloud providers of language models, for the lab and for tests: it counts and keeps what reaches it.

Contract, by https://platform.openai.com/docs/api-reference/chat and https://docs.claude.com/en/api/messages:

- ``POST /v1/chat/completions``: OpenAI's form, in one piece or streamed, with ``Authorization: Bearer`` `KEY`
- ``POST /v1/messages``: Anthropic's form, in one piece or streamed, with ``X-Api-Key`` `KEY`
- any other key is answered with 401

Beside it, for tests: ``GET /standin/requests`` lists what came (``?from=N`` from the Nth on), and ``DELETE`` forgets it. It
answers everything with one sentence and knows nothing.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

KEY = "sk-standin-of-the-cloud-0000000000"
"""The key that it takes."""
KEY_FILE = "cloud-standin-api-key"
"""File with this key, for ``freehold secrets set``."""
ANSWER = "Hello from the stand-in of the cloud in this lab."

CERTIFICATE = "cloud-standin.pem"
"""File with its certificate, for those who ask it."""
_PRIVATE_KEY = "cloud-standin-key.pem"


class Cloud(ThreadingHTTPServer):
    """The stand-in, with everything that reached it since its start."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], folder: Path | None = None) -> None:
        """Listens at ``address``; with TLS where ``folder`` holds or takes its certificate."""
        super().__init__(address, _Handler)
        self.requests: list[dict[str, Any]] = []
        self.taken = threading.Lock()
        if folder is not None:
            certificate, key = ensure_certificate(folder, address[0])
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            # The handshake is the business of each connection's own thread.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def take(self, request: dict[str, Any]) -> None:
        """Keep what reached the cloud."""
        with self.taken:
            self.requests.append(request)


class _Handler(BaseHTTPRequestHandler):
    server: Cloud
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing."""

    def do_GET(self) -> None:
        """What came."""
        parts = urlsplit(self.path)
        if parts.path != "/standin/requests":
            self._json(404, {"error": {"message": "not found"}})
            return
        first = int(parse_qs(parts.query).get("from", ["0"])[0])
        with self.server.taken:
            self._json(200, {"count": len(self.server.requests), "requests": self.server.requests[first:]})

    def do_DELETE(self) -> None:
        """Forget what came."""
        with self.server.taken:
            self.server.requests.clear()
        self._json(200, {})

    def do_POST(self) -> None:
        """An answer."""
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        # Whatever comes has left the building, whether it is understood or not.
        shown = {k: v for k, v in headers.items() if k not in {"authorization", "x-api-key"}}
        self.server.take({"path": self.path, "headers": shown, "body": raw.decode("utf-8", "replace")})
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if key != KEY:
            self._json(401, {"error": {"message": "wrong key", "type": "authentication_error"}})
            return
        try:
            body = json.loads(raw)
        except ValueError:
            self._json(400, {"error": {"message": "no JSON", "type": "invalid_request_error"}})
            return
        answers = {"/v1/chat/completions": self._openai, "/v1/messages": self._anthropic}
        answer = answers.get(urlsplit(self.path).path)
        if answer is None:
            self._json(404, {"error": {"message": "not found", "type": "not_found"}})
        else:
            answer(body)

    def _openai(self, body: dict[str, Any]) -> None:
        head = {"id": "chatcmpl-standin", "created": int(time.time()), "model": body.get("model")}
        usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
        if not body.get("stream"):
            message = {"role": "assistant", "content": ANSWER}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._json(200, {**head, "object": "chat.completion", "choices": [choice], "usage": usage})
            return
        deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
        deltas += [({"content": f"{word} "}, None) for word in ANSWER.split()]
        deltas.append(({}, "stop"))
        lines = [
            {
                **head,
                "object": "chat.completion.chunk",
                "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
            }
            for delta, reason in deltas
        ]
        lines.append({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        self._stream([f"data: {json.dumps(line)}\n\n" for line in lines] + ["data: [DONE]\n\n"])

    def _anthropic(self, body: dict[str, Any]) -> None:
        usage = {"input_tokens": 10, "output_tokens": 10}
        message = {
            "id": "msg_standin",
            "type": "message",
            "role": "assistant",
            "model": body.get("model"),
            "content": [{"type": "text", "text": ANSWER}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": usage,
        }
        if not body.get("stream"):
            self._json(200, message)
            return
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            *(
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "text_delta", "text": f"{word} "},
                }
                for word in ANSWER.split()
            ),
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": usage,
            },
            {"type": "message_stop"},
        ]
        self._stream([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events])

    def _stream(self, lines: list[str]) -> None:
        self._send(200, "text/event-stream", "".join(lines).encode())

    def _json(self, status: int, value: Any) -> None:
        self._send(status, "application/json", json.dumps(value).encode())

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def ensure_certificate(folder: Path, address: str) -> tuple[Path, Path]:
    """Files with certificate and key for an address, made when first asked for."""
    certificate, key = folder / CERTIFICATE, folder / _PRIVATE_KEY
    if certificate.exists() and key.exists():
        return certificate, key
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "freehold lab, a stand-in of the cloud")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=730))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(text)
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    certificate.chmod(0o644)
    return certificate, key


def start(address: tuple[str, int], folder: Path | None = None) -> Cloud:
    """Serve in a thread of its own."""
    if folder is not None:
        (folder / KEY_FILE).write_text(KEY + "\n", encoding="ascii")
    cloud = Cloud(address, folder)
    threading.Thread(target=cloud.serve_forever, name="cloud-standin", daemon=True).start()
    return cloud
