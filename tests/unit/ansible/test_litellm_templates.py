"""What the files of the router hold, and whom its function for keys lets in."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from freehold import render, resources

APPLICATIONS: list[dict[str, Any]] = [
    {"name": "openwebui", "key": "sk-of-open-webui-0000"},
    {"name": "n8n", "key": "sk-of-n8n-00000000000", "models": ["small"]},
]
ENGINES: list[dict[str, Any]] = [
    {
        "name": "vllm",
        "url": "http://10.0.0.1:8000/v1",
        "key": "sk-one",
        "models": [{"name": "large", "kind": "chat"}],
    },
    {
        "name": "my-ollama",
        "url": "http://10.0.0.2:11434/v1",
        "models": [{"name": "small"}, {"name": "embed", "kind": "embedding"}],
    },
]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def options(**others: Any) -> dict[str, Any]:
    defaults = yaml.safe_load((resources.roles() / "litellm/defaults/main.yml").read_text(encoding="utf-8"))
    given = {**defaults, **{f"litellm_{name}": value for name, value in others.items()}}
    given["litellm__hashes"] = [_hash(each["key"]) for each in given["litellm_applications"]]
    given["litellm__metrics_hash"] = _hash(given["litellm_metrics_key"])
    return given


def configuration(**others: Any) -> Any:
    return yaml.safe_load(render.render("litellm/config.yaml.j2", options(**others)))


def models(**others: Any) -> Any:
    return yaml.safe_load(render.render("litellm/models.yaml.j2", options(**others)))["model_list"]


def test_every_language_model_of_every_engine_is_listed_by_its_name() -> None:
    listed = models(engines=ENGINES)

    assert [(each["model_name"], each["model_info"]["mode"]) for each in listed] == [
        ("large", "chat"),
        ("small", "chat"),
        ("embed", "embedding"),
    ]
    assert listed[1]["litellm_params"] == {
        "model": "openai/small",
        "api_base": "http://10.0.0.2:11434/v1",
        "api_key": "os.environ/ENGINE_KEY_MY_OLLAMA",
    }


def replicas(*names: str) -> list[dict[str, Any]]:
    """Engines that serve the same language model under the same name."""
    model = {"name": "assistant", "served": "qwen3-8b", "kind": "chat"}
    return [
        {"name": name, "url": f"http://10.0.0.{n}:8000/v1", "key": f"sk-{name}", "models": [model]}
        for n, name in enumerate(names, 1)
    ]


def test_engines_that_serve_one_name_share_its_requests() -> None:
    listed = models(engines=replicas("vllm", "vllm-2", "sglang"))

    assert [each["model_name"] for each in listed] == ["assistant"] * 3
    assert {each["litellm_params"]["model"] for each in listed} == {"openai/qwen3-8b"}
    assert [each["litellm_params"]["api_base"] for each in listed] == [
        f"http://10.0.0.{n}:8000/v1" for n in (1, 2, 3)
    ]
    assert len({each["model_info"]["id"] for each in listed}) == 3
    # Each is shown its own key.
    assert [each["litellm_params"]["api_key"] for each in listed] == [
        "os.environ/ENGINE_KEY_VLLM",
        "os.environ/ENGINE_KEY_VLLM_2",
        "os.environ/ENGINE_KEY_SGLANG",
    ]
    keys = render.render("litellm/secrets.env.j2", options(engines=replicas("vllm", "vllm-2", "sglang")))
    assert "ENGINE_KEY_VLLM_2=sk-vllm-2\n" in keys


def test_a_request_stays_within_its_name_whatever_fails() -> None:
    """LiteLLM goes to another group only by lists of fallbacks, wherever they stand (docs.litellm.ai/docs/proxy/reliability)."""

    def keys(value: Any) -> set[str]:
        parts = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
        return set(value if isinstance(value, dict) else ()).union(*map(keys, parts))

    given = [*replicas("vllm", "vllm-2"), *ENGINES]
    found = keys(configuration(engines=given)) | keys(models(engines=given))

    assert "model_name" in found
    assert not [key for key in found if "fallback" in key or "alias" in key]
    assert configuration()["router_settings"] == {"routing_strategy": "simple-shuffle", "num_retries": 2}


@pytest.mark.parametrize(
    ("kind", "mode"), [("chat", "chat"), ("embedding", "embedding"), ("reranking", "rerank"), ("ocr", "chat")]
)
def test_litellm_knows_what_a_language_model_is_for(kind: str, mode: str) -> None:
    engines = [{"name": "vllm", "url": "http://10.0.0.1:8000/v1", "models": [{"name": "x", "kind": kind}]}]

    assert models(engines=engines)[0]["model_info"]["mode"] == mode


def test_without_engines_the_list_is_empty() -> None:
    assert models() == []


def test_no_request_goes_from_one_language_model_to_another() -> None:
    text = "".join(
        render.render(f"litellm/{name}.yaml.j2", options(engines=ENGINES)) for name in ("config", "models")
    )

    assert "fallbacks:" not in text
    assert "*" not in text


ROUTED: dict[str, Any] = {
    "engines": ENGINES,
    "routing": {"cloud": {"claude": {"groups": ["lawyers"], "local": "large"}}},
    "answered": {"claude": "large", "coding": "large"},
    "cloud": [
        {
            "name": "claude",
            "provider": "anthropic",
            "model": "anthropic/claude-sonnet-4-5",
            "endpoint": "https://api.anthropic.com",
            "input_price": 3.0,
            "output_price": 15.0,
            "key": "sk-of-the-client",
        }
    ],
    "memory": {"address": "10.0.0.5:6379", "password": "of-the-memory", "key": "ab" * 32},
    "applications": APPLICATIONS,
}


def test_names_that_people_choose_lead_to_the_building() -> None:
    """Where the guardrail did nothing, nothing would leave: the way out bears a name that nobody may ask by."""
    listed = {each["model_name"]: each for each in models(**ROUTED)}

    assert listed["claude"]["litellm_params"] == listed["large"]["litellm_params"]
    assert listed["coding"]["litellm_params"]["api_base"] == "http://10.0.0.1:8000/v1"
    out = [
        name
        for name, each in listed.items()
        if not each["litellm_params"]["api_base"].startswith("http://10.")
    ]
    assert out == ["cloud/claude"]
    assert listed["cloud/claude"]["model_info"]["input_cost_per_token"] == pytest.approx(3e-6)
    keys = json.loads(render.render("litellm/keys.json.j2", options(**ROUTED)))
    assert keys[0]["models"] == ["large", "small", "embed", "claude", "coding"]
    assert keys[1]["models"] == ["small"]


def test_the_guardrail_runs_for_everybody_where_something_may_leave() -> None:
    found = configuration(**ROUTED)

    assert found["guardrails"] == [
        {
            "guardrail_name": "freehold",
            "litellm_params": {
                "guardrail": "freehold_guard.Guard",
                "mode": ["pre_call", "post_call"],
                "default_on": True,
            },
        }
    ]
    assert "fallback" not in json.dumps([found, models(**ROUTED)])
    assert "guardrails" not in configuration(engines=ENGINES)
    assert not [each for each in models(engines=ENGINES) if each["model_name"].startswith("cloud/")]


def test_keys_of_providers_are_in_the_file_of_root_alone() -> None:
    given = options(**ROUTED)
    files = ("config.yaml", "models.yaml", "routing.json", "users.json", "litellm.service")

    assert "CLOUD_KEY_ANTHROPIC=sk-of-the-client\n" in render.render("litellm/secrets.env.j2", given)
    for name in files:
        text = render.render(f"litellm/{name}.j2", given)
        assert "sk-of-the-client" not in text
        assert "of-the-memory" not in text


def test_nobody_keeps_a_request_out_of_the_traces() -> None:
    """Open WebUI hands on the parameters that people give a chat, and LiteLLM logs no request with ``"no-log": true``."""
    assert configuration()["litellm_settings"]["global_disable_no_log_param"] is True


def test_keys_of_engines_are_in_the_file_of_root_alone() -> None:
    given = options(engines=ENGINES, master_key="sk-master")

    assert "sk-one" not in render.render("litellm/config.yaml.j2", given)
    assert "ENGINE_KEY_VLLM=sk-one\n" in render.render("litellm/secrets.env.j2", given)


def test_traces_go_to_langfuse_only_where_there_is_one() -> None:
    assert "freehold_audit.reference" not in configuration()["litellm_settings"]["callbacks"]
    assert (
        "freehold_audit.reference"
        in configuration(langfuse_url="http://10.0.0.3:3000")["litellm_settings"]["callbacks"]
    )


@pytest.fixture
def auth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The function for keys as a module, with stand-ins of the few names that it takes from LiteLLM."""

    class ProxyError(Exception):
        def __init__(self, **what: Any) -> None:
            super().__init__(what["message"])
            self.code = what["code"]

    modules: dict[str, dict[str, Any]] = {
        "fastapi": {"Request": object},
        "litellm": {},
        "litellm.integrations": {},
        "litellm.integrations.custom_logger": {"CustomLogger": object},
        "litellm.proxy": {},
        "litellm.proxy._types": {
            "LitellmUserRoles": SimpleNamespace(INTERNAL_USER="internal_user"),
            "ProxyException": ProxyError,
            "UserAPIKeyAuth": SimpleNamespace,
        },
    }
    for name, content in modules.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    if "jwt" not in sys.modules:
        token = ModuleType("jwt")
        token.InvalidTokenError = ValueError  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "jwt", token)
    found = ModuleType("freehold_auth")
    exec(render.render("litellm/freehold_auth.py.j2", options()), found.__dict__)
    found.KEYS = str(tmp_path / "keys.json")  # type: ignore[attr-defined]
    _write(tmp_path / "keys.json", applications=APPLICATIONS, metrics_key="sk-of-prometheus-000")
    return found


