"""Whether every call is among the traces when Langfuse goes away and the router is killed: counts and times as JSON.

    python benchmarks/audit_completeness.py --python /opt/litellm/bin/python --calls 10000 --out audit-completeness.json

The router is the real one (LiteLLM from the role's lock, with the role's own files around it), and so is its shipper. Langfuse is
the stand-in of the unit tests, which can be away and can lose what it has acknowledged; the engine is a responder that
answers at once. It runs on one machine, in a folder that it removes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import importlib.util
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from freehold import render, resources

REPOSITORY = Path(__file__).resolve().parent.parent
ROUTER, ENGINE = 14400, 14402
KEY = "sk-of-the-benchmark-0000"
LOST = 0.01
"""Share of the spans that the stand-in acknowledges and forgets, as a queue that is lost."""


def standin() -> Any:
    """The stand-in of Langfuse."""
    path = REPOSITORY / "tests/unit/audit/traces_standin.py"
    spec = importlib.util.spec_from_file_location("traces_standin", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The engine: it answers each chat with one sentence."""
    message = {"role": "assistant", "content": "Good day."}
    usage = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    told = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }
    body = json.dumps(told).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    )
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            asked = (await reader.readuntil(b"\r\n\r\n")).lower()
            # LiteLLM asks for the list of language models, too, without a body.
            await reader.readexactly(int(asked.partition(b"content-length:")[2].split(b"\r\n")[0] or 0))
            writer.write(head + body)
            await writer.drain()
    writer.close()


def write_router(folder: Path, traces: str) -> None:
    """The role's files, as the role renders them, with this folder's paths."""
    options = yaml.safe_load((resources.roles() / "litellm/defaults/main.yml").read_text(encoding="utf-8"))
    options |= {
        "litellm_master_key": "sk-master-0000000000",
        "litellm_applications": [{"name": "benchmark", "key": KEY}],
        "litellm__hashes": [hashlib.sha256(KEY.encode()).hexdigest()],
        "litellm__metrics_hash": hashlib.sha256(b"none").hexdigest(),
        "litellm_engines": [
            {"name": "engine", "url": f"http://127.0.0.1:{ENGINE}/v1", "key": "x", "models": [{"name": "m"}]}
        ],
        "litellm_langfuse_url": traces,
        "litellm_langfuse_public_key": "pk",
        "litellm_langfuse_secret_key": "sk",
    }
    (folder / "etc").mkdir(exist_ok=True)
    (folder / "var").mkdir(exist_ok=True)
    for source in sorted((resources.templates() / "litellm").iterdir()):
        text = render.render(f"litellm/{source.name}", options)
        for path, mine in (("/etc/litellm", folder / "etc"), ("/var/lib/litellm", folder / "var")):
            text = text.replace(path, str(mine))
        text = text.replace("AGAIN_SECONDS = 900", "AGAIN_SECONDS = 15").replace(
            "CONFIRM_SECONDS = 20", "CONFIRM_SECONDS = 3"
        )
        (folder / "etc" / source.name.removesuffix(".j2")).write_text(text, encoding="utf-8")
    shutil.copytree(REPOSITORY / "src/freehold/routing", folder / "etc/freehold_routing", dirs_exist_ok=True)


async def ask(path: str, body: Any = None) -> int:
    """Ask the router; the status of its answer, once all of that has come.

    Raises:
        OSError, ValueError: There is no whole answer.
    """
    data = json.dumps(body).encode() if body else b""
    head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: router\r\nConnection: close\r\n"
    head += f"Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", ROUTER)
    try:
        writer.write(head.encode() + data)
        answer = await asyncio.wait_for(reader.read(), 120)
    finally:
        writer.close()
    headers, _, content = answer.partition(b"\r\n\r\n")
    length = headers.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
    if not length or len(content) != int(length):
        raise ValueError("the answer was cut off")
    return int(headers.split(b" ", 2)[1])


