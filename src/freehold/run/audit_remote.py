"""What ``freehold audit erase`` runs on the host of Langfuse, with the standard library alone; JSON in, JSON lines out.

Langfuse's public API (https://api.reference.langfuse.com): ``GET /api/public/v2/observations`` lists what a person did, and
``DELETE /api/public/traces`` erases whole traces with their observations, scores and media.
"""

from __future__ import annotations

import base64
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

PAGE = 1000
"""Observations per page: the most that the API gives."""
BATCH = 200
"""Traces per request to erase."""


def ask(given: dict[str, Any], method: str, path: str, body: Any = None) -> Any:
    """One call of the API."""
    request = urllib.request.Request(given["url"] + path, method=method)  # noqa: S310 - always HTTP
    key = base64.b64encode(f"{given['public_key']}:{given['secret_key']}".encode()).decode()
    request.add_header("Authorization", f"Basic {key}")
    request.add_header("Content-Type", "application/json")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = None if body is None else json.dumps(body).encode()
    try:
        with opener.open(request, data, timeout=120) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read(500).decode("utf-8", "replace")
        sys.exit(f"Langfuse answered {method} {path.partition('?')[0]} with HTTP {error.code}: {text}")
    except OSError as error:
        sys.exit(f"Langfuse at {given['url']} does not answer: {error}")


def traces(given: dict[str, Any]) -> tuple[list[str], int]:
    """Traces of the person, and the number of observations in them."""
    found: list[str] = []
    observations, cursor = 0, None
    while True:
        asked = {"userId": given["user"], "limit": PAGE, "fields": "core"}
        # Without a span of time, the API may look at the last days alone.
        asked |= {"fromStartTime": "2020-01-01T00:00:00Z", "toStartTime": "2099-01-01T00:00:00Z"}
        asked |= {"cursor": cursor} if cursor else {}
        answer = ask(given, "GET", "/api/public/v2/observations?" + urllib.parse.urlencode(asked))
        observations += len(answer["data"])
        found += [entry["traceId"] for entry in answer["data"] if entry.get("traceId")]
        cursor = (answer.get("meta") or {}).get("cursor")
        if not cursor or not answer["data"]:
            return sorted(set(found)), observations


def main() -> None:
    """Count, or erase and wait until nothing is left."""
    given = json.load(sys.stdin)
    wanted, observations = traces(given)
    if not given["erase"]:
        print(json.dumps({"traces": len(wanted), "observations": observations, "ids": wanted}))
        return
    # What Langfuse has acknowledged and does not show yet.
    wanted = sorted({*wanted, *given.get("also", ())})
    for start in range(0, len(wanted), BATCH):
        ask(given, "DELETE", "/api/public/traces", {"traceIds": wanted[start : start + BATCH]})
    left, deadline = wanted, time.monotonic() + given["patience"]
    while left and time.monotonic() < deadline:
        time.sleep(2)
        left, _ = traces(given)
    print(json.dumps({"traces": len(wanted), "observations": observations, "left": len(left)}))


if __name__ == "__main__":
    main()
