"""Proof of the engine SGLang: who may ask it, what it answers, and what of it callers never reach."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import pytest
from testinfra.host import Host as Machine

from freehold.layout.types import Host, Layout, ServicePlacement
from freehold.run.proof.engine import Engine

# What SGLang 0.5.23 has beside OpenAI's API (sglang/srt/entrypoints/http_server.py): what changes it, empties it, lists or
# leaks, most of it open to whoever has its key, and by GET as well as by POST.
_NOT_FOR_CALLERS = (
    *(
        "/",
        "/ready",
        "/ping",
        "/health_generate",
        "/model_info",
        "/get_model_info",
        "/server_info",
        "/get_server_info",
    ),
    *(
        "/generate",
        "/encode",
        "/classify",
        "/v1/classify",
        "/invocations",
        "/vertex_generate",
        "/v1/decisions",
    ),
    *(
        "/tokenize",
        "/detokenize",
        "/v1/tokenize",
        "/v1/detokenize",
        "/parse_function_call",
        "/separate_reasoning",
    ),
    *("/v1/score", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens", "/v1/audio/transcriptions"),
    *("/api/chat", "/api/generate", "/api/tags", "/api/show", "/v1/models/tiny"),
    *(
        "/flush_cache",
        "/abort_request",
        "/pause_generation",
        "/continue_generation",
        "/slow_down",
        "/freeze_gc",
    ),
    *("/start_profile", "/stop_profile", "/set_trace_level", "/configure_logging", "/set_internal_state"),
    *("/start_expert_distribution_record", "/dump_expert_distribution_record", "/dumper/configure"),
    *("/update_weights_from_disk", "/update_weights_from_tensor", "/update_weights_from_distributed"),
    *(
        "/update_weights_from_ipc",
        "/begin_weight_update",
        "/init_weights_update_group",
        "/get_weights_by_name",
    ),
    *("/send_weights_to_remote_instance", "/update_weight_version", "/weights_checker"),
    *(
        "/release_memory_occupation",
        "/resume_memory_occupation",
        "/hicache/storage-backend",
        "/pd_role_switch",
    ),
    *("/load_lora_adapter", "/unload_lora_adapter", "/add_external_corpus", "/list_external_corpora"),
    *("/open_session", "/close_session", "/docs", "/redoc", "/openapi.json"),
    *(
        "/v1/models/../../server_info",
        "/v1//chat/completions/../../../flush_cache",
        "/metrics/../server_info",
    ),
)

_LAB_ANSWER = "Hello from the tiny stand-in model of this lab."


@pytest.fixture
def engine(host: Machine, this_host: Host) -> Engine:
    return Engine(host, str(this_host.address), port=30000, own_port=30001)


@pytest.fixture
def name(service: ServicePlacement) -> str:
    return str(service.variables["sglang_served_name"])


def test_runs_as_its_own_user_and_never_had_to_be_restarted(host: Machine) -> None:
    for unit, user in (("sglang.service", "sglang"), ("engine-proxy.service", "engine-proxy")):
        assert host.service(unit).is_running
        assert host.service(unit).is_enabled
        assert host.check_output(f"systemctl show -P User {unit}") == user
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
    if service.variables["sglang_embedding"]:
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


def test_its_metrics_have_a_key_of_their_own(
    engine: Engine, service: ServicePlacement, secret: Callable[[str], str]
) -> None:
    key = secret(f"{service.name}.metrics_key")
    answer = engine.ask("/metrics", key=key)

    assert answer["status"] == 200
    assert "sglang:generation_tokens_total" in answer["body"]
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
    assert host.socket("tcp://127.0.0.1:30001").is_listening
    assert open_to_others == {f"{this_host.address}:{port}" for port in service.ports.values()}


def test_the_key_lies_where_root_alone_reads_it_and_sglang_never_sees_it(
    host: Machine, service: ServicePlacement, secret: Callable[[str], str]
) -> None:
    key = secret(f"{service.name}.api_key")
    file = host.file("/etc/engine-proxy/secrets.env")

    assert (file.user, file.group, file.mode) == ("root", "root", 0o400)
    for path in (
        "/etc/sglang/config.yaml",
        "/etc/systemd/system/sglang.service",
        "/etc/engine-proxy/Caddyfile",
    ):
        assert key not in host.file(path).content_string, path
    assert key not in host.check_output("ps -eo args")
    # It writes all its options into its log.
    log = host.check_output("journalctl -u sglang --no-pager")
    assert "server_args" in log
    assert key not in log


def test_tells_nobody_and_fetches_nothing(host: Machine) -> None:
    process = host.check_output("systemctl show -P MainPID sglang.service")
    settings = host.check_output("tr '\\0' '\\n' < /proc/%s/environ", process).splitlines()
    arguments = host.check_output("tr '\\0' ' ' < /proc/%s/cmdline", process)

    assert {"HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1", "DO_NOT_TRACK=1"} <= set(settings)
    assert "--allowed-media-domains none.invalid" in arguments


def test_nothing_of_a_question_is_kept(host: Machine, engine: Engine, name: str) -> None:
    engine.ask("/v1/completions", {"model": name, "prompt": "kept-nowhere-7352", "max_tokens": 4})
    kept = host.run("grep -rlI kept-nowhere-7352 /var/lib/sglang /var/log /tmp /var/tmp /run/engine-proxy")

    assert kept.stdout == ""
    assert "kept-nowhere-7352" not in host.check_output("journalctl -u sglang -u engine-proxy --no-pager")


def test_loads_safetensors_alone_and_runs_no_code_of_a_language_model(
    host: Machine, service: ServicePlacement
) -> None:
    options = host.file("/etc/sglang/config.yaml").content_string.splitlines()
    where = service.variables.get("sglang_path") or "/var/lib/sglang/models/"

    assert 'load-format: "safetensors"' in options
    assert [line for line in options if line.startswith(f'model-path: "{where}')]
    assert not [line for line in options if "trust" in line]
    assert "trust-remote-code" not in host.check_output("ps -eo args")


def test_cannot_change_the_weights_of_its_node(host: Machine, service: ServicePlacement) -> None:
    if path := service.variables.get("sglang_path"):
        assert host.run("touch %s/.written", path).rc != 0, "even root may not write there"
        assert not host.file(f"{path}/.written").exists


def test_gpus_exchange_data_as_the_probe_found(
    host: Machine, service: ServicePlacement, record_property: Callable[[str, object], None]
) -> None:
    given = service.variables
    probed = given["sglang_tensor_parallel"] > 1 and given.get("sglang_nccl_p2p", "auto") == "auto"
    assert ("probe.py" in host.file("/etc/systemd/system/sglang.service").content_string) == probed
    if probed:
        found = json.loads(host.file("/var/lib/sglang/p2p.json").content_string)
        record_property("exchange between GPUs", f"{'direct' if found['p2p'] else 'no'}: {found['reason']}")
        process = host.check_output("systemctl show -P MainPID sglang.service")
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


def test_opens_its_gpus(host: Machine, this_host: Host) -> None:
    for device in this_host.devices:
        assert host.run("runuser -u sglang -- test -r %s -a -w %s", device.path, device.path).rc == 0, (
            device.path
        )


@pytest.mark.parametrize(("unit", "exposure"), [("sglang.service", 30), ("engine-proxy.service", 15)])
def test_the_units_are_hardened(host: Machine, unit: str, exposure: int) -> None:
    result = host.run(f"systemd-analyze security --no-pager --threshold={exposure} {unit}")

    assert result.rc == 0, result.stdout