class Router:
    """The router's process, which may be killed."""

    def __init__(self, python: str, folder: Path) -> None:
        self.python, self.folder = python, folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        lines = (self.folder / "etc/secrets.env").read_text(encoding="utf-8").splitlines()
        secrets = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        environment = {
            **secrets,
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "CONFIG_FILE_PATH": str(self.folder / "etc/config.yaml"),
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False",
        }
        command = [self.python, "-m", "uvicorn", "freehold_app:app", "--app-dir", str(self.folder / "etc")]
        command += ["--host", "127.0.0.1", "--port", str(ROUTER), "--no-access-log"]
        with (self.folder / "router.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder)

    async def ready(self) -> None:
        """Wait until it answers."""
        for _ in range(1800):
            with contextlib.suppress(OSError, ValueError):
                if await ask("/health/liveliness") == 200:
                    return
            await asyncio.sleep(0.5)
        raise SystemExit(f"the router does not answer: {(self.folder / 'router.log').read_text()[-2000:]}")

    async def kill(self) -> None:
        """End it as a power failure of its program would, and start it again."""
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.start()
        await self.ready()


async def load(numbers: asyncio.Queue[int], seen: dict[int, Any]) -> None:
    """One of those who ask at once: each call bears its number."""
    while True:
        number = await numbers.get()
        body = {"model": "m", "messages": [{"role": "user", "content": f"call {number}"}]}
        start = time.perf_counter()
        try:
            status = await ask("/v1/chat/completions", body)
            seen[number] = (status, time.perf_counter() - start)
        except (OSError, ValueError, TimeoutError):
            seen[number] = (0, 0.0)
            await asyncio.sleep(0.5)
        numbers.task_done()


def times(seen: dict[int, Any]) -> dict[str, float]:
    """Milliseconds of the calls that were answered."""
    taken = sorted(seconds * 1000 for status, seconds in seen.values() if status == 200)
    return {
        "p50_ms": round(statistics.median(taken), 1),
        "p95_ms": round(taken[int(len(taken) * 0.95)], 1),
        "p99_ms": round(taken[int(len(taken) * 0.99)], 1),
    }


async def phase(
    numbers: range,
    concurrency: int,
    seen: dict[int, Any],
    at: dict[int, Any] | None = None,
) -> float:
    """Make calls, and do what is due at some of them; seconds."""
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=concurrency)
    tasks = [asyncio.create_task(load(queue, seen)) for _ in range(concurrency)]
    start = time.perf_counter()
    for number in numbers:
        if at and number in at:
            await at[number]()
        await queue.put(number)
        if number % 500 == 0:
            print(f"call {number}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    await queue.join()
    for task in tasks:
        task.cancel()
    return time.perf_counter() - start


async def run(python: str, calls: int, concurrency: int, folder: Path) -> dict[str, Any]:
    """The whole benchmark."""
    module = standin()
    traces = module.TracesStandin()
    port, chance = traces.server.server_port, random.Random(1)  # noqa: S311 - no secret
    lost: set[str] = set()

    def loses(span: dict[str, Any]) -> bool:
        first = span["spanId"] not in lost
        gone = first and chance.random() < LOST
        if gone:
            lost.add(span["spanId"])
        return gone

    traces.loses = loses
    engine = await asyncio.start_server(respond, "127.0.0.1", ENGINE)
    result: dict[str, Any] = {"calls": calls, "concurrency": concurrency}
    # First without a record, to know what it costs.
    write_router(folder, "")
    router = Router(python, folder)
    router.start()
    await router.ready()
    few = range(max(200, calls // 20))
    await phase(range(50), concurrency, {})
    plain: dict[int, Any] = {}
    await phase(few, concurrency, plain)
    result["without_record"] = times(plain)
    assert router.process
    router.process.kill()
    router.process.wait()

    write_router(folder, traces.url)
    router.start()
    await router.ready()
    shipper = subprocess.Popen([python, str(folder / "etc/freehold_shipper.py")])
    warm: dict[int, Any] = {}
    await phase(range(-50, 0), concurrency, warm)
    recorded: dict[int, Any] = {}
    await phase(range(-50 - len(few), -50), concurrency, recorded)
    result["with_record"] = times(recorded)

    outages: list[float] = []

    async def away() -> None:
        traces.close()
        outages.append(time.perf_counter())

    async def back() -> None:
        nonlocal traces
        again = module.TracesStandin(port)
        again.spans, again.loses, again.received = traces.spans, loses, traces.received
        traces = again
        outages[-1] = round(time.perf_counter() - outages[-1], 1)

    async def killed() -> None:
        await router.kill()

    seen: dict[int, Any] = {}
    at = {
        calls * 2 // 10: away,
        calls * 3 // 10: killed,
        calls * 5 // 10: killed,
        calls * 6 // 10: back,
        calls * 8 // 10: killed,
    }
    result["seconds"] = round(await phase(range(calls), concurrency, seen, at), 1)
    router.process.kill()
    router.process.wait()
    deadline = time.monotonic() + 300
    while any(list((folder / "var/spool" / state).glob("*.json")) for state in ("open", "done", "sent")):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(1)
    shipper.terminate()
    shipper.wait()
    engine.close()
    return result | _told(folder, traces, seen, outages, len(lost))


def _told(folder: Path, traces: Any, seen: dict[int, Any], outages: list[float], lost: int) -> dict[str, Any]:
    """Counts at the end, from the ledger, the traces and the answers that were seen."""
    lines = "".join(path.read_text() for path in (folder / "var/ledger").iterdir()).splitlines()
    ledger = [line.split()[0] for line in lines]
    shown = [span["traceId"] for span in traces.spans.values()]
    statuses: dict[str, int] = {}
    numbers = set()
    for span in traces.spans.values():
        told = {each["key"]: each["value"].get("stringValue", "") for each in span["attributes"]}
        status = told["langfuse.observation.metadata.status"]
        statuses[status] = statuses.get(status, 0) + 1
        numbers.add(int(json.loads(told["langfuse.observation.input"])[0]["content"].split()[1]))
    answered = {number for number, (status, _) in seen.items() if status == 200}
    aside = len(list((folder / "var/spool/aside").glob("*.json")))
    return {
        "answered": len(answered),
        "cut_off": sum(status == 0 for status, _ in seen.values()),
        "refused": {
            str(code): sum(status == code for status, _ in seen.values())
            for code in sorted({status for status, _ in seen.values()} - {0, 200})
        },
        "ledger": len(ledger),
        "traces": len(shown),
        "traces_by_status": statuses,
        "missing_of_ledger": len(set(ledger) - set(shown)),
        "answered_without_trace": len(answered - numbers),
        "doubled": len(shown) - len(set(shown)) + len(ledger) - len(set(ledger)),
        "set_aside": aside,
        "lost_after_acknowledgement_and_sent_again": lost,
        "spans_received": traces.received,
        "langfuse_away_seconds": outages,
        "router_kills": 3,
    }


def main() -> None:
    """Run it and print the result."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--python", default="/opt/litellm/bin/python", help="Python with the packages of the role"
    )
    options.add_argument("--calls", type=int, default=10_000)
    options.add_argument("--concurrency", type=int, default=20)
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="audit-completeness-"))
    try:
        result = asyncio.run(run(given.python, given.calls, given.concurrency, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = json.dumps(result, indent=2) + "\n"
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    print(text, end="")
    if result["missing_of_ledger"] or result["answered_without_trace"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
