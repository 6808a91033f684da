"""Questions to an engine, through its proxy as the router asks, or past it; for the proofs of engines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from testinfra.host import Host as Machine

# Runs on the engine's own host, where root can read the key: so it is in no command line.
_ASK = """
import http.client, json, sys
answers = []
for ask in json.loads(sys.argv[1]):
    key = ask["key"]
    if key is None:
        key = open("/etc/engine-proxy/secrets.env").read().split("ENGINE_PROXY_KEY_API=")[1].split()[0]
    connection = http.client.HTTPConnection(ask["address"], ask["port"], timeout=300)
    headers = {"Content-Type": "application/json"} | ({"Authorization": "Bearer " + key} if key else {})
    body = None if ask["body"] is None else json.dumps(ask["body"])
    connection.request(ask["method"], ask["path"], body, headers)
    answer = connection.getresponse()
    text = answer.read().decode("utf-8", "replace")
    answers.append({"status": answer.status, "body": json.loads(text) if text[:1] in "[{" and text else text})
print(json.dumps(answers))
"""


@dataclass(frozen=True)
class Engine:
    """An engine on its host."""

    machine: Machine
    address: str
    port: int
    """Port of its proxy."""
    own_port: int
    """Port at which the engine itself listens, on the loopback."""

    def ask(
        self,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        key: str | None = None,
        method: str = "",
        inside: bool = False,
    ) -> dict[str, Any]:
        """Status and body of an answer.

        Args:
            path: The path.
            body: What is sent as JSON; nothing when left out.
            key: The key that is shown; the router's when left out, none when empty.
            method: ``POST`` with a body and ``GET`` without when left out.
            inside: Ask the engine itself, past the proxy and without a key.
        """
        chosen = method or ("GET" if body is None else "POST")
        return self.ask_all([(chosen, path)], body, key=key, inside=inside)[0]

    def ask_all(
        self,
        questions: Sequence[tuple[str, str]],
        body: dict[str, Any] | None = None,
        *,
        key: str | None = None,
        inside: bool = False,
    ) -> list[dict[str, Any]]:
        """Status and body of the answers to requests, each a method and a path, in one go."""
        where = {"address": "127.0.0.1", "port": self.own_port, "key": ""}
        if not inside:
            where = {"address": self.address, "port": self.port, "key": key}
        asked = [{"method": method, "path": path, "body": body, **where} for method, path in questions]
        answers: list[dict[str, Any]] = json.loads(
            self.machine.check_output("python3 -c %s %s", _ASK, json.dumps(asked))
        )
        return answers
