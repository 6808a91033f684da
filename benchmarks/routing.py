"""What leaves through the real router, and what the router costs: conversations of ``benchmarks.leaks`` against a client whose
cloud is the lab's stand-in, which counts and keeps what reaches it.

    python -m benchmarks.routing CLIENT --cloud https://10.86.0.1:8447 --certificate /var/lib/freehold-lab/cloud-standin.pem

The client's stack lets the first of its users who may do so use a cloud language model at that address.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import json
import ssl
import statistics
import subprocess
import sys
import time
import urllib.request
import uuid
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.leaks import SEED, Conversation, conversations

from freehold.layout import variables
from freehold.run.context import Client

CALLS = Path(__file__).with_name("routing_calls.py")
WORKERS = 20
"""People who ask at once."""


def signed(mail: str, key: str) -> str:
    """Who asks, as Open WebUI says it (HS256, RFC 7519)."""

    def encoded(part: bytes) -> str:
        return base64.urlsafe_b64encode(part).rstrip(b"=").decode()

    claims = {"iss": "open-webui", "email": mail, "exp": int(time.time()) + 3600}
    text = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{text}.{encoded(hmac.digest(key.encode(), text.encode(), 'sha256'))}"


class Cloud:
    """The stand-in's own side."""

    def __init__(self, address: str, certificate: Path) -> None:
        self.address = f"{address}/standin/requests"
        self.context = ssl.create_default_context(cafile=str(certificate))

    def count(self) -> int:
        """How many requests reached it so far."""
        return int(self._get(10**9)["count"])

    def since(self, number: int) -> list[str]:
        """All texts of the requests from a number on, heads included."""
        return [_text(one) for one in self._get(number)["requests"]]

    def _get(self, number: int) -> Any:
        address = f"{self.address}?from={number}"
        with urllib.request.urlopen(address, context=self.context, timeout=60) as answer:  # noqa: S310 - https
            return json.load(answer)


