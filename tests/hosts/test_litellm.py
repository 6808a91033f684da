"""Proof of the router: whom it knows, what it lists, and answers that came from the engines behind it."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host as Machine

from freehold.layout import variables
from freehold.layout.types import Host, Layout, ServicePlacement
from freehold.run import route
from freehold.run.proof import child

# Runs on the router's own host. Keys come through standard input, so they are in no command line.
_ASK = """\
import http.client, json, sys
for line in sys.stdin:
    ask = json.loads(line)
    connection = http.client.HTTPConnection(ask["address"], ask["port"], timeout=300)
    headers = {"Content-Type": "application/json"} | ask["headers"]
    if ask["key"]:
        headers["Authorization"] = "Bearer " + ask["key"]
    connection.request(ask["method"], ask["path"], json.dumps(ask["body"]) if ask["body"] else None, headers)
    answer = connection.getresponse()
    text = answer.read().decode("utf-8", "replace")
    print(json.dumps([answer.status, json.loads(text) if text[:1] in ("{", "[") else text]))
"""

_CLOSED = [
    "/ui/",
    "/docs",
    "/openapi.json",
    "/config/yaml",
    "/routes",
    "/test",
    "/health",
    "/health/readiness",
    "/key/generate",
    "/model/new",
    "/public/model_hub",
    "/sso/key/generate",
    "/v1/responses",
    "/v1/files",
    "/v1/messages",
    "/mcp/",
    "/",
]
"""Pages of LiteLLM, some of which answer without a key."""

SENSITIVE = {
    "bank-account": "Bitte zahlen Sie auf DE89 3704 0044 0532 0130 00.",
    "health": "Die Patientin hat Brustkrebs und bekommt eine Chemotherapie.",
    "legal": "This memo is privileged: attorney-client communication, work product.",
    "credential": "export AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
"""Texts by a category that each is of, of detectors that read numbers, lists of terms, and shapes."""

_LAB_ANSWER = "Hello from the tiny stand-in model of this lab."


@dataclass
class Question:
    """What is asked, and with which key."""

    path: str
    body: dict[str, Any] | None = None
    key: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Router:
    """Asks the router, from its own host."""

    name: str
    address: str
    port: int = 4000

    def ask(self, *questions: Question) -> list[tuple[int, Any]]:
        """Status and body of each answer."""
        lines = "".join(
            json.dumps(
                {
                    "address": self.address,
                    "port": self.port,
                    "headers": question.headers,
                    "method": "POST" if question.body else "GET",
                    "path": question.path,
                    "body": question.body,
                    "key": question.key,
                }
            )
            + "\n"
            for question in questions
        )
        command = ["ssh", "-F", child.current().ssh_config, self.name, f"python3 -c '{_ASK}'"]
        done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, timeout=600)
        return [(status, body) for status, body in map(json.loads, done.stdout.splitlines())]


@pytest.fixture
def router(this_host: Host) -> Router:
    return Router(this_host.name, str(this_host.address))


@pytest.fixture
def keys(service: ServicePlacement, secret: Callable[[str], str]) -> dict[str, str]:
    """Keys by application."""
    return {
        application["name"]: secret(next(iter(variables.looked_up(application["key"]))))
        for application in service.variables["litellm_applications"]
    }


@pytest.fixture
def models(service: ServicePlacement) -> dict[str, str]:
    """Kinds of the language models that the engines serve, by name."""
    return {
        model["name"]: model.get("kind", "chat")
        for engine in service.variables["litellm_engines"]
        for model in engine["models"]
    }


@pytest.fixture
def here(service: ServicePlacement, layout: Layout) -> set[str]:
    """Names of those language models whose engine is there: ``--only`` leaves engines out, which may not exist yet."""
    present = {placed.name for placed in layout.services}
    engines = [engine for engine in service.variables["litellm_engines"] if engine["name"] in present]
    return {model["name"] for engine in engines for model in engine["models"]}


def test_runs_as_its_own_user_and_never_had_to_be_restarted(host: Machine) -> None:
    unit = host.service("litellm.service")

    assert unit.is_running
    assert unit.is_enabled
    assert host.check_output("systemctl show -P User litellm.service") == "litellm"
    assert host.check_output("systemctl show -P NRestarts litellm.service") == "0"


def test_callers_without_a_key_of_theirs_are_refused(router: Router, secret: Callable[[str], str]) -> None:
    chat = {"model": "any", "messages": [{"role": "user", "content": "Hello"}]}
    strangers = ["", "sk-wrong", "Bearer", secret("litellm.master_key"), secret("litellm.key_metrics")]
    questions = [Question("/v1/models", key=key) for key in strangers]
    questions += [Question("/v1/chat/completions", chat, key) for key in strangers]
    questions += [Question("/v1/embeddings", {"model": "any", "input": "Hello"}, key) for key in strangers]

    assert {status for status, _ in router.ask(*questions)} <= {401, 403}


def test_lists_what_people_may_choose_and_nothing_else(
    router: Router, keys: dict[str, str], models: dict[str, str], service: ServicePlacement
) -> None:
    choices = {*models, *service.variables.get("litellm_answered", {})}
    answers = router.ask(*(Question("/v1/models", key=key) for key in keys.values()))

    for status, body in answers:
        assert status == 200
        assert {model["id"] for model in body["data"]} == choices


def _ways(service: ServicePlacement) -> list[dict[str, Any]]:
    """The ways to cloud providers."""
    found: list[dict[str, Any]] = service.variables.get("litellm_cloud", [])
    return found


def test_asks_nobody_that_is_not_in_the_list(
    router: Router, keys: dict[str, str], models: dict[str, str], service: ServicePlacement
) -> None:
    hello = [{"role": "user", "content": "Hello"}]
    key = next(iter(keys.values()), "")
    asked: list[dict[str, Any]] = [
        {"model": name, "messages": hello} for name in ("openai/gpt-4o", "anthropic/claude", "*", "gpt-4o")
    ]
    elsewhere = {"api_base": "http://192.0.2.1/v1", "api_key": "sk-elsewhere"}
    asked += [{"model": name, "messages": hello, **elsewhere} for name in [*models, "openai/gpt-4o"]]

    asked += [{"model": f"cloud/{way['name']}", "messages": hello} for way in _ways(service)]
    asked += [{"model": "cloud/gpt", "messages": hello}]
    asked += [{"model": name, "messages": hello, "fallbacks": ["cloud/gpt"]} for name in models]

    for status, body in router.ask(*(Question("/v1/chat/completions", question, key) for question in asked)):
        assert status in {400, 401, 403}, body


def test_answers(router: Router, keys: dict[str, str], models: dict[str, str], here: set[str]) -> None:
    key = next(iter(keys.values()), "")
    chats = [name for name in sorted(here) if models[name] == "chat"]
    hello = [{"role": "user", "content": "Who are you?"}]
    answers = router.ask(
        *(
            Question("/v1/chat/completions", {"model": name, "messages": hello, "max_tokens": 64}, key)
            for name in chats
        )
    )

    for name, (status, body) in zip(chats, answers, strict=True):
        assert status == 200, body
        message = body["choices"][0]["message"]
        text = message.get("content") or message.get("reasoning_content") or ""
        assert text.strip(), name
        if name == "tiny":
            assert text.startswith(_LAB_ANSWER)


def _signed(mail: str, key: str) -> str:
    """Who asks, as Open WebUI says it (HS256, RFC 7519)."""

    def encoded(part: bytes) -> str:
        return base64.urlsafe_b64encode(part).rstrip(b"=").decode()

    claims = {"iss": "open-webui", "email": mail, "exp": int(time.time()) + 300}
    text = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{text}.{encoded(hmac.digest(key.encode(), text.encode(), 'sha256'))}"


def test_nobody_asks_in_the_name_of_another(
    router: Router, keys: dict[str, str], service: ServicePlacement
) -> None:
    if not service.variables["litellm_user_key"]:
        return  # nobody is named at all
    token = _signed("ada@freehold.invalid", "a-key-of-somebody-else-00000000000000")
    question = Question("/v1/models", key=keys["openwebui"], headers={"X-OpenWebUI-User-Jwt": token})

    assert router.ask(question)[0][0] == 401


def test_requests_are_traced_with_who_asked(
    router: Router,
    keys: dict[str, str],
    models: dict[str, str],
    here: set[str],
    service: ServicePlacement,
    layout: Layout,
    secret: Callable[[str], str],
) -> None:
    chats = [name for name in sorted(here) if models[name] == "chat"]
    traces = [placed for placed in layout.services if placed.name == "langfuse"]
    if not (
        service.variables["litellm_langfuse_url"]
        and service.variables["litellm_user_key"]
        and traces
        and chats
    ):
        return  # there is nobody who traces, or nobody who asks
    mail = f"proof-{secrets.token_hex(4)}@freehold.invalid"
    token = {"X-OpenWebUI-User-Jwt": _signed(mail, secret("openwebui.user_key"))}
    body = {"model": chats[0], "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    assert router.ask(Question("/v1/chat/completions", body, keys["openwebui"], token))[0][0] == 200
    pair = f"{secret('langfuse.public_key')}:{secret('langfuse.secret_key')}"
    basic = {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    langfuse = Router(router.name, str(traces[0].address), traces[0].ports["http"])
    deadline = time.monotonic() + 120
    while True:
        status, found = langfuse.ask(Question(f"/api/public/v2/observations?userId={mail}", headers=basic))[0]
        assert status == 200, found
        if found["data"] or time.monotonic() > deadline:
            break
        time.sleep(3)

    assert found["data"]


def test_the_shipper_has_brought_what_was_asked(host: Machine, service: ServicePlacement) -> None:
    unit = host.service("litellm-shipper.service")
    assert unit.is_running
    assert unit.is_enabled
    assert host.check_output("systemctl show -P User litellm-shipper.service") == "litellm"
    result = host.run("systemd-analyze security --no-pager --threshold=20 litellm-shipper.service")
    assert result.rc == 0, result.stdout
    if not service.variables["litellm_langfuse_url"]:
        return  # nothing is recorded
    for path in ("/var/lib/litellm/spool/open", "/var/lib/litellm/spool/done", "/var/lib/litellm/ledger"):
        folder = host.file(path)
        assert (folder.user, folder.mode) == ("litellm", 0o700)
    assert host.run("grep -q . /var/lib/litellm/ledger/*").rc == 0
    assert host.check_output("ls -A /var/lib/litellm/spool/aside") == ""


def test_the_figures_of_the_shipper_are_for_prometheus_alone(
    router: Router, secret: Callable[[str], str], keys: dict[str, str]
) -> None:
    shipper = Router(router.name, router.address, 4001)
    refused = shipper.ask(*(Question("/metrics", key=key) for key in ["", "sk-wrong", *keys.values()]))
    status, text = shipper.ask(Question("/metrics", key=secret("litellm.key_metrics")))[0]

    assert {answer[0] for answer in refused} == {401}
    assert status == 200
    assert "freehold_audit_missing 0" in text


def test_embeds(router: Router, keys: dict[str, str], models: dict[str, str], here: set[str]) -> None:
    key = next(iter(keys.values()), "")
    names = [name for name in sorted(here) if models[name] == "embedding"]
    answers = router.ask(
        *(Question("/v1/embeddings", {"model": name, "input": ["one", "two"]}, key) for name in names)
    )

    for status, body in answers:
        assert status == 200, body
        assert [len(item["embedding"]) > 1 for item in body["data"]] == [True, True]


def test_serves_what_applications_need_and_nothing_else(router: Router, keys: dict[str, str]) -> None:
    key = next(iter(keys.values()), "")
    questions = [Question(path, key=each) for path in _CLOSED for each in {"", key}]
    answers = router.ask(Question("/health/liveliness"), *questions)

    assert answers[0][0] == 200
    assert [
        question.path for question, (status, _) in zip(questions, answers[1:], strict=True) if status != 404
    ] == []


def test_metrics_are_for_prometheus_alone(
    router: Router, keys: dict[str, str], secret: Callable[[str], str]
) -> None:
    strangers = ["", "sk-wrong", *keys.values()]
    refused = router.ask(*(Question("/metrics/", key=key) for key in strangers))
    status, text = router.ask(Question("/metrics/", key=secret("litellm.key_metrics")))[0]

    assert [answer[0] for answer in refused] == [401] * len(strangers)
    assert status == 200
    assert "litellm_proxy_total_requests_metric_total" in text


def test_the_host_has_the_hashes_of_keys_alone(
    host: Machine, keys: dict[str, str], secret: Callable[[str], str]
) -> None:
    values = [*keys.values(), secret("litellm.key_metrics")]
    hashes = host.file("/etc/litellm/keys.json")
    settings = host.file("/etc/litellm/secrets.env")
    assert (hashes.user, hashes.group, hashes.mode) == ("root", "litellm", 0o440)
    assert (settings.user, settings.group, settings.mode) == ("root", "root", 0o400)
    shown = [host.check_output("ps -eo args"), host.check_output("journalctl --no-pager -u litellm.service")]
    written = host.check_output("find /etc/litellm /var/lib/litellm -type f -exec cat {} +")
    assert not [value for value in values for text in (*shown, written) if value in text]
    assert not [text for text in shown if secret("litellm.master_key") in text]


def test_tells_nobody_and_fetches_nothing(host: Machine) -> None:
    process = host.check_output("systemctl show -P MainPID litellm.service")
    settings = host.check_output("tr '\\0' '\\n' < /proc/%s/environ", process).splitlines()
    wanted = {
        "LITELLM_TELEMETRY=False",
        "LITELLM_LOCAL_MODEL_COST_MAP=True",
        "LITELLM_MODE=PRODUCTION",
        "STORE_MODEL_IN_DB=False",
        "DISABLE_ADMIN_UI=True",
        "NO_DOCS=True",
        "HF_HUB_OFFLINE=1",
    }

    assert wanted <= set(settings)


def test_has_no_way_from_one_language_model_to_another(host: Machine) -> None:
    configuration = "".join(
        host.file(f"/etc/litellm/{name}.yaml").content_string for name in ("config", "models")
    )

    assert "fallback" not in configuration.replace("no fallbacks", "")
    assert "*" not in configuration


def test_names_that_people_choose_lead_to_engines_alone(host: Machine, service: ServicePlacement) -> None:
    """Whatever the guardrail does or does not: the ways out bear names that nobody may ask by."""
    listed = yaml.safe_load(host.file("/etc/litellm/models.yaml").content_string)["model_list"] or []
    engines = {engine["url"] for engine in service.variables["litellm_engines"]}
    outside = {each["model_name"] for each in listed if each["litellm_params"]["api_base"] not in engines}

    assert outside == {f"cloud/{way['name']}" for way in _ways(service)}


def test_the_guardrail_stands_where_something_may_leave(host: Machine, service: ServicePlacement) -> None:
    if not _ways(service):
        return  # nothing may
    settings = yaml.safe_load(host.file("/etc/litellm/config.yaml").content_string)
    (guardrail,) = settings["guardrails"]

    assert guardrail["litellm_params"]["guardrail"] == "freehold_guard.Guard"
    assert guardrail["litellm_params"]["default_on"] is True
    assert "pre_call" in guardrail["litellm_params"]["mode"]
    for name in ("names", "users"):
        file = host.file(f"/etc/litellm/{name}.json")
        assert (file.user, file.group, file.mode) == ("root", "litellm", 0o440)


def _decided(router: Router, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the router's own code and files decide of requests that are written down. None of them is sent."""
    command = "cd /etc/litellm && PYTHONDONTWRITEBYTECODE=1 /opt/litellm/bin/python -m freehold_routing.cases"
    ssh = ["ssh", "-F", child.current().ssh_config, router.name, command]
    done = subprocess.run(
        ssh, input=json.dumps(requests), capture_output=True, text=True, check=True, timeout=300
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_client_s_cases_go_where_they_must(router: Router, layout: Layout) -> None:
    policy = layout.routing
    written = route.cases(Path(layout.directory)) if policy else []
    if policy is None or not written:
        return  # there is nothing to hold
    told = _decided(router, [case.request(policy) for case in written])
    wrong = [f"{case.name}: {case.differs(one)}" for case, one in zip(written, told, strict=True)]

    assert [line for line in wrong if not line.endswith(": ")] == []


def test_what_is_sensitive_stays_whoever_asks(router: Router, layout: Layout) -> None:
    policy = layout.routing
    if policy is None or not policy.cloud:
        return  # nothing may leave at all
    people = [*policy.users, None]
    held = [
        {"model": name, "user": user, **what}
        for name in [*policy.cloud, *policy.tasks]
        for user in people[:20]
        for what in (
            *({"text": text} for category, text in SENSITIVE.items() if category not in policy.ignore),
            {"text": "Hello", "session": None},
            {"text": "Hello", "earlier_sensitive": True},
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        )
    ]
    held += [{"model": name, "text": "Hello", "user": "stranger@freehold.invalid"} for name in policy.cloud]

    assert {one["route"] for one in _decided(router, held)} <= {"local"}


def test_a_question_with_a_bank_account_is_answered_in_the_building(
    router: Router,
    keys: dict[str, str],
    here: set[str],
    service: ServicePlacement,
    layout: Layout,
    secret: Callable[[str], str],
) -> None:
    policy = layout.routing
    user_key = service.variables["litellm_user_key"]
    if policy is None or not policy.cloud or not user_key or "openwebui" not in keys:
        return  # nothing may leave, or nobody is known
    name, entry = next(iter(sorted(policy.cloud.items())))
    allowed = [mail for mail, one in policy.users.items() if set(one["groups"]) & set(entry["groups"])]
    if not allowed or entry["local"] not in here:
        return  # nobody may use it, or its engine is not there
    named = variables.looked_up(user_key)
    token = _signed(allowed[0], secret(next(iter(named))) if named else user_key)
    headers = {"X-OpenWebUI-User-Jwt": token, "X-LiteLLM-Session-Id": f"proof-{secrets.token_hex(8)}"}
    texts = [
        "Bitte zahlen Sie auf DE89 3704 0044 0532 0130 00.",
        "Danke. Was ist die Hauptstadt von Frankreich?",
    ]
    bodies = [
        {"model": name, "messages": [{"role": "user", "content": text}], "max_tokens": 16} for text in texts
    ]
    answers = router.ask(
        *(Question("/v1/chat/completions", body, keys["openwebui"], headers) for body in bodies)
    )

    for status, body in answers:
        assert status == 200, body
        if policy.notice:
            assert "in the building" in body["choices"][0]["message"]["content"]


def test_presidio_runs_where_it_is_wanted_and_nowhere_else(host: Machine, service: ServicePlacement) -> None:
    unit = host.service("litellm-presidio.service")
    wanted = bool(service.variables.get("litellm_presidio"))

    assert (unit.is_running, unit.is_enabled) == (wanted, wanted)
    if not wanted:
        return  # its unit is there and off
    assert host.check_output("systemctl show -P User litellm-presidio.service") == "litellm"
    assert host.check_output("systemctl show -P NRestarts litellm-presidio.service") == "0"
    result = host.run("systemd-analyze security --no-pager --threshold=20 litellm-presidio.service")
    assert result.rc == 0, result.stdout


def test_presidio_answers_the_router_alone_and_reaches_no_network(
    host: Machine, service: ServicePlacement
) -> None:
    if not service.variables.get("litellm_presidio"):
        return  # it does not run
    folder, socket = (host.file(path) for path in ("/run/litellm-presidio", "/run/litellm-presidio/socket"))
    assert (folder.user, folder.mode) == ("litellm", 0o700)
    assert (socket.user, socket.mode, socket.is_socket) == ("litellm", 0o600, True)
    ask = "import socket; socket.socket(socket.AF_UNIX).connect('/run/litellm-presidio/socket')"
    assert host.run(f'runuser -u litellm -- python3 -c "{ask}"').rc == 0
    refused = host.run(f'runuser -u nobody -- python3 -c "{ask}"')
    assert "PermissionError" in refused.stderr
    assert (
        host.check_output("systemctl show -P RestrictAddressFamilies litellm-presidio.service") == "AF_UNIX"
    )
    process = host.check_output("systemctl show -P MainPID litellm-presidio.service")
    inside = f"nsenter --target {process} --mount -- runuser -u litellm -- cat"
    assert host.run(f"{inside} /etc/litellm-presidio/models.json").rc == 0
    assert host.run(f"{inside} /etc/litellm/names.json").rc != 0
    assert f"pid={process}," not in host.check_output("ss -tuanp")


_LETTERS = {
    "de": "Bitte schreiben Sie einen Brief an Erika Mustermann.",
    "en": "Please write a letter to John Smith.",
    "es": "Por favor, escriba una carta a Juan García López.",
    "fr": "Veuillez écrire une lettre à Jean Dupont.",
    "nl": "Schrijf alstublieft een brief aan Jan de Vries.",
    "pl": "Proszę napisać list do Jana Kowalskiego.",
    "pt": "Por favor, escreva uma carta a João da Silva.",
}
"""A sentence with a name that any language model of the language should take for one."""


def test_a_name_that_is_on_no_list_stays_where_presidio_looks_for_people(
    router: Router, host: Machine, layout: Layout
) -> None:
    policy = layout.routing
    if policy is None or not policy.presidio or "person" not in policy.presidio["finds"]:
        return  # nobody looks
    held = [
        {"model": name, "text": _LETTERS[language], "user": mail}
        for language in policy.presidio["languages"]
        for name, entry in policy.cloud.items()
        for mail, person in policy.users.items()
        if set(person["groups"]) & set(entry["groups"])
    ]
    told = _decided(router, held[:50])

    assert {(one["route"], one["reason"]) for one in told} <= {("local", "sensitive")}
    assert all(one["categories"] == ["person"] and one["detectors"] == ["presidio"] for one in told)
    said = host.check_output("journalctl --no-pager -u litellm-presidio.service")
    assert not [text for text in ("Mustermann", "Smith", "Dupont", "Kowalski") if text in said]


def test_only_its_clients_reach_it(
    this_host: Host,
    service: ServicePlacement,
    layout: Layout,
    reaching: Callable[[IPv4Address, int], set[str]],
) -> None:
    networks = [n for rule in this_host.rules if rule.port == service.ports["http"] for n in rule.sources]
    allowed = {host.name for host in layout.hosts if any(host.address in network for network in networks)}

    assert reaching(service.address, service.ports["http"]) - {this_host.name} == allowed - {this_host.name}


def test_the_unit_is_hardened(host: Machine) -> None:
    result = host.run("systemd-analyze security --no-pager --threshold=20 litellm.service")

    assert result.rc == 0, result.stdout
