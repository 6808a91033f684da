"""What the files and workflows of n8n hold, whatever stands in the options."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from freehold import render, resources

from .conftest import environment_file

ROUTER = {
    "url": "http://10.0.0.1:4000/v1",
    "key": "sk-x",
    "chat_model": 'a "model"',
    "embedding_model": "embed",
}
QDRANT = {"url": "https://10.0.0.2:6333", "key": "q"}


def options(**others: Any) -> dict[str, Any]:
    defaults = yaml.safe_load((resources.roles() / "n8n/defaults/main.yml").read_text(encoding="utf-8"))
    return {
        **defaults,
        "n8n__owner_hash": "$2b$08$x",
        **{f"n8n_{name}": value for name, value in others.items()},
    }


def settings(**others: Any) -> dict[str, str]:
    return environment_file(render.render("n8n/settings.env.j2", options(**others)))


def test_workflows_reach_the_services_and_networks_that_they_are_given() -> None:
    given = settings(reachable=["10.0.0.1", "10.0.0.2"], reachable_networks=["10.9.0.0/24"])

    assert given["N8N_SSRF_PROTECTION_ENABLED"] == "true"
    assert given["N8N_SSRF_ALLOWED_IP_RANGES"] == "10.0.0.1/32,10.0.0.2/32,10.9.0.0/24"
    assert settings()["N8N_SSRF_ALLOWED_IP_RANGES"] == ""


def test_nodes_are_excluded_as_json() -> None:
    assert json.loads(settings()["NODES_EXCLUDE"]) == options()["n8n_excluded_nodes"]


def test_workers_work_through_the_queue() -> None:
    queue = {"address": "10.0.0.3", "port": 6379, "password": "queue-password"}
    alone, many = settings(), settings(workers=2, queue=queue)
    secrets = environment_file(render.render("n8n/secrets.env.j2", options(workers=2, queue=queue)))
    unit = render.render("n8n/n8n.service.j2", options(workers=2, queue=queue))

    assert alone["EXECUTIONS_MODE"] == "regular"
    assert "QUEUE_BULL_REDIS_HOST" not in alone
    assert (many["EXECUTIONS_MODE"], many["QUEUE_BULL_REDIS_HOST"]) == ("queue", "10.0.0.3")
    assert "queue-password" not in many.values()
    assert secrets["QUEUE_BULL_REDIS_PASSWORD"] == "queue-password"
    assert "n8n-worker@2.service n8n-runner@2.service" in unit
    assert "n8n-runner@0.service" not in unit
    assert "n8n-runner@0.service" in render.render("n8n/n8n.service.j2", options())


def test_extra_settings_keep_their_meaning() -> None:
    given = settings(extra_settings={"N8N_X": 'a "b" $c', "N8N_Y": True})

    assert given["N8N_X"] == 'a "b" $c'
    assert given["N8N_Y"] == "true"


@pytest.mark.parametrize(
    "name",
    sorted(path.stem.removesuffix(".json") for path in (resources.templates() / "n8n/flows").iterdir()),
)
def test_workflows_name_nodes_and_credentials_that_exist(name: str) -> None:
    text = render.render(f"n8n/flows/{name}.json.j2", options(router=ROUTER, qdrant=QDRANT))
    flow = json.loads(text)
    nodes = {node["name"]: node for node in flow["nodes"]}
    linked = {
        link["node"]
        for kinds in flow["connections"].values()
        for outputs in kinds.values()
        for output in outputs
        for link in output
    }
    known = (resources.roles() / "n8n/tasks/run.yml").read_text(encoding="utf-8")
    used = {entry["name"] for node in nodes.values() for entry in node.get("credentials", {}).values()}

    assert len(nodes) == len(flow["nodes"]) == len({node["id"] for node in flow["nodes"]})
    assert linked | set(flow["connections"]) == {
        each for each, node in nodes.items() if node["type"] != "n8n-nodes-base.stickyNote"
    }
    assert [each for each in used if f"name': '{each}'" not in known and f"name: {each}" not in known] == []
    assert not {node["type"] for node in nodes.values()} & set(options()["n8n_excluded_nodes"])
