"""What ``freehold models promote`` runs on the host of the router, with the standard library alone: who answers to a name?

JSON in, JSON out. LiteLLM names the deployment that answered in a header (``x-litellm-model-id``).
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request


def main() -> None:
    """Ask for one token."""
    given = json.load(sys.stdin)
    embeds = given["kind"] == "embedding"
    body = (
        {"model": given["name"], "input": "Hello"}
        if embeds
        else {
            "model": given["name"],
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 1,
        }
    )
    request = urllib.request.Request(  # noqa: S310 - always HTTP
        f"{given['url']}/{'embeddings' if embeds else 'chat/completions'}",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {given['key']}", "Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=300) as answer:
            answer.read()
            print(json.dumps({"by": answer.headers.get("x-litellm-model-id", "")}))
    except urllib.error.HTTPError as error:
        sys.exit(f"The router answered with HTTP {error.code}: {error.read(500).decode('utf-8', 'replace')}")
    except OSError as error:
        sys.exit(f"The router at {given['url']} does not answer: {error}")


if __name__ == "__main__":
    main()
