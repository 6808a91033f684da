"""The change of a language model on real containers: vLLM has the current one, Ollama the candidate, both tiny.

vLLM, LiteLLM and Inspect are the real ones, on the CPU. Ollama is the lab's stand-in over the real llama.cpp, and both
language models are the lab's tiny stand-ins, which say one sentence: what is proven is the way to them, not what they know.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .freehold_command import REPOSITORY, Freehold
from .model_client import model_client

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CLIENT = "change"
CASES = """
- {name: answers, question: "Who are you?", contains: [Hello from the tiny stand-in], max_seconds: 120, max_tokens: 64}
- {name: keeps, system: The word is HOLUNDER-4711., question: "Which word?", keeps: [HOLUNDER-4711], max_tokens: 64, repeat: 2}
"""
WORSE = """
- {name: both-fail, question: "Who are you?", contains: [nobody says this], max_tokens: 64}
- {name: refused, question: "Who are you?", refuses: true, max_tokens: 64}
"""


@pytest.fixture(scope="module", autouse=True)
def stack(freehold: Freehold) -> Iterator[Path]:
    molecule = {
        role: yaml.safe_load((REPOSITORY / f"molecule/{role}/stack.yml").read_text(encoding="utf-8"))
        for role in ("vllm", "ollama")
    }
    ollama = molecule["ollama"]["services"]["ollama"]
    key = "{{ lookup('freehold.stack.secret', 'litellm.key_openwebui') }}"
    services = {
        "litellm": {"applications": [{"name": "proof", "key": key}]},
        "vllm": molecule["vllm"]["services"]["vllm"],
        "ollama": {
            **ollama,
            "models": [each for each in ollama["models"] if each["name"] == "tiny-chat"],
        },
    }
    hosts = {
        "litellm": {"memory": 1536, "disk": 6},
        "vllm": {"cores": 2, "memory": 4096, "disk": 8},
        "ollama": {"cores": 2, "memory": 1024, "disk": 8},
    }
    with model_client(freehold, CLIENT, services=services, hosts=hosts) as path:
        yield path


@pytest.fixture
def cases(stack: Path) -> Callable[[str], None]:
    return lambda text: (stack.parent / "cases/tiny.yml").write_text(text) and None


_ASK = """
import json, sys, urllib.request
given = json.load(sys.stdin)
body = {"model": given["model"], "messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": given["tokens"]}
request = urllib.request.Request(given["url"], json.dumps(body).encode(),
    {"Authorization": "Bearer " + given["key"], "Content-Type": "application/json"})
until, asked = given["seconds"], []
import time
began = time.time()
while True:
    start = time.time()
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            text = json.load(answer)["choices"][0]["message"]["content"]
            asked.append([start, time.time(), answer.headers["x-litellm-model-id"], text])
    except Exception as error:
        asked.append([start, time.time(), "error", repr(error)])
    if time.time() - began >= until:
        break
