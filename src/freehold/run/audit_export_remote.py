"""What ``freehold audit export`` runs on the host of Langfuse, with the standard library alone; JSON in, JSON lines out.

``GET /api/public/v2/observations`` (https://langfuse.com/docs/api-and-data-platform/features/observations-api), page by page; each
line is one trace with its observations.
"""

from __future__ import annotations

import base64
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

PAGE = 500
FIELDS = "core,basic,time,io,metadata,model,usage,metrics"


def page(given: dict[str, Any], cursor: str | None) -> Any:
    """One page of observations."""
    asked = {"fields": FIELDS, "limit": PAGE, "expandMetadata": ",".join(given["metadata"])}
    asked |= {"fromStartTime": given["from"], "toStartTime": given["to"]} | (
        {"cursor": cursor} if cursor else {}
    )
    url = f"{given['url']}/api/public/v2/observations?{urllib.parse.urlencode(asked)}"
    key = base64.b64encode(f"{given['public_key']}:{given['secret_key']}".encode()).decode()
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {key}"})  # noqa: S310 - always HTTP
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=120) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read(500).decode("utf-8", "replace")
        sys.exit(f"Langfuse answered GET /api/public/v2/observations with HTTP {error.code}: {text}")
    except OSError as error:
        sys.exit(f"Langfuse at {given['url']} does not answer: {error}")


def main() -> None:
    """Write all traces of a span of time, oldest first."""
    given = json.load(sys.stdin)
    traces: dict[str, list[Any]] = {}
    cursor = None
    while True:
        answer = page(given, cursor)
        for entry in answer["data"]:
            traces.setdefault(entry.get("traceId") or entry["id"], []).append(entry)
        cursor = (answer.get("meta") or {}).get("cursor")
        if not cursor or not answer["data"]:
            break

    def began(found: tuple[str, list[Any]]) -> tuple[str, str]:
        return min(entry["startTime"] for entry in found[1]), found[0]

    for trace, entries in sorted(traces.items(), key=began):
        entries.sort(key=lambda entry: (entry["startTime"], entry["id"]))
        print(json.dumps({"trace": trace, "observations": entries}, ensure_ascii=False))


if __name__ == "__main__":
    main()
