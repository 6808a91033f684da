"""Accounts of Open WebUI: what is remembered on the host, against a stand-in for its API."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.freehold.stack.plugins.module_utils import api, pending
from ansible_collections.freehold.stack.plugins.modules import openwebui_users as module


class StandIn(module._OpenWebUI):
    """Open WebUI with the accounts of a table; not the real one."""

    def __init__(self, admin: str, **parameters: Any) -> None:
        given = {"admin_mail": "admin@acme.example", "admin_password": "secret"}
        given |= {"users": [], "groups": [], "models": []}
        super().__init__(SimpleNamespace(params=given | parameters, check_mode=False))
        self.admin = admin
        self.accounts: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, dict[str, Any]] = {}
        self.models: dict[str, dict[str, Any]] = {}
        self.renamed: list[str] = []
        self.refuse = ""

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        if path.endswith("/signin"):
            if body["email"] != self.admin:
                raise api.RefusedError(400, "wrong")
            return {"token": "t"}
        if path.endswith("/auths/add"):
            if body["email"] == self.refuse:
                raise api.RefusedError(500, "no")
            made = {**body, "id": f"id-{body['email']}", "group_ids": []}
            self.accounts[body["email"]] = made
            return made
        if path.endswith("/groups/create"):
            return self.groups.setdefault(body["name"], {**body, "id": f"id-{body['name']}"})
        if path.endswith("/groups/"):
            return list(self.groups.values())
        if "/models/" in path:
            return self.of_models(path, body)
        if method == "DELETE":
            self.accounts = {mail: a for mail, a in self.accounts.items() if not path.endswith(a["id"])}
            return True
        if "/users/" in path:
            return {"users": list(self.accounts.values()), "total": len(self.accounts)}
        return []

    def of_models(self, path: str, body: Any) -> Any:
        if path.endswith("/delete"):
            return self.models.pop(body["id"])
        if body:
            # What it keeps of an entry has more keys than what it was told.
            meta = {"profile_image_url": None, "description": None, "capabilities": None} | body["meta"]
            self.models[body["id"]] = body | {"meta": meta}
            return self.models[body["id"]]
        return list(self.models.values())

    def _set_password(self, earlier: str) -> None:
        if earlier == self.admin:
            self.renamed.append(earlier)
            self.admin = self.module.params["admin_mail"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MADE", tmp_path / "made.json")
    monkeypatch.setattr(pending, "FOLDER", str(tmp_path))


def user(name: str) -> dict[str, Any]:
    return {"name": name, "mail": f"{name}@acme.example", "password": "p", "admin": False, "groups": []}


def test_what_was_made_before_a_failure_goes_when_it_is_not_wanted_any_more(tmp_path: Path) -> None:
    server = StandIn("admin@acme.example", users=[user("one"), user("two")])
    server.refuse = "two@acme.example"
    with pytest.raises(api.RefusedError):
        module._apply(server)
    assert set(server.accounts) == {"one@acme.example"}
    assert json.loads((tmp_path / "pending.json").read_text()) == {"openwebui": []}
    server.module.params["users"] = []
    module._apply(server)
    assert server.accounts == {}


def test_each_account_is_remembered_before_the_next_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed has no time to remember at its end."""
    server = StandIn("admin@acme.example", users=[user("one"), user("two")])
    kept: list[list[str]] = []
    add = server.make

    def make(words: str, *arguments: Any) -> Any:
        kept.append(module._made()["users"])
        return add(words, *arguments)

    monkeypatch.setattr(server, "make", make)
    module._apply(server)
    assert kept == [[], ["id-one@acme.example"]]


def test_the_administrator_follows_a_new_domain() -> None:
    server = StandIn("admin@acme.example")
    module._apply(server)
    assert module._made()["admin"] == "admin@acme.example"
    server.module.params["admin_mail"] = "admin@acme.internal"
    server.done.clear()
    module._apply(server)
    assert server.renamed == ["admin@acme.example"]
    assert module._made()["admin"] == "admin@acme.internal"
    server.done.clear()
    module._apply(server)
    assert server.done == []


CHOICES = [
    {"name": "assistant", "description": "", "groups": None, "tools": True},
    {"name": "claude", "description": "Cloud: anthropic, US", "groups": ["lawyers"], "tools": False},
    {"name": "nobodys", "description": "", "groups": [], "tools": False},
]


def granting(**parameters: Any) -> StandIn:
    given = {"groups": [{"name": "lawyers", "description": ""}], "models": CHOICES}
    return StandIn("admin@acme.example", **given | parameters)


def seen(server: StandIn) -> dict[str, list[tuple[str, str]]]:
    return {
        name: [(grant["principal_type"], grant["principal_id"]) for grant in model["access_grants"]]
        for name, model in server.models.items()
    }


def test_a_cloud_language_model_is_seen_by_the_people_of_its_groups_alone() -> None:
    server = granting()
    module._apply(server)

    assert seen(server) == {
        "assistant": [("user", "*")],
        "claude": [("group", "id-lawyers")],
        "nobodys": [],
    }
    assert server.models["claude"]["meta"]["description"] == "Cloud: anthropic, US"
    assert server.models["claude"]["meta"]["capabilities"] == {"builtin_tools": False}
    server.done.clear()
    module._apply(server)
    assert server.done == []


def test_who_was_granted_a_language_model_by_hand_loses_it() -> None:
    server = granting()
    module._apply(server)
    server.models["claude"]["access_grants"].append(
        {"principal_type": "user", "principal_id": "*", "permission": "read"}
    )
    server.done.clear()
    module._apply(server)

    assert server.done == ["who sees language model claude"]
    assert seen(server)["claude"] == [("group", "id-lawyers")]


def test_what_an_administrator_said_of_a_language_model_stays() -> None:
    server = granting()
    by_hand = {
        "meta": {"capabilities": {"vision": False}, "tags": [{"name": "small"}]},
        "params": {"top_k": 5},
    }
    server.models["assistant"] = {"id": "assistant", "name": "The assistant", "access_grants": [], **by_hand}
    module._apply(server)

    assert server.models["assistant"]["name"] == "The assistant"
    assert server.models["assistant"]["params"] == {"top_k": 5}
    assert server.models["assistant"]["meta"]["tags"] == [{"name": "small"}]
    assert server.models["assistant"]["meta"]["capabilities"] == {"vision": False, "builtin_tools": True}
    server.module.params["models"] = []
    module._apply(server)
    assert list(server.models) == ["assistant"]


def test_nothing_is_asked_of_language_models_where_everybody_sees_all() -> None:
    server = granting(models=[])
    server.of_models = None  # type: ignore[assignment, method-assign]
    module._apply(server)


def test_check_mode_says_who_would_see_what_and_changes_nothing() -> None:
    server = granting()
    server.module.check_mode = True
    module._apply(server)

    assert server.done == ["group lawyers", *(f"language model {model['name']}" for model in CHOICES)]
    assert server.models == server.groups == {}
    assert module._made()["models"] == []
