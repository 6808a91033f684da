"""Proof of the inference engine: who may ask it, what it answers, and which GPU it sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import pytest
from testinfra.host import Host as Machine

from freehold.layout.types import Host, Layout, ServicePlacement

# What vLLM would answer to whoever reaches its port, whether or not with the key.
_NOT_FOR_CALLERS = (
    "/version",
    "/load",
    "/ping",
    "/server_info",
    "/invocations",
    "/tokenize",
    "/detokenize",
    "/pause",
    "/sleep",
    "/collective_rpc",
    "/update_weights",
    "/v1/load_lora_adapter",
    "/docs",
    "/redoc",
    "/openapi.json",
)

# Runs on the engine's own host, where root can read the key: so it is in no command line.
_ASK = """
import http.client, json, sys
ask = json.loads(sys.argv[1])
key = ask["key"]
if key is None:
    key = open("/etc/vllm/secrets.env").read().split("VLLM_API_KEY=")[1].strip()
connection = http.client.HTTPConnection(ask["address"], ask["port"], timeout=120)
headers = {"Content-Type": "application/json"} | ({"Authorization": "Bearer " + key} if key else {})
connection.request(ask["method"], ask["path"], json.dumps(ask["body"]) if ask["body"] else None, headers)
answer = connection.getresponse()
text = answer.read().decode("utf-8", "replace")
print(json.dumps({"status": answer.status, "body": json.loads(text) if text[:1] in "[{" and text else text}))
"""

_LAB_ANSWER = "Hello from the tiny stand-in model of this lab."


@dataclass
class Engine:
    """Asks the engine."""

    machine: Machine
    address: str

    def ask(
        self, path: str, body: dict[str, Any] | None = None, *, key: str | None = None, method: str = ""
    ) -> dict[str, Any]:
        """Status and body of an answer; the right key is shown unless another is given."""
        question = {"address": self.address, "port": 8000, "path": path, "body": body, "key": key}
        question["method"] = method or ("POST" if body else "GET")
        answer: dict[str, Any] = json.loads(
            self.machine.check_output("python3 -c %s %s", _ASK, json.dumps(question))
        )
        return answer


@pytest.fixture
def engine(host: Machine, this_host: Host) -> Engine:
    return Engine(host, str(this_host.address))


@pytest.fixture
def name(service: ServicePlacement) -> str:
    return str(service.variables.get("vllm_served_name", "qwen3-8b"))


def test_runs_as_its_own_user_and_never_had_to_be_restarted(host: Machine) -> None:
    unit = host.service("vllm.service")

    assert unit.is_running
    assert unit.is_enabled
    assert host.check_output("systemctl show -P User vllm.service") == "vllm"
    assert host.check_output("systemctl show -P NRestarts vllm.service") == "0"


def test_callers_without_the_key_are_refused(engine: Engine, name: str) -> None:
    question = {"model": name, "prompt": "Hello", "max_tokens": 1}

    assert engine.ask("/v1/models", key="")["status"] == 401
    assert engine.ask("/v1/models", key="sk-wrong")["status"] == 401
    assert engine.ask("/v1/completions", question, key="")["status"] == 401


def test_lists_the_language_model(engine: Engine, name: str) -> None:
    answer = engine.ask("/v1/models")

    assert answer["status"] == 200
    assert [model["id"] for model in answer["body"]["data"]] == [name]


def test_answers(engine: Engine, name: str) -> None:
    question = {"model": name, "messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 64}
    answer = engine.ask("/v1/chat/completions", question)

    assert answer["status"] == 200
    message = answer["body"]["choices"][0]["message"]
    text = message.get("content") or message.get("reasoning") or message.get("reasoning_content") or ""
    assert answer["body"]["usage"]["completion_tokens"] > 0
    assert text.strip()
    if name == "tiny":
        assert text.startswith(_LAB_ANSWER)


def test_takes_questions_that_offer_tools(engine: Engine, name: str, service: ServicePlacement) -> None:
    function = {"name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}}
    question = {
        "model": name,
        "messages": [{"role": "user", "content": "Who are you?"}],
        "tools": [{"type": "function", "function": function}],
        "max_tokens": 8,
    }
    wanted = 200 if service.variables.get("vllm_tool_call_parser", "hermes") else 400

    assert engine.ask("/v1/chat/completions", question)["status"] == wanted


def test_its_metrics_have_a_key_of_their_own(engine: Engine, secret: Callable[[str], str]) -> None:
    answer = engine.ask("/metrics", key=secret("vllm.metrics_key"))

    assert answer["status"] == 200
    assert "vllm:generation_tokens_total" in answer["body"]
    assert engine.ask("/metrics", key="")["status"] == 401
    assert engine.ask("/v1/models", key=secret("vllm.metrics_key"))["status"] == 401


def test_says_whether_it_is_well_without_a_key(engine: Engine) -> None:
    assert engine.ask("/health", key="")["status"] == 200


def test_callers_reach_nothing_that_is_not_on_the_list(engine: Engine) -> None:
    for path in _NOT_FOR_CALLERS:
        for method in ("GET", "POST"):
            assert engine.ask(path, {} if method == "POST" else None, method=method)["status"] == 404, path
    for path in ("/v1/models/../../version", "/v1//chat/completions/../../../load", "/metrics/../version"):
        assert engine.ask(path)["status"] == 404, path


def test_only_the_proxy_listens_outside(host: Machine, this_host: Host, service: ServicePlacement) -> None:
    listeners = {line.split()[3] for line in host.check_output("ss -Hltn").splitlines()}
    outside = {
        one
        for one in listeners
        if not one.startswith(("127.", "[::1]", "[fe80")) and not one.endswith((":22", ":9100"))
    }

    assert "127.0.0.1:8001" in listeners
    assert outside == {f"{this_host.address}:{port}" for port in service.ports.values()}


def test_the_key_lies_where_root_alone_reads_it(host: Machine, secret: Callable[[str], str]) -> None:
    key = secret("vllm.api_key")
    file = host.file("/etc/vllm/secrets.env")

    assert (file.user, file.group, file.mode) == ("root", "root", 0o400)
    for path in ("/etc/vllm/config.yaml", "/etc/systemd/system/vllm.service", "/etc/engine-proxy/Caddyfile"):
        assert key not in host.file(path).content_string, path
    proxy = host.file("/etc/engine-proxy/secrets.env")
    assert (proxy.user, proxy.group, proxy.mode) == ("root", "root", 0o400)
    assert key not in host.check_output("ps -eo args")


def test_tells_nobody_and_fetches_nothing(host: Machine) -> None:
    process = host.check_output("systemctl show -P MainPID vllm.service")
    settings = host.check_output("tr '\\0' '\\n' < /proc/%s/environ", process).splitlines()

    assert {"VLLM_NO_USAGE_STATS=1", "DO_NOT_TRACK=1", "HF_HUB_OFFLINE=1"} <= set(settings)
    assert "VLLM_SERVER_DEV_MODE=1" not in settings


def test_only_its_clients_reach_it(
    this_host: Host,
    layout: Layout,
    service: ServicePlacement,
    reaching: Callable[[IPv4Address, int], set[str]],
) -> None:
    networks = [n for rule in this_host.rules if rule.port == service.ports["http"] for n in rule.sources]
    allowed = {host.name for host in layout.hosts if any(host.address in network for network in networks)}
    assert reaching(service.address, service.ports["http"]) - {this_host.name} == allowed - {this_host.name}


def test_sees_its_own_gpus_and_no_other_host_does(
    this_host: Host, layout: Layout, machine: Callable[[str], Machine]
) -> None:
    for each in layout.hosts:
        listed = (
            machine(each.name).run("stat -c '%n %G %a %F' /dev/nvidia* /dev/dri/renderD* /dev/kfd").stdout
        )
        found = {
            line.removesuffix(" character special file")
            for line in listed.splitlines()
            if line.endswith(" character special file")
        }
        wanted = {f"{device.path} gpu {device.mode.lstrip('0')}" for device in each.devices}
        assert found == wanted, each.name


def test_computes_where_the_stack_says(
    host: Machine, service: ServicePlacement, engine: Engine, name: str
) -> None:
    if service.variables.get("vllm_device", "cuda") == "cpu":
        assert host.check_output("systemctl show -P PrivateDevices vllm.service") == "yes"
        return
    engine.ask("/v1/completions", {"model": name, "prompt": "Hello", "max_tokens": 8})
    used = host.check_output("nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits")

    assert used
    assert all(int(line) > 1000 for line in used.splitlines()), used


@pytest.mark.parametrize(("unit", "exposure"), [("vllm.service", 30), ("engine-proxy.service", 15)])
def test_the_units_are_hardened(host: Machine, unit: str, exposure: int) -> None:
    result = host.run(f"systemd-analyze security --no-pager --threshold={exposure} {unit}")

    assert result.rc == 0, result.stdout