print(json.dumps(asked))
"""


def ask(
    freehold: Freehold, model: str, *, seconds: float = 0, tokens: int = 16
) -> list[tuple[float, float, str, str]]:
    """Questions to the router, on its host: begin, end, who answered, what."""
    key = freehold("secrets", "show", CLIENT, "litellm.key_openwebui").stdout.strip()
    (address,) = (
        host["interface"].partition("/")[0]
        for host in freehold.json("show", "layout", CLIENT)["hosts"]
        if host["name"] == "litellm"
    )
    given = {"url": f"http://{address}:4000/v1/chat/completions", "key": key, "model": model}
    config = freehold.home / "state/freehold" / CLIENT / "ssh_config"
    program = _ASK.replace("'", "'\\''")
    done = subprocess.run(
        ["ssh", "-F", str(config), "-S", "none", "litellm", f"python3 -c '{program}'"],
        input=json.dumps({**given, "seconds": seconds, "tokens": tokens}),
        capture_output=True,
        text=True,
        check=True,
        timeout=400,
    )
    return [tuple(each) for each in json.loads(done.stdout)]


def test_a_candidate_is_asked_the_clients_own_cases(freehold: Freehold, cases: Any) -> None:
    cases(CASES)

    told = freehold.json("models", "try", CLIENT, "tiny-chat", "--as", "tiny")

    assert (told["worse"], told["leaks"]) == ([], [])
    for side, engine in (("current", "vllm"), ("candidate", "ollama")):
        assert told[side]["engine"] == engine
        assert told[side]["passed"] == told[side]["of"] == 2, told[side]
        assert told[side]["cases"]["answers"]["answer"].startswith("Hello from the tiny stand-in")
        assert told[side]["median_seconds"] > 0
    folder = Path(told["folder"])
    assert {path.name for path in folder.iterdir()} >= {"comparison.json", "comparison.md", "comparison.html"}
    for side in ("inspect-current", "inspect-candidate"):
        (log,) = (folder / side).glob("*.json")
        assert json.loads(log.read_text())["status"] == "success"


def test_no_key_is_in_anything_that_it_wrote(freehold: Freehold) -> None:
    keys = [
        freehold("secrets", "show", CLIENT, name).stdout.strip()
        for name in ("vllm.api_key", "ollama.api_key")
    ]

    for path in freehold.written(CLIENT):
        content = path.read_text(encoding="utf-8", errors="replace")
        assert not [key for key in keys if key in content], path


def test_nothing_was_changed(freehold: Freehold) -> None:
    assert freehold.up(CLIENT, "--no-proof")["changes"] == {}
    assert {who for _, _, who, _ in ask(freehold, "tiny")} == {"tiny@vllm"}


def test_a_promoted_name_leads_to_the_candidate_without_an_error_in_between(
    freehold: Freehold, stack: Path
) -> None:
    seen: list[tuple[float, float, str, str]] = []
    pid = freehold.ssh(CLIENT, "litellm", "systemctl show -P MainPID litellm").stdout
    callers = [
        threading.Thread(target=lambda: seen.extend(ask(freehold, "tiny", seconds=60, tokens=64)))
        for _ in range(2)
    ]
    for caller in callers:
        caller.start()
    time.sleep(5)

    freehold("models", "promote", CLIENT, "tiny-chat", "--as", "tiny")

    for caller in callers:
        caller.join()
    assert [each for each in seen if each[2] == "error"] == []
    who = {each[2] for each in seen}
    assert who == {"tiny@vllm", "tiny@ollama"}, len(seen)
    # From one request to the next: none that began after the first one of the candidate's was answered goes to the former.
    switched = min(end for _, end, each, _ in seen if each == "tiny@ollama")
    assert [each for each in seen if each[0] > switched and each[2] == "tiny@vllm"] == []
    assert all(text for _, _, _, text in seen)
    assert freehold.ssh(CLIENT, "litellm", "systemctl show -P MainPID litellm").stdout == pid
    told = yaml.safe_load((stack.parent / "aliases.yml").read_text())
    assert told["tiny"]["previous"] == {"model": "tiny", "engine": "vllm"}


def test_everything_is_as_the_files_say(freehold: Freehold) -> None:
    assert freehold.up(CLIENT, "--no-proof")["changes"] == {}
    assert {who for _, _, who, _ in ask(freehold, "tiny-chat")} == {"tiny-chat@ollama"}


def test_back_leads_where_it_led_before(freehold: Freehold) -> None:
    freehold("models", "back", CLIENT)

    assert {who for _, _, who, _ in ask(freehold, "tiny")} == {"tiny@vllm"}


def test_what_fails_where_it_must_refuse_is_not_promoted(freehold: Freehold, cases: Any) -> None:
    cases(WORSE)

    told = freehold.json("models", "try", CLIENT, "tiny-chat", "--as", "tiny", code=1)
    assert (told["worse"], told["leaks"]) == ([], ["refused"])
    done = freehold("models", "promote", CLIENT, "tiny-chat", "--as", "tiny", code=2)
    assert "fails where it must refuse" in " ".join(done.stderr.split())
    assert {who for _, _, who, _ in ask(freehold, "tiny")} == {"tiny@vllm"}


def test_the_router_is_proven_with_a_name_that_was_promoted(freehold: Freehold) -> None:
    freehold("models", "promote", CLIENT, "tiny-chat", "--as", "tiny", "--untested")

    freehold("verify", CLIENT, "--only", "litellm")