def _write(path: Path, **others: Any) -> None:
    path.write_text(render.render("litellm/keys.json.j2", options(**others)), encoding="utf-8")


def _ask(auth: ModuleType, key: str) -> Any:
    return asyncio.run(auth.user_api_key_auth(SimpleNamespace(headers={}), key))


def test_an_application_is_known_by_its_key(auth: ModuleType) -> None:
    assert _ask(auth, "sk-of-open-webui-0000").key_alias == "openwebui"
    assert _ask(auth, "Bearer sk-of-n8n-00000000000").models == ["small"]


def test_the_key_of_metrics_opens_metrics_alone(auth: ModuleType) -> None:
    found = _ask(auth, "sk-of-prometheus-000")

    assert found.allowed_routes == ["/metrics", "/metrics/"]
    assert found.models == ["no-default-models"]


@pytest.mark.parametrize("key", ["", "sk-wrong", "Bearer", _hash("sk-of-open-webui-0000"), None])
def test_nobody_else_is_known(auth: ModuleType, key: str | None) -> None:
    with pytest.raises(Exception, match="missing or unknown") as caught:
        _ask(auth, key)  # type: ignore[arg-type]

    assert caught.value.code == 401  # type: ignore[attr-defined]


def test_a_new_file_of_keys_counts_at_once(auth: ModuleType, tmp_path: Path) -> None:
    _ask(auth, "sk-of-open-webui-0000")
    path = tmp_path / "keys.json"
    _write(path, applications=[{"name": "openwebui", "key": "sk-the-new-one-00000"}])
    os.utime(path, ns=(1, 1))

    assert _ask(auth, "sk-the-new-one-00000").key_alias == "openwebui"
    with pytest.raises(Exception, match="missing or unknown"):
        _ask(auth, "sk-of-open-webui-0000")


def test_the_file_of_keys_holds_no_key(tmp_path: Path) -> None:
    text = render.render("litellm/keys.json.j2", options(applications=APPLICATIONS))

    assert not [each for each in APPLICATIONS if str(each["key"]) in text]
    assert [each["name"] for each in json.loads(text)] == ["openwebui", "n8n"]
