"""Routing on real containers: the real router before a local language model, and a cloud that counts what reaches it.

LiteLLM and Valkey are the real ones. Ollama is the lab's stand-in over the real llama.cpp, and the cloud is the lab's stand-in of cloud
providers, which keeps every request.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from benchmarks.leaks import NAMES, conversations
from benchmarks.routing import QUESTION, Asker, Cloud, leaks

from freehold.lab import cloud_standin

from . import asking
from .freehold_command import REPOSITORY, Freehold
from .model_client import model_client

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CLIENT = "routed"
CASES = """
- {name: harmless, text: "What is the capital of France?", user: ada@routed.internal, expect: cloud, because: allowed}
- {name: account, text: "Pay to DE89 3704 0044 0532 0130 00", user: ada@routed.internal, expect: local, because: bank-account}
- {name: stranger, text: "What is the capital of France?", expect: local, because: no_user}
- {name: file, text: "What does it say?", attachments: true, user: ada@routed.internal, expect: local, because: attachments}
- {name: nobody's, text: "Hello", model: gpt-5, user: ada@routed.internal, expect: refused}
"""


@pytest.fixture(scope="module")
def stack(freehold: Freehold) -> Iterator[Path]:
    ollama = yaml.safe_load((REPOSITORY / "molecule/ollama/stack.yml").read_text(encoding="utf-8"))
    models = [each for each in ollama["services"]["ollama"]["models"] if each["name"] == "tiny-chat"]
    key = "{{ lookup('freehold.stack.secret', 'litellm.key_openwebui') }}"
    user_key = "{{ lookup('freehold.stack.secret', 'litellm.key_n8n') }}"
    services = {
        "litellm": {
            "applications": [{"name": "openwebui", "key": key}],
            "user_key": user_key,
            "authorities_file": cloud_standin.CERTIFICATE,
        },
        "ollama": {**ollama["services"]["ollama"], "models": models},
    }
    routing = {
        "providers": {
            "acme": {"kind": "openai-compatible", "endpoint": f"{asking.CLOUD}/v1", "region": "DE"}
        },
        "cloud": {"gpt": {"provider": "acme", "model": "gpt-standin", "groups": ["lawyers"]}},
    }
    given: dict[str, Any] = {
        "services": services,
        "routing": routing,
        "egress": {"closed": False},
        "groups": [{"name": "lawyers"}],
        "users": [{"name": "Ada", "mail": "ada@routed.internal", "groups": ["lawyers"]}],
        "hosts": {
            "litellm": {"memory": 1536, "disk": 6},
            "ollama": {"cores": 2, "memory": 1024, "disk": 8},
            "valkey": {"memory": 256, "disk": 2},
        },
    }
    files = {"routing-cases.yml": CASES, "given.txt": cloud_standin.KEY, "clients.txt": "\n".join(NAMES)}
    with model_client(freehold, CLIENT, files=files, before=_hand_in, **given) as path:
        yield path


def _hand_in(freehold: Freehold, path: Path) -> None:
    """The provider's key and the names, which only the client has."""
    refused = freehold("check", CLIENT, code=2)
    assert f"freehold secrets set {CLIENT} litellm.cloud_acme" in refused.stdout + refused.stderr
    freehold("secrets", "set", CLIENT, "litellm.cloud_acme", stdin=path.with_name("given.txt"))
    freehold("route", "names", "add", CLIENT, str(path.with_name("clients.txt")))


@pytest.fixture(scope="module")
def asker(stack: Path, freehold: Freehold) -> Asker:
    return asking.asker(freehold, stack)


@pytest.fixture(scope="module")
def cloud(stack: Path) -> Cloud:
    return asking.cloud()


def test_the_deployed_policy_holds_the_cases(freehold: Freehold, stack: Path) -> None:
    freehold("route", "cases", CLIENT)
    freehold("verify", CLIENT)


def test_nothing_sensitive_reaches_the_cloud(asker: Asker, cloud: Cloud) -> None:
    found = leaks(asker, cloud, conversations(sensitive=1340, clean=670))

    assert (found["leaked_by_category"], found["canaries_at_the_cloud"]) == ({}, 0)
    assert found["calls_that_reached_the_cloud"] == found["calls_sent_to_the_cloud"] > 0, found
    # The tiny language model takes 2,048 tokens, which a few of the conversations exceed: nothing else may take them.
    assert set(found["statuses"]) <= {"200", "400"}


def test_a_conversation_stays_for_its_whole_life(asker: Asker, cloud: Cloud) -> None:
    session, before = str(uuid.uuid4()), cloud.count()
    secret = [{"role": "user", "content": "Pay to DE89 3704 0044 0532 0130 00"}]
    calls = [asker.call(session, messages, "gpt") for messages in (QUESTION, secret, QUESTION)]
    told = [answer[2]["route"] for answer in asker.send([calls])[0]]

    assert told == ["cloud", "local", "local"]
    assert cloud.count() == before + 1


def test_nothing_goes_to_the_cloud_because_the_engine_is_away(asker: Asker, cloud: Cloud) -> None:
    before = cloud.count()
    sensitive = [{"role": "user", "content": "Pay to DE89 3704 0044 0532 0130 00"}]
    engine = [*asker.ssh[:-1], asker.engine["name"]]
    asker.on(engine, "systemctl stop ollama.service")
    try:
        answers = asker.send([[asker.call(str(uuid.uuid4()), sensitive, "gpt")]])
    finally:
        asker.on(engine, "systemctl start ollama.service")

    assert answers[0][0][0] >= 500
    assert cloud.count() == before


def test_nothing_goes_to_the_cloud_while_the_memory_is_away(asker: Asker, cloud: Cloud) -> None:
    before = cloud.count()
    memory = [*asker.ssh[:-1], "valkey"]
    asker.on(memory, "systemctl stop valkey-server.service")
    try:
        answers = asker.send([[asker.call(str(uuid.uuid4()), QUESTION, "gpt")]])
    finally:
        asker.on(memory, "systemctl start valkey-server.service")

    assert answers[0][0][2]["reason"] == "memory_away"
    assert cloud.count() == before