class Asker:
    """A person of the client, who asks through the router."""

    def __init__(self, client: Client) -> None:
        policy, service = client.layout.routing, client.layout.service("litellm")
        if policy is None or not policy.cloud:
            raise SystemExit("Nothing of this client may leave: its stack file has no routing.")
        self.model, entry = next(iter(sorted(policy.cloud.items())))
        allowed = set(entry["groups"])
        self.mail = next(mail for mail, one in policy.users.items() if allowed & set(one["groups"]))
        self.local = entry["local"]
        application = next(a for a in service.variables["litellm_applications"] if a["name"] == "openwebui")
        self.key = _secret(client, application["key"])
        self.user_key = _secret(client, service.variables["litellm_user_key"])
        self.engine = next(
            engine
            for engine in service.variables["litellm_engines"]
            if any(model["name"] == self.local for model in engine["models"])
        )
        self.engine_key = _secret(client, self.engine["key"])
        self.address = str(service.address)
        self.ssh = ["ssh", "-F", str(client.ssh().config), service.host]

    def call(self, session: str, messages: Sequence[Mapping[str, str]], model: str) -> dict[str, Any]:
        """One call to the router."""
        headers = {
            "Authorization": f"Bearer {self.key}",
            "X-OpenWebUI-User-Jwt": signed(self.mail, self.user_key),
            "X-LiteLLM-Session-Id": session,
        }
        return {"headers": headers, "body": {"model": model, "messages": list(messages), "max_tokens": 8}}

    def direct(self) -> dict[str, Any]:
        """One call past the router to the engine."""
        served = next(m for m in self.engine["models"] if m["name"] == self.local)
        body = {"model": served.get("served") or self.local, "messages": QUESTION, "max_tokens": 8}
        return {"headers": {"Authorization": f"Bearer {self.engine_key}"}, "body": body}

    def send(self, calls: Sequence[Sequence[Mapping[str, Any]]], *, engine: bool = False) -> list[list[Any]]:
        """What became of each call of each conversation."""
        host, port = (self.engine["address"], self.engine["port"]) if engine else (self.address, 4000)
        asked = {
            "host": host,
            "port": port,
            "path": "/v1/chat/completions",
            "workers": WORKERS,
            "conversations": calls,
        }
        code = base64.b64encode(CALLS.read_bytes()).decode()
        command = f"python3 -c 'import base64; exec(base64.b64decode(\"{code}\"))'"
        done = subprocess.run(
            [*self.ssh, command], input=json.dumps(asked), capture_output=True, text=True, check=True
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    @staticmethod
    def on(ssh: Sequence[str], command: str) -> None:
        """Run a command on a host."""
        subprocess.run([*ssh, command], capture_output=True, text=True, check=True)


QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def _secret(client: Client, lookup: str) -> str:
    names = variables.looked_up(lookup)
    return client.secrets.get(next(iter(names))) if names else lookup


def turns(conversation: Conversation) -> list[list[dict[str, str]]]:
    """The message lists that an application sends: one for each turn of the person."""
    messages: list[dict[str, str]] = [dict(message) for message in conversation.messages]
    for message in messages:
        if message["role"] == "tool":
            message["tool_call_id"] = "call_1"
    ends = [
        place
        for place, message in enumerate(messages)
        if message["role"] == "user"
        and messages[place + 1 : place + 2] != []
        and messages[place + 1]["role"] == "assistant"
    ]
    last = max(place for place, message in enumerate(messages) if message["role"] in {"user", "tool"})
    return [messages[: end + 1] for end in sorted({*ends, last})]


def leaks(asker: Asker, cloud: Cloud, made: Sequence[Conversation]) -> dict[str, Any]:
    """What of some conversations reached the cloud."""
    before = cloud.count()
    start = time.monotonic()
    calls = []
    for one in made:
        session = str(uuid.uuid4())
        calls.append([asker.call(session, messages, asker.model) for messages in turns(one)])
    told = asker.send(calls)
    arrived = cloud.since(before)
    total, leaked, wrongly, statuses = Counter[str](), Counter[str](), 0, Counter[int]()
    confusion: dict[str, Counter[str]] = defaultdict(Counter)
    gone = 0
    for one, answers in zip(made, told, strict=True):
        kind = one.category or "clean"
        total[kind] += 1
        gone += sum(answer[2].get("route") == "cloud" for answer in answers)
        statuses.update(answer[0] for answer in answers)
        final = answers[-1][2]
        away = final.get("route") == "cloud"
        found = (final.get("categories") or "").split(",") if final.get("categories") else []
        confusion[kind].update(["cloud"] if away else found or [str(final.get("reason"))])
        if one.sensitive and away:
            leaked[kind] += 1
        if not one.sensitive and not away:
            wrongly += 1
    texts = "\n".join(arrived)
    canaries = sum(one.sensitive and len(one.canary) > 5 and one.canary in texts for one in made)
    sensitive = sum(one.sensitive for one in made)
    clean = len(made) - sensitive
    return {
        "conversations": len(made),
        "calls": sum(map(len, calls)),
        "seconds": round(time.monotonic() - start, 1),
        "sensitive": sensitive,
        "leaked": sum(leaked.values()),
        "leaked_by_category": dict(leaked),
        "canaries_at_the_cloud": canaries,
        "calls_sent_to_the_cloud": gone,
        "calls_that_reached_the_cloud": len(arrived),
        "clean": clean,
        "held_back_wrongly": wrongly,
        "routed_right_percent": round(100 * (len(made) - sum(leaked.values()) - wrongly) / len(made), 2),
        "statuses": {str(status): number for status, number in sorted(statuses.items())},
        "confusion": {kind: dict(found.most_common()) for kind, found in sorted(confusion.items())},
    }


def _text(request: Mapping[str, Any]) -> str:
    """What a request tells: its head, its body, and its messages once more as people would read them."""
    head = json.dumps(request["headers"], ensure_ascii=False)
    try:
        body = json.loads(request["body"])
        parts = [message.get("content") or "" for message in body.get("messages", [])]
    except ValueError:
        return f"{head}\n{request['body']}"
    texts = [part if isinstance(part, str) else json.dumps(part, ensure_ascii=False) for part in parts]
    return "\n".join([head, json.dumps(body, ensure_ascii=False), *texts])


def overhead(asker: Asker, calls: int) -> dict[str, Any]:
    """What the router and its guardrail add to a call of a local language model, with `WORKERS` people at once."""
    router: list[float] = []
    direct: list[float] = []
    statuses = Counter[int]()
    for _ in range(4):  # both in turns, so that what else the machine does falls on both
        share = calls // 4
        asked = [[asker.call(str(uuid.uuid4()), QUESTION, asker.local)] for _ in range(share)]
        for found, answers in (
            (direct, asker.send([[asker.direct()]] * share, engine=True)),
            (router, asker.send(asked)),
        ):
            found += [one[0][1] * 1000 for one in answers]
            statuses.update(one[0][0] for one in answers)

    def figures(times: list[float]) -> dict[str, float]:
        cuts = statistics.quantiles(times, n=20)
        return {"p50_ms": round(statistics.median(times), 1), "p95_ms": round(cuts[18], 1)}

    through, past = figures(router), figures(direct)
    return {
        "people_at_once": WORKERS,
        "calls_each": len(router),
        "statuses": {str(status): number for status, number in sorted(statuses.items())},
        "direct": past,
        "through_the_router": through,
        "added": {key: round(through[key] - past[key], 1) for key in through},
    }


def main() -> int:
    """Measure, and print JSON. Exits with 1 when anything sensitive reached the cloud."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("client")
    parser.add_argument("--cloud", required=True)
    parser.add_argument("--certificate", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--sensitive", type=int, default=1600)
    parser.add_argument("--clean", type=int, default=800)
    parser.add_argument("--calls", type=int, default=400, help="Calls each way for the overhead.")
    given = parser.parse_args()
    asker = Asker(Client.open(given.client))
    cloud = Cloud(given.cloud, given.certificate)
    made = conversations(given.seed, given.sensitive, given.clean)
    found = {
        "seed": given.seed,
        "leaks": leaks(asker, cloud, made),
        "overhead": overhead(asker, given.calls) if given.calls else None,
    }
    print(json.dumps(found, indent=2, ensure_ascii=False))
    bad = found["leaks"]["leaked"] + found["leaks"]["canaries_at_the_cloud"]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
