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
        given = {"admin_mail": "admin@acme.example", "admin_password": "secret", "users": [], "groups": []}
        super().__init__(SimpleNamespace(params=given | parameters, check_mode=False))
        self.admin = admin
        self.accounts: dict[str, dict[str, Any]] = {}
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
        if method == "DELETE":
            self.accounts = {mail: a for mail, a in self.accounts.items() if not path.endswith(a["id"])}
            return True
        if "/users/" in path:
            return {"users": list(self.accounts.values()), "total": len(self.accounts)}
        return []

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
