"""A candidate in the place of the current language model for a window, on real containers, where no engine stands beside.

LiteLLM and Inspect are the real ones. Ollama is the lab's stand-in over the real llama.cpp, and both language models are one tiny
stand-in under two names: what is proven is the change and the way back.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from .freehold_command import LAB_STACK, Freehold
from .model_client import model_client

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CLIENT = "instead"


CASES = "- {name: answers, question: Who are you, contains: [Hello from the tiny stand-in], max_tokens: 64}\n"


@pytest.fixture(scope="module", autouse=True)
def stack(freehold: Freehold) -> Iterator[Path]:
    entries = yaml.safe_load((LAB_STACK.parent / "models.yml").read_text(encoding="utf-8"))
    tiny = entries["tiny-chat"]
    second = copy.deepcopy(tiny) | {"title": "Tiny stand-in, the second"}
    models = yaml.safe_dump({"tiny-chat": tiny, "tiny-second": second})
    with model_client(
        freehold,
        CLIENT,
        {"models.yml": models, "cases/tiny.yml": CASES},
        services={"litellm": None, "ollama": {"device": "cpu"}},
        models={"tiny-chat": {"name": "assistant", "engine": "ollama", "context": 2048, "users": 2}},
        hosts={
            "litellm": {"memory": 1536, "disk": 6},
            "ollama": {"cores": 2, "memory": 1024, "disk": 8},
        },
    ) as path:
        yield path


def routed(freehold: Freehold) -> str:
    """What the router's own list has."""
    return freehold.ssh(CLIENT, "litellm", "cat /etc/litellm/models.yaml").stdout


def test_the_candidate_takes_the_place_for_the_window_and_gives_it_back(
    freehold: Freehold, stack: Path
) -> None:
    assert "tiny-second" not in routed(freehold)
    seen: list[bool] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append("tiny-second" in routed(freehold) and (stack.parent / "trial.yml").is_file())
            time.sleep(3)

    watcher = threading.Thread(target=watch)
    watcher.start()
    told = freehold.json("models", "try", CLIENT, "tiny-second", "--instead", "--for", "1m")
    done.set()
    watcher.join()

    assert told["current"]["model"] == "tiny-chat"
    assert told["candidate"]["model"] == "tiny-second"
    assert told["candidate"]["passed"] == told["current"]["passed"] == 1
    assert any(seen)
    assert "tiny-second" not in routed(freehold)
    assert not (stack.parent / "trial.yml").exists()


def test_everything_is_as_the_stack_file_says_again(freehold: Freehold) -> None:
    assert freehold.up(CLIENT, "--no-proof")["changes"] == {}
    freehold("verify", CLIENT, "--only", "ollama")


def test_what_cannot_be_leaves_everything_as_it_is(freehold: Freehold, stack: Path) -> None:
    done = freehold("models", "try", CLIENT, "no-such-model", "--instead", code=2)

    assert "unknown language model" in " ".join(done.stderr.split())
    assert not (stack.parent / "trial.yml").exists()
