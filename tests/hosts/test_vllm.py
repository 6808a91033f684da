"""Proof of the inference engine: who may ask it, what it answers, and which GPU it sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import pytest
from testinfra.host import Host as Machine

from freehold.layout.types import Host, Layout, ServicePlacement
from freehold.run.proof.engine import Engine

# What vLLM 0.32 has beside answering (its routers below vllm/entrypoints): what changes it, lists or leaks, whether or not
# with the key, and whether or not its options switch it on.
_NOT_FOR_CALLERS = (
    *(
        "/version",
        "/load",
        "/ping",
        "/ready",
        "/server_info",
        "/get_world_size",
        "/weight_info",
        "/tokenizer_info",
    ),
    *("/tokenize", "/detokenize", "/v1/chat/completions/render", "/v1/completions/render"),
    *(
        "/invocations",
        "/inference/v1/generate",
        "/v1/responses",
        "/v1/messages",
        "/v1/chat/completions/batch",
    ),
    *(
        "/classify",
        "/score",
        "/v1/score",
        "/pooling",
        "/generative_scoring",
        "/rerank",
        "/v2/rerank",
        "/v2/embed",
    ),
    *("/pause", "/resume", "/is_paused", "/sleep", "/wake_up", "/is_sleeping", "/abort_requests"),
    *("/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache", "/release_kv_cache_memory"),
    *("/collective_rpc", "/start_profile", "/stop_profile", "/scale_elastic_ep", "/fault_tolerance/apply"),
    *("/update_weights", "/start_weight_update", "/finish_weight_update", "/init_weight_transfer_engine"),
    *("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/audio/transcriptions", "/metrics/../version"),
    *("/docs", "/redoc", "/openapi.json", "/v1/models/../../version", "/v1//chat/completions/../../../load"),
)

_LAB_ANSWER = "Hello from the tiny stand-in model of this lab."


@pytest.fixture
def unit(service: ServicePlacement) -> str:
    """The unit that computes."""
    return "vllm-ray.service" if service.variables.get("vllm_ray") == "worker" else "vllm.service"


@pytest.fixture
def engine(host: Machine, this_host: Host, service: ServicePlacement) -> Engine:
    if service.variables.get("vllm_ray") == "worker":
        pytest.skip("this host lends its GPUs to the head of a cluster, which is asked in its place")
    return Engine(host, str(this_host.address), port=8000, own_port=8001)


@pytest.fixture
def name(service: ServicePlacement) -> str:
    return str(service.variables.get("vllm_served_name", "qwen3-8b"))


def test_runs_as_its_own_user_and_never_had_to_be_restarted(host: Machine, unit: str) -> None:
    assert host.service(unit).is_running
    assert host.service(unit).is_enabled
    assert host.check_output(f"systemctl show -P User {unit}") == "vllm"
    assert host.check_output(f"systemctl show -P NRestarts {unit}") == "0"


def test_callers_without_the_key_are_refused(engine: Engine, name: str) -> None:
    question = {"model": name, "prompt": "Hello", "max_tokens": 1}

    assert engine.ask("/v1/models", key="")["status"] == 401
    assert engine.ask("/v1/models", key="sk-wrong")["status"] == 401
    assert engine.ask("/v1/completions", question, key="")["status"] == 401


def test_lists_the_language_model(engine: Engine, name: str) -> None:
    answer = engine.ask("/v1/models")

    assert answer["status"] == 200
    assert [model["id"] for model in answer["body"]["data"]] == [name]


def test_answers(engine: Engine, name: str, service: ServicePlacement) -> None:
    if service.variables.get("vllm_runner") == "pooling":
        answer = engine.ask("/v1/embeddings", {"model": name, "input": "Who are you?"})
        assert answer["status"] == 200
        assert any(answer["body"]["data"][0]["embedding"])
        return
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
    chats = service.variables.get("vllm_runner") != "pooling"
    wanted = 200 if chats and service.variables.get("vllm_tool_call_parser", "hermes") else 400

    status = engine.ask("/v1/chat/completions", question)["status"]
    assert status == wanted if chats else status >= 400


def test_its_metrics_have_a_key_of_their_own(
    engine: Engine, service: ServicePlacement, secret: Callable[[str], str]
) -> None:
    key = secret(f"{service.name}.metrics_key")
    answer = engine.ask("/metrics", key=key)

    assert answer["status"] == 200
    assert "vllm:generation_tokens_total" in answer["body"]
    assert engine.ask("/metrics", key="")["status"] == 401
    assert engine.ask("/v1/models", key=key)["status"] == 401


def test_says_whether_it_is_well_without_a_key(engine: Engine) -> None:
    assert engine.ask("/health", key="")["status"] == 200


def test_callers_reach_nothing_that_is_not_on_the_list(engine: Engine) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        body: dict[str, Any] | None = None if method == "GET" else {"model": "any"}
        answers = engine.ask_all([(method, path) for path in _NOT_FOR_CALLERS], body)
        statuses = zip(_NOT_FOR_CALLERS, answers, strict=True)
        assert [(path, answer["status"]) for path, answer in statuses if answer["status"] != 404] == []


def test_only_the_proxy_listens_outside(
    host: Machine, this_host: Host, service: ServicePlacement, open_to_others: set[str]
) -> None:
    own = {f"{this_host.address}:{port}" for port in service.ports.values()}
    if service.variables.get("vllm_ray", "none") != "none":
        # Ray listens at ports of its own, which the firewall opens to the other hosts of the cluster alone.
        assert open_to_others >= own
        return
    assert host.socket("tcp://127.0.0.1:8001").is_listening
    assert open_to_others == own


def test_the_key_lies_where_root_alone_reads_it(
    host: Machine, service: ServicePlacement, secret: Callable[[str], str]
) -> None:
    key = secret(f"{service.name}.api_key")

    for path in ("/etc/vllm/secrets.env", "/etc/vllm/ray.env"):
        file = host.file(path)
        assert (file.user, file.group, file.mode) == ("root", "root", 0o400), path
    for path in ("/etc/vllm/config.yaml", "/etc/systemd/system/vllm.service", "/etc/engine-proxy/Caddyfile"):
        assert key not in host.file(path).content_string, path
    proxy = host.file("/etc/engine-proxy/secrets.env")
    assert (proxy.user, proxy.group, proxy.mode) == ("root", "root", 0o400)
    assert key not in host.check_output("ps -eo args")


def test_tells_nobody_and_fetches_nothing(host: Machine, unit: str) -> None:
    process = host.check_output(f"systemctl show -P MainPID {unit}")
    settings = host.check_output("tr '\\0' '\\n' < /proc/%s/environ", process).splitlines()

    assert {"VLLM_NO_USAGE_STATS=1", "DO_NOT_TRACK=1", "HF_HUB_OFFLINE=1"} <= set(settings)
    assert "VLLM_SERVER_DEV_MODE=1" not in settings


def test_loads_safetensors_alone_and_runs_no_code_of_a_language_model(
    host: Machine, service: ServicePlacement
) -> None:
    options = host.file("/etc/vllm/config.yaml").content_string.splitlines()
    processes = host.check_output("ps -eo args")
    where = service.variables.get("vllm_path") or "/var/lib/vllm/models/"

    assert 'load-format: "safetensors"' in options
    assert [line for line in options if line.startswith(f'model: "{where}')]
    assert "trust-remote-code" not in processes
    assert "trust_remote_code" not in processes
    assert not [line for line in options if "trust" in line]


def test_cannot_change_the_weights_of_its_node(host: Machine, service: ServicePlacement) -> None:
    if path := service.variables.get("vllm_path"):
        assert host.run("touch %s/.written", path).rc != 0, "even root may not write there"
        assert not host.file(f"{path}/.written").exists


def test_gpus_exchange_data_as_the_probe_found(
    host: Machine, service: ServicePlacement, unit: str, record_property: Callable[[str, object], None]
) -> None:
    given = service.variables
    several = given.get("vllm_tensor_parallel", 1) > 1 and given.get("vllm_device", "cuda") == "cuda"
    probed = several and given.get("vllm_nccl_p2p", "auto") == "auto"
    assert ("probe.py" in host.file(f"/etc/systemd/system/{unit}").content_string) == probed
    if probed:
        found = json.loads(host.file("/var/lib/vllm/p2p.json").content_string)
        record_property("exchange between GPUs", f"{'direct' if found['p2p'] else 'no'}: {found['reason']}")
        process = host.check_output(f"systemctl show -P MainPID {unit}")
        settings = host.check_output("tr '\\0' '\\n' < /proc/%s/environ", process).splitlines()
        assert found["final"], found["reason"]
        assert ("NCCL_P2P_DISABLE=1" in settings) == (not found["p2p"]), found["reason"]


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


@pytest.mark.parametrize(
    ("name_of_unit", "exposure"),
    [("vllm.service", 30), ("vllm-ray.service", 30), ("engine-proxy.service", 15)],
)
def test_the_units_are_hardened(host: Machine, name_of_unit: str, exposure: int) -> None:
    result = host.run(f"systemd-analyze security --no-pager --threshold={exposure} {name_of_unit}")

    assert result.rc == 0, result.stdout
