"""Knocks at doors without credentials and says what answered; runs on any host of a stack (standard library alone).

Standard input: a JSON list of ``{"address", "port", "speaks", "try", "host"}``. Standard output: the same list, each with
``answer`` and, for HTTP, ``status`` and ``location``.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import struct
import sys
from typing import Any

TIMEOUT = 15
"""Seconds."""


def over_tls(address: str, port: int, name: str | None = None) -> socket.socket | None:
    """A connection in TLS, or none where the door does not speak it. Whose door it is, is not the question here."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection((address, port), TIMEOUT)
    try:
        plain.settimeout(3)
        wrapped = context.wrap_socket(plain, server_hostname=name)
        wrapped.settimeout(TIMEOUT)
        return wrapped
    except (OSError, ValueError):
        plain.close()
        return None


def connected(address: str, port: int, name: str | None = None) -> tuple[socket.socket, bool]:
    found = over_tls(address, port, name)
    return (found, True) if found else (socket.create_connection((address, port), TIMEOUT), False)


def by_http(knock: dict[str, Any]) -> None:
    method, path, *given = knock["try"].split(" ", 2)
    name = knock.get("host") or knock["address"]
    sock, tls = connected(knock["address"], knock["port"], knock.get("host"))
    connection = http.client.HTTPConnection(knock["address"], knock["port"], timeout=TIMEOUT)
    connection.sock = sock
    body = "".join(given or ["{}"]).encode() if method in {"POST", "PUT", "PATCH", "DELETE"} else None
    headers = {"Host": name, "Content-Type": "application/json"} if body else {"Host": name}
    with contextlib.closing(connection):
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        text = answer.read(400).decode("utf-8", "replace")
    knock["status"], knock["location"] = answer.status, answer.headers.get("Location", "")
    knock["answer"] = f"HTTP{'S' if tls else ''} {answer.status}"
    knock["text"] = text


def by_postgres(knock: dict[str, Any]) -> None:
    with contextlib.ExitStack() as stack:
        sock: socket.socket = stack.enter_context(
            socket.create_connection((knock["address"], knock["port"]), TIMEOUT)
        )
        sock.sendall(struct.pack("!II", 8, 80877103))
        if sock.recv(1) == b"S":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            sock = stack.enter_context(context.wrap_socket(sock))
        user = knock["try"].encode()
        start = struct.pack("!I", 196608) + b"user\0" + user + b"\0database\0" + user + b"\0\0"
        sock.sendall(struct.pack("!I", len(start) + 4) + start)
        answer = sock.recv(300)
    kind, code = answer[:1], int.from_bytes(answer[5:9], "big")
    if kind == b"R":
        knock["answer"] = "let in" if code == 0 else f"password wanted (authentication {code})"
    else:
        knock["answer"] = "refused: " + answer[5:120].decode("utf-8", "replace").replace("\0", " ")


def by_resp(knock: dict[str, Any]) -> None:
    sock, _ = connected(knock["address"], knock["port"])
    with contextlib.closing(sock):
        sock.sendall(knock["try"].encode() + b"\r\n")
        answer = sock.recv(200).decode("utf-8", "replace").splitlines()[0]
    refused = answer.startswith(("-NOAUTH", "-NOPERM", "-WRONGPASS"))
    knock["answer"] = f"refused: {answer}" if refused else f"let in: {answer}"


def by_clickhouse(knock: dict[str, Any]) -> None:
    def text(value: str) -> bytes:
        return bytes([len(value)]) + value.encode()

    hello = b"\0" + text("freehold audit") + bytes([24, 1]) + b"\xca\xa7\x03"
    with contextlib.closing(connected(knock["address"], knock["port"])[0]) as sock:
        sock.sendall(hello + text("default") + text(knock["try"]) + text(""))
        answer = sock.recv(200)
    knock["answer"] = "let in" if answer[:1] == b"\0" else f"refused: {answer[:60]!r}"


WAYS = {"http": by_http, "postgres": by_postgres, "resp": by_resp, "clickhouse": by_clickhouse}


def main() -> None:
    knocks = json.load(sys.stdin)
    for knock in knocks:
        try:
            WAYS[knock["speaks"]](knock)
        except OSError as error:
            knock["answer"] = f"no answer: {type(error).__name__}: {error}"
        except http.client.HTTPException as error:
            knock["answer"] = f"no HTTP: {type(error).__name__}: {error}"
    json.dump(knocks, sys.stdout)


if __name__ == "__main__":
    main()
