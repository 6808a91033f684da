"""The proxy in front of engines lets through its list, and every engine has it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from freehold import render, resources
from freehold.ansible.digest import imported
from freehold.catalog import services

ENGINES = sorted(name for name, meta in services.load().items() if meta.engine)
KEYS = {"api": "sk-0123456789abcdef", "metrics": "0123456789abcdef"}


def _defaults(role: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(
        (resources.roles() / role / "defaults/main.yml").read_text(encoding="utf-8")
    )
    return found


def _rendered(template: str, **given: Any) -> str:
    options = {f"engine_proxy_{name}": value for name, value in given.items()}
    return render.render(
        f"engine_proxy/{template}", _defaults("engine_proxy") | {"engine_proxy_keys": KEYS} | options
    )


def _routes(engine: str) -> list[dict[str, Any]]:
    found = yaml.safe_load((resources.roles() / engine / "vars/main.yml").read_text(encoding="utf-8"))
    return [route for name, routes in found.items() if name.endswith("routes") for route in routes]


def test_defaults_equal_the_argument_specs() -> None:
    specified = {name: option["default"] for name, option in services.argument_specs("engine_proxy").items()}

    assert _defaults("engine_proxy") == specified


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_is_behind_it(engine: str) -> None:
    assert "engine_proxy" in imported(resources.roles() / engine)
    assert "caddy" in services.load()[engine].artifacts


@pytest.mark.parametrize("engine", ENGINES)
def test_without_a_key_an_engine_says_that_it_is_well_and_nothing_else(engine: str) -> None:
    assert [route["path"] for route in _routes(engine) if route.get("key") == ""] == ["/health"]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_engine_sees_the_path_of_the_list_however_the_caller_wrote_it(engine: str) -> None:
    routes = _routes(engine)
    text = _rendered("Caddyfile.j2", routes=routes)

    assert re.findall(r"rewrite \* (\S+)", text) == [route.get("to", route["path"]) for route in routes]
    assert text.count("import engine") == len(routes)
    assert re.findall(r"\tpath (\S+)", text) == [route["path"] for route in routes]
    assert text.rstrip().endswith("handle {\n\t\trespond 404\n\t}\n}")


def test_a_route_is_opened_by_its_own_key() -> None:
    text = _rendered("Caddyfile.j2", routes=[{"path": "/v1/models"}, {"path": "/metrics", "key": "metrics"}])

    assert re.findall(r"ENGINE_PROXY_KEY_\w+", text) == ["ENGINE_PROXY_KEY_API", "ENGINE_PROXY_KEY_METRICS"]


def test_keys_are_in_the_file_of_root_alone() -> None:
    routes = _routes("vllm")

    assert not any(key in _rendered("Caddyfile.j2", routes=routes) for key in KEYS.values())
    assert not any(key in _rendered("engine-proxy.service.j2") for key in KEYS.values())
    assert all(f"={key}\n" in _rendered("secrets.env.j2") for key in KEYS.values())


def test_the_engine_is_shown_the_key_only_where_it_checks_it() -> None:
    routes = [{"path": "/v1/models"}]

    assert "header_up -Authorization" in _rendered("Caddyfile.j2", routes=routes)
    assert "header_up -Authorization" not in _rendered("Caddyfile.j2", routes=routes, pass_key=True)
