"""Proof of the engine Ollama: who may ask it what, that it holds the language models that were pinned, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import pytest
from testinfra.host import Host as Machine

from freehold.layout.types import Host, Layout, ServicePlacement
from freehold.run.proof.engine import Engine

# What changes the engine, or tells how it is set up, and what Ollama has beside answering (server/routes.go).
_NOT_FOR_CALLERS = (
    ("POST", "/api/create"),
    ("POST", "/api/push"),
    ("POST", "/api/pull"),
    ("POST", "/api/copy"),
    ("DELETE", "/api/delete"),
    ("POST", "/api/blobs/sha256:" + "0" * 64),
    ("HEAD", "/api/blobs/sha256:" + "0" * 64),
    ("POST", "/api/show"),
    ("GET", "/api/ps"),
    ("POST", "/api/me"),
    ("POST", "/api/signout"),
    ("POST", "/api/embeddings"),
    ("GET", "/api/experimental/aliases"),
    ("POST", "/api/experimental/aliases"),
    ("POST", "/api/experimental/web_search"),
    ("POST", "/api/experimental/web_fetch"),
    ("POST", "/v1/images/generations"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/audio/transcriptions"),
    ("GET", "/v1/models/tiny-chat"),
    ("POST", "/api/signin"),
    ("POST", "/api/tokenize"),
    ("POST", "/api/detokenize"),
    ("GET", "/debug/pprof"),
    ("GET", "/metrics"),
    ("GET", "/v1/models/../../api/ps"),
    ("POST", "/api/chat/../create"),
    ("POST", "/api/tags"),
    ("DELETE", "/api/tags"),
    ("GET", "/"),
)


@pytest.fixture
def engine(host: Machine, this_host: Host) -> Engine:
    return Engine(host, str(this_host.address), port=11435, own_port=11434)


@pytest.fixture
def wanted(host: Machine, service: ServicePlacement) -> list[dict[str, Any]]:
    """The language models that the stack names, with the names that Ollama lists and what they were pinned to."""
    learned = host.file("/var/lib/freehold/ollama-digests.json")
    digests = json.loads(learned.content_string) if learned.exists else {}
    found = {}
    for model in service.variables.get("ollama_served", []):
        file = {} if model["ollama"] else model["files"][0]
        found[model["served"]] = {
            "kind": model["kind"],
            "digest": model["digest"],
            "sha256": file.get("sha256"),
        }
    found |= {model["name"]: model for model in service.variables.get("ollama_models", [])}
    models = []
    for name, model in found.items():
        listed = name if ":" in name else f"{name}:latest"
        pinned = model.get("digest") or (None if model.get("sha256") else digests[listed])
        models.append(model | {"name": name, "listed": listed, "digest": pinned})
    return models


def of_kind(wanted: list[dict[str, Any]], kind: str) -> list[str]:
    return [model["name"] for model in wanted if model.get("kind", "chat") == kind]


def test_runs_as_its_own_user_and_never_had_to_be_restarted(host: Machine) -> None:
    for unit, user in (("ollama.service", "ollama"), ("engine-proxy.service", "engine-proxy")):
        assert host.service(unit).is_running
        assert host.service(unit).is_enabled
        assert host.check_output(f"systemctl show -P User {unit}") == user
        assert host.check_output(f"systemctl show -P NRestarts {unit}") == "0"


def test_is_the_version_of_the_lock(engine: Engine, service: ServicePlacement) -> None:
    answer = engine.ask("/api/version", inside=True)

    assert answer["body"]["version"] == service.variables["ollama_artifact"]["version"]


def test_callers_without_the_key_are_refused(engine: Engine) -> None:
    for path, body in (
        ("/v1/models", None),
        ("/api/tags", None),
        ("/api/chat", {"model": "x"}),
        ("/v1/chat/completions", {"model": "x"}),
        ("/v1/embeddings", {"model": "x"}),
    ):
        assert engine.ask(path, body, key="")["status"] == 401, path
        assert engine.ask(path, body, key="sk-wrong")["status"] == 401, path


def test_says_whether_it_is_well_without_a_key(engine: Engine) -> None:
    assert engine.ask("/health", key="")["status"] == 200


def test_callers_reach_nothing_that_is_not_on_the_list(engine: Engine) -> None:
    for body in (None, {"model": "any"}):
        asked = [each for each in _NOT_FOR_CALLERS if (each[0] == "POST") == (body is not None)]
        answers = zip(asked, engine.ask_all(asked, body), strict=True)
        assert [(each, answer["status"]) for each, answer in answers if answer["status"] != 404] == []


def test_holds_the_language_models_that_were_pinned(engine: Engine, wanted: list[dict[str, Any]]) -> None:
    listed = {
        model["name"]: model["digest"] for model in engine.ask("/api/tags", inside=True)["body"]["models"]
    }

    assert {model["listed"] for model in wanted} <= set(listed)
    for model in wanted:
        if digest := model.get("digest"):
            assert listed[model["listed"]] == digest
        else:
            shown = engine.ask("/api/show", {"model": model["listed"]}, inside=True)["body"]["modelfile"]
            assert f"sha256-{model['sha256']}" in shown


def test_the_files_of_language_models_are_what_their_names_say(host: Machine) -> None:
    folder = "/var/lib/ollama/models/blobs"
    sums = host.check_output(f"find {folder} -type f -name 'sha256-*' -size -1G -exec sha256sum {{}} +")

    for line in sums.splitlines():
        digest, path = line.split(maxsplit=1)
        assert path == f"{folder}/sha256-{digest}"


def test_callers_see_the_language_models(engine: Engine, wanted: list[dict[str, Any]]) -> None:
    answer = engine.ask("/v1/models")

    assert answer["status"] == 200
    assert {model["listed"] for model in wanted} <= {model["id"] for model in answer["body"]["data"]}


def test_answers(engine: Engine, wanted: list[dict[str, Any]]) -> None:
    for name in of_kind(wanted, "chat"):
        messages = [{"role": "user", "content": "Who are you?"}]
        answer = engine.ask("/v1/chat/completions", {"model": name, "messages": messages, "max_tokens": 64})
        assert answer["status"] == 200, answer
        assert answer["body"]["choices"][0]["message"]["content"].strip()
        assert answer["body"]["usage"]["completion_tokens"] > 0
        asked = {"model": name, "messages": messages, "stream": False, "options": {"num_predict": 16}}
        answer = engine.ask("/api/chat", asked)
        assert answer["status"] == 200, answer
        assert answer["body"]["done"]
        assert answer["body"]["message"]["content"].strip()


def test_tells_meanings_apart(engine: Engine, wanted: list[dict[str, Any]]) -> None:
    for name in of_kind(wanted, "embedding"):
        texts = ["The tenant pays the rent.", "Bees make honey."]
        answer = engine.ask("/v1/embeddings", {"model": name, "input": texts})
        assert answer["status"] == 200, answer
        one, other = (entry["embedding"] for entry in answer["body"]["data"])
        assert len(one) == len(other) > 1
        assert one != other


def test_computes_where_the_stack_says(
    host: Machine, service: ServicePlacement, engine: Engine, wanted: list[dict[str, Any]]
) -> None:
    cpu = service.variables.get("ollama_device", "cuda") == "cpu"
    assert host.check_output("systemctl show -P PrivateDevices ollama.service") == ("yes" if cpu else "no")
    for name in of_kind(wanted, "chat"):
        engine.ask(
            "/api/generate",
            {"model": name, "prompt": "Hello", "stream": False, "options": {"num_predict": 1}},
        )
        loaded = engine.ask("/api/ps", inside=True)["body"]["models"]
        (found,) = (
            model for model in loaded if model["name"].removesuffix(":latest") == name.removesuffix(":latest")
        )
        assert found["size_vram"] == (0 if cpu else found["size"]), "it computes elsewhere than it should"


def test_only_the_proxy_listens_outside(
    host: Machine, this_host: Host, service: ServicePlacement, open_to_others: set[str]
) -> None:
    assert host.socket("tcp://127.0.0.1:11434").is_listening
    assert open_to_others == {f"{this_host.address}:{port}" for port in service.ports.values()}


def test_only_its_clients_reach_it(
    this_host: Host,
    layout: Layout,
    service: ServicePlacement,
    reaching: Callable[[IPv4Address, int], set[str]],
) -> None:
    networks = [n for rule in this_host.rules if rule.port == service.ports["http"] for n in rule.sources]
    allowed = {host.name for host in layout.hosts if any(host.address in network for network in networks)}

    assert reaching(service.address, service.ports["http"]) - {this_host.name} == allowed - {this_host.name}
    assert reaching(service.address, 11434) == set()


def test_knows_no_cloud_and_logs_no_requests(host: Machine, engine: Engine) -> None:
    process = host.check_output("systemctl show -P MainPID ollama.service")
    settings = host.check_output("tr '\\0' '\\n' < /proc/%s/environ", process).splitlines()

    assert {"OLLAMA_NO_CLOUD=1", "OLLAMA_DEBUG_LOG_REQUESTS=0", "OLLAMA_REMOTES=none.invalid"} <= set(
        settings
    )
    assert "OLLAMA_HOST=127.0.0.1:11434" in settings
    asked = {
        "model": "gpt-oss:120b-cloud",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": False,
    }
    assert engine.ask("/api/chat", asked)["status"] >= 400


def test_nothing_of_a_question_is_kept(host: Machine, engine: Engine, wanted: list[dict[str, Any]]) -> None:
    for name in of_kind(wanted, "chat"):
        engine.ask("/api/generate", {"model": name, "prompt": "kept-nowhere-7351", "stream": False})
    kept = host.run("grep -rl kept-nowhere-7351 /var/lib/ollama /var/log /tmp /var/tmp /run/engine-proxy")

    assert kept.stdout == ""
    assert "kept-nowhere-7351" not in host.check_output("journalctl -u ollama -u engine-proxy --no-pager")


def test_the_key_lies_where_root_alone_reads_it(
    host: Machine, service: ServicePlacement, secret: Callable[[str], str]
) -> None:
    key = secret(f"{service.name}.api_key")
    file = host.file("/etc/engine-proxy/secrets.env")

    assert (file.user, file.group, file.mode) == ("root", "root", 0o400)
    for path in ("/etc/engine-proxy/Caddyfile", "/etc/systemd/system/ollama.service"):
        assert key not in host.file(path).content_string, path
    assert key not in host.check_output("ps -eo args")


@pytest.mark.parametrize(("unit", "exposure"), [("ollama.service", 20), ("engine-proxy.service", 15)])
def test_the_units_are_hardened(host: Machine, unit: str, exposure: int) -> None:
    result = host.run(f"systemd-analyze security --no-pager --threshold={exposure} {unit}")

    assert result.rc == 0, result.stdout
