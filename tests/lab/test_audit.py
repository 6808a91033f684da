"""The audit trail on real containers: Langfuse goes away, the router is killed, people go on asking, and no call is missing.

LiteLLM and its shipper are the real ones; Langfuse, ClickHouse and Ollama are the lab's stand-ins, and the language model is the
tiny one: what is proven is that calls become traces, not what Langfuse shows of them.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .freehold_command import REPOSITORY, Freehold
from .model_client import model_client

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CLIENT = "audit"


@pytest.fixture(scope="module", autouse=True)
def stack(freehold: Freehold) -> Iterator[Path]:
    molecule = yaml.safe_load((REPOSITORY / "molecule/ollama/stack.yml").read_text(encoding="utf-8"))
    ollama = molecule["services"]["ollama"]
    key = "{{ lookup('freehold.stack.secret', 'litellm.key_openwebui') }}"
    services = {
        "litellm": {"applications": [{"name": "proof", "key": key}]},
        "ollama": {**ollama, "models": [each for each in ollama["models"] if each["name"] == "tiny-chat"]},
        "langfuse": None,
    }
    hosts = {
        "caddy": {"memory": 256, "disk": 2},
        "postgres": {"memory": 768, "disk": 2, "data": 2},
        "valkey": {"memory": 256, "disk": 2},
        "clickhouse": {"memory": 1024, "cores": 1, "disk": 3, "data": 2},
        "seaweedfs": {"memory": 512, "disk": 3, "data": 2},
        "langfuse": {"memory": 768, "cores": 1, "disk": 4},
        "litellm": {"cores": 2, "memory": 1536, "disk": 6},
        "ollama": {"cores": 2, "memory": 768, "disk": 4},
    }
    with model_client(freehold, CLIENT, services=services, hosts=hosts) as path:
        yield path


_ASK = """
import json, sys, urllib.request
given = json.load(sys.stdin)
for number in range(given["calls"]):
    body = {"model": "tiny-chat", "messages": [{"role": "user", "content": f"call {number}"}], "max_tokens": 4}
    request = urllib.request.Request(given["url"], json.dumps(body).encode(),
        {"Authorization": "Bearer " + given["key"], "Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            print(answer.status, flush=True)
    except Exception as error:
        print(getattr(error, "code", 0), flush=True)
"""


def ask(freehold: Freehold, calls: int) -> list[int]:
    """Ask the router on its own host; the status of each answer, 0 where there was none."""
    key = freehold("secrets", "show", CLIENT, "litellm.key_openwebui").stdout.strip()
    hosts = freehold.json("show", "layout", CLIENT)["hosts"]
    (address,) = (host["interface"].partition("/")[0] for host in hosts if host["name"] == "litellm")
    given = {"url": f"http://{address}:4000/v1/chat/completions", "key": key, "calls": calls}
    config = freehold.home / "state/freehold" / CLIENT / "ssh_config"
    done = subprocess.run(
        ["ssh", "-F", str(config), "-S", "none", "litellm", f"python3 -c '{_ASK}'"],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
    )
    return [int(line) for line in done.stdout.split()]


def checked(freehold: Freehold) -> dict[str, Any]:
    done = freehold("audit", "check", CLIENT, "--json", code=None)
    found: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode == 0) is found["complete"]
    return found


def settled(freehold: Freehold, calls: int) -> dict[str, Any]:
    """The check, once everything that waited has been shown."""
    deadline = time.monotonic() + 240
    while True:
        found = checked(freehold)
        if found["traces"] == calls or time.monotonic() > deadline:
            return found
        time.sleep(3)


def test_no_call_is_missing_after_an_outage_and_a_kill(freehold: Freehold) -> None:
    assert ask(freehold, 3) == [200] * 3
    assert settled(freehold, 3)["traces"] == 3

    freehold.ssh(CLIENT, "langfuse", "systemctl stop langfuse-web langfuse-worker")
    assert ask(freehold, 5) == [200] * 5
    freehold.ssh(CLIENT, "litellm", "systemctl kill -s KILL litellm; systemctl kill -s KILL litellm-shipper")
    done = freehold.ssh(CLIENT, "litellm", "sleep 8; systemctl start litellm litellm-shipper")
    assert done.returncode == 0, done.stderr
    assert ask(freehold, 5) == [200] * 5
    waiting = freehold.ssh(CLIENT, "litellm", "ls /var/lib/litellm/spool/done | wc -l").stdout
    assert int(waiting) == 10

    freehold.ssh(CLIENT, "langfuse", "systemctl start langfuse-web langfuse-worker")
    found = settled(freehold, 13)
    assert (found["calls"], found["traces"], found["missing"]) == (13, 13, [])


def test_a_full_spool_answers_nobody(freehold: Freehold) -> None:
    settings = "/etc/litellm/audit.json"
    freehold.ssh(CLIENT, "langfuse", "systemctl stop langfuse-web")
    freehold.ssh(
        CLIENT,
        "litellm",
        f'sed -i \'s/"spool_mib": 512/"spool_mib": 0.01/\' {settings}; systemctl restart litellm',
    )
    assert set(ask(freehold, 8)) >= {503}
    freehold.ssh(
        CLIENT,
        "litellm",
        f'sed -i \'s/"spool_mib": 0.01/"spool_mib": 512/\' {settings}; systemctl restart litellm',
    )
    freehold.ssh(CLIENT, "langfuse", "systemctl start langfuse-web")
    assert ask(freehold, 1) == [200]


def test_an_export_is_signed_and_holds_every_trace(freehold: Freehold, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    calls = checked(freehold)["calls"]
    settled(freehold, calls)
    told = freehold.json("audit", "export", CLIENT, "--out", str(folder))

    assert told["traces"] == calls
    assert told["completeness"]["complete"]
    lines = [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert len({line["trace"] for line in lines}) == calls
    (observation,) = lines[0]["observations"]
    assert observation["metadata"]["application"] == "proof"
    assert "call 0" in json.dumps(observation["input"])
    key = freehold.inventory / CLIENT / "signing-key.pem"
    assert freehold("audit", "verify", str(folder), "--key", str(key)).returncode == 0
    (folder / "manifest.json").write_text("{}")
    assert freehold("audit", "verify", str(folder), code=1).returncode == 1


def test_a_trace_that_somebody_removed_is_missed(freehold: Freehold) -> None:
    before = checked(freehold)
    freehold.ssh(
        CLIENT,
        "litellm",
        "echo \"$(printf 'f%.0s' $(seq 32)) $(date +%s)000 proof\" >> /var/lib/litellm/ledger/$(date -u +%F)",
    )

    assert checked(freehold)["missing"] == [*before["missing"], "f" * 32]
