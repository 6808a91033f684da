"""Accounts, credentials and workflows of n8n: what is left to people, against a stand-in for n8n's API."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.freehold.stack.plugins.module_utils import api, pending
from ansible_collections.freehold.stack.plugins.modules import n8n_content as module


class StandIn(module._N8n):
    """n8n with what is in its tables; not the real one."""

    def __init__(self, others: StandIn | None = None, **parameters: Any) -> None:
        given = {"owner_mail": "admin@acme.example", "owner_password": "secret", "users": []}
        super().__init__(SimpleNamespace(params=given | parameters, check_mode=False))
        self.accounts: dict[str, dict[str, Any]] = others.accounts if others else {}
        self.flows: dict[str, dict[str, Any]] = others.flows if others else {}
        self.secrets: dict[str, dict[str, Any]] = others.secrets if others else {}
        self.refuse_acceptance = False

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        what, _, rest = path.partition("?")[0].partition("/")
        return getattr(self, f"_{what}")(method, rest, body)

    def _login(self, *_: Any) -> Any:
        return {}

    def _settings(self, *_: Any) -> Any:
        return {"enterprise": {"advancedPermissions": False}}

    def _projects(self, *_: Any) -> Any:
        return {"id": "project"}

    def _users(self, method: str, rest: str, _body: Any) -> Any:
        if method == "DELETE":
            del self.accounts[rest]
        if rest.endswith("/invite-link"):
            return {"link": "https://x/signup?token=" + rest.partition("/")[0]}
        return {"items": list(self.accounts.values())}

    def _invitations(self, _method: str, rest: str, body: Any) -> Any:
        if rest == "accept":
            if self.refuse_acceptance:
                raise api.RefusedError(400, "weak")
            self.accounts[body["token"]]["isPending"] = False
            return {}
        made = {
            "id": f"id-{body[0]['email']}",
            "email": body[0]["email"],
            "role": body[0]["role"],
            "isPending": True,
        }
        self.accounts[made["id"]] = made
        return [{"user": {"id": made["id"], "inviteAcceptUrl": f"https://x/signup?token={made['id']}"}}]

    def _credentials(self, method: str, rest: str, body: Any) -> Any:
        if method == "POST":
            self.secrets[f"c-{body['name']}"] = body
            return {"id": f"c-{body['name']}"}
        if method == "PATCH":
            self.secrets[rest] = body
        if method == "DELETE":
            del self.secrets[rest]
        return [{"id": each} for each in self.secrets]

    def _workflows(self, method: str, rest: str, body: Any) -> Any:
        identifier, _, action = rest.partition("/")
        if method == "POST" and not identifier:
            self.flows[body["id"]] = {**body, "versionId": "v1", "activeVersionId": None, "isArchived": False}
            return self.flows[body["id"]]
        if identifier not in self.flows:
            raise api.RefusedError(404, "no such workflow")
        flow = self.flows[identifier]
        if action == "activate":
            flow["activeVersionId"] = body["versionId"]
        elif action == "archive":
            flow["isArchived"] = True
        elif method == "PATCH":
            flow |= {**body, "versionId": flow["versionId"] + "+"}
        elif method == "DELETE":
            del self.flows[identifier]
        return flow


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MADE", tmp_path / "made.json")
    monkeypatch.setattr(pending, "FOLDER", str(tmp_path))


def user(name: str, **others: Any) -> dict[str, Any]:
    return {
        "name": name,
        "mail": f"{name}@acme.example",
        "password": "p",
        "admin": False,
        "groups": [],
    } | others


def flow(content: str = "one") -> dict[str, Any]:
    node = {"name": "Ask", "credentials": {"openAiApi": {"id": "", "name": "Models"}}, "content": content}
    return {"id": "flow", "name": "Flow", "nodes": [node], "connections": {}}


def credential(key: str = "k") -> dict[str, Any]:
    return {"name": "Models", "type": "openAiApi", "data": {"apiKey": key}}


def apply(server: StandIn, flows: list[Any] | None = None, credentials: list[Any] | None = None) -> list[str]:
    module._apply(server, {"flows": flows or [], "credentials": credentials or []})
    return server.done


def test_accounts_are_made_once_and_go_with_the_stack() -> None:
    first = StandIn(users=[user("one"), user("two", admin=True)])
    assert apply(first) == ["account one@acme.example", "account two@acme.example"]
    assert {account["role"] for account in first.accounts.values()} == {"global:member"}
    first.accounts["theirs"] = {"id": "theirs", "email": "guest@acme.example", "isPending": False}

    second = StandIn(first, users=[user("one")])
    assert apply(second) == ["removal of account two@acme.example"]
    assert {account["email"] for account in second.accounts.values()} == {
        "one@acme.example",
        "guest@acme.example",
    }
    assert apply(StandIn(second, users=[user("one")])) == []


def test_an_invitation_that_was_cut_off_is_accepted_by_the_next_run() -> None:
    first = StandIn(users=[user("one")])
    first.refuse_acceptance = True
    with pytest.raises(api.RefusedError):
        apply(first)

    second = StandIn(first, users=[user("one")])
    apply(second)
    assert second.accounts["id-one@acme.example"]["isPending"] is False


def test_a_credential_follows_its_content() -> None:
    first = StandIn()
    assert apply(first, credentials=[credential()]) == ["credential Models"]
    assert apply(StandIn(first), credentials=[credential()]) == []
    second = StandIn(first)
    assert apply(second, credentials=[credential("new")]) == ["content of credential Models"]
    assert second.secrets["c-Models"]["data"] == {"apiKey": "new"}
    assert apply(StandIn(second)) == ["removal of credential Models"]
    assert second.secrets == {}


def test_no_secret_is_remembered(tmp_path: Path) -> None:
    apply(StandIn(), credentials=[credential("very-secret")])

    assert "very-secret" not in (tmp_path / "made.json").read_text()
    assert (tmp_path / "made.json").stat().st_mode & 0o777 == 0o600


def test_a_workflow_is_made_active_and_knows_its_credentials() -> None:
    server = StandIn()
    assert apply(server, [flow()], [credential()]) == ["credential Models", "workflow Flow"]
    assert server.flows["flow"]["activeVersionId"] == "v1"
    assert server.flows["flow"]["nodes"][0]["credentials"]["openAiApi"]["id"] == "c-Models"
    assert apply(StandIn(server), [flow()], [credential()]) == []


def test_new_content_replaces_a_workflow_that_nobody_edited() -> None:
    server = StandIn()
    apply(server, [flow()], [credential()])
    assert apply(StandIn(server), [flow("two")], [credential()]) == ["content of workflow Flow"]
    assert server.flows["flow"]["nodes"][0]["content"] == "two"
    assert server.flows["flow"]["activeVersionId"] == "v1+"

    server.flows["flow"]["activeVersionId"] = None  # people switched it off
    apply(StandIn(server), [flow("three")], [credential()])
    assert server.flows["flow"]["activeVersionId"] is None
    assert server.flows["flow"]["nodes"][0]["content"] == "three"


def test_what_people_edited_or_removed_is_theirs() -> None:
    server = StandIn()
    apply(server, [flow()], [credential()])
    server.flows["flow"] |= {"versionId": "theirs", "nodes": []}
    assert apply(StandIn(server), [flow("two")], [credential()]) == []
    assert apply(StandIn(server), [], [credential()]) == []
    assert server.flows["flow"]["versionId"] == "theirs"

    other = StandIn()
    module.MADE.unlink()
    other = StandIn()
    apply(other, [flow()], [credential()])
    del other.flows["flow"]
    assert apply(StandIn(other), [flow("two")], [credential()]) == []
    assert other.flows == {}


def test_a_workflow_that_is_not_wanted_any_more_goes() -> None:
    server = StandIn()
    apply(server, [flow()], [credential()])
    assert apply(StandIn(server), [], [credential()]) == [
        "removal of workflow Flow",
        "deletion of workflow Flow",
    ]
    assert server.flows == {}
