"""Commands of ``@pve`` hosts: what they look like, what they hide, and what a refusal becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pyinfra.api import Config, Inventory, State
from pyinfra.api.exceptions import ConnectError

from freehold.proxmox.changes import Action, ApiCall, Change, Phase, Plan
from freehold.proxmox.errors import GuestLockedError
from freehold.pyinfra import operations, session
from freehold.pyinfra.connector import PveConnector, api, parse

UPID = "UPID:pve:0001:0002:0003:vzcreate:1010:freehold@pve!lab:"


class Api:
    """A client that answers from a table and notes what it was asked (a stand-in, for these tests)."""

    def __init__(self, answers: dict[tuple[str, str], Any]) -> None:
        self.answers, self.calls = answers, []
        self.calls: list[tuple[str, str, dict[str, Any]]]

    def call(self, method: str, path: str, params: Any = None, *, doing: str | None = None) -> Any:
        self.calls.append((method, path, dict(params or {})))
        answer = self.answers[method, path]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def get(self, path: str, params: Any = None, *, doing: str | None = None) -> Any:
        return self.call("GET", path, params, doing=doing)

    def wait(self, upid: str, **_: Any) -> Any:
        assert upid == UPID
        return type("Done", (), {"upid": upid, "warnings": ("WARN: nesting is off",)})()


def run(client: Api, command: Any) -> tuple[bool, list[str], list[str]]:
    session.share(session.Session(lambda: client, lambda: Plan(client="lab")))  # type: ignore[arg-type, return-value]
    state = State(Inventory((["@pve/pve/1010"], {})), Config())
    host = next(iter(state.inventory))
    try:
        host.connect()
        ok, output = host.run_shell_command(command)
    finally:
        session.share(None)
    return ok, output.stdout_lines, output.stderr_lines


def test_a_call_survives_the_way_through_a_command() -> None:
    call = ApiCall(
        method="PUT",
        path="/nodes/pve/lxc/1010/config",
        params={"cores": 2, "description": "a {b} 'c' \"d\"\nnext"},
        reread_digest=True,
        owned_by="lab",
    )

    verb, path, params, conditions = parse(api(call).get_raw_value())

    assert (verb, path, params) == ("PUT", "/nodes/pve/lxc/1010/config", call.params)
    assert conditions == ["reread-digest", "owned-by=lab"]


def test_a_rule_of_the_firewall_is_found_again_after_the_way_through_a_command() -> None:
    path = "/nodes/pve/lxc/1010/firewall/rules"
    rule = "in ACCEPT tcp 5432 from 10.0.0.7 (freehold: postgres sql for n8n)"
    listed = [
        {"pos": 0, "type": "in", "action": "DROP", "enable": 1, "digest": "d" * 40},
        {"pos": 1, "type": "in", "action": "ACCEPT", "proto": "tcp", "dport": "5432", "source": "10.0.0.7"}
        | {"comment": "freehold: postgres sql for n8n", "enable": 1, "digest": "d" * 40},
    ]
    client = Api({("GET", path): listed, ("DELETE", f"{path}/1"): None})

    ok, _, err = run(client, api(ApiCall(method="DELETE", path=path, rule=rule)))

    assert ok, err
    assert client.calls[-1] == ("DELETE", f"{path}/1", {"digest": "d" * 40})


def test_a_password_is_never_shown() -> None:
    command = api(ApiCall(method="POST", path="/nodes/pve/lxc", params={"vmid": 1010, "password": "hunter2"}))

    assert "hunter2" not in str(command) + repr(command)
    assert "hunter2" in command.get_raw_value()


@pytest.mark.parametrize("text", ["ls -l", "PATCH /x", "GET nodes", ""])
def test_anything_but_a_call_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no call of the Proxmox VE API"):
        parse(text)


@pytest.mark.parametrize("name", ["", "pve", "pve/", "/1010", "pve/ten"])
def test_a_name_must_be_node_and_vmid(name: str) -> None:
    with pytest.raises(ConnectError, match="@pve/<node>/<vmid>"):
        list(PveConnector.make_names_data(name))


def test_a_call_is_done_when_its_task_is() -> None:
    client = Api({("POST", "/nodes/pve/lxc"): UPID})

    ok, out, _ = run(client, api(ApiCall(method="POST", path="/nodes/pve/lxc", params={"vmid": 1010})))

    assert (ok, out) == (True, ["WARN: nesting is off"])
    assert client.calls == [("POST", "/nodes/pve/lxc", {"vmid": 1010})]


def test_a_refusal_is_an_error_of_ours_as_json() -> None:
    path = "/nodes/pve/lxc/1010/status/start"
    client = Api({("POST", path): GuestLockedError("The container is locked (backup).", remedy="Wait.")})

    ok, _, err = run(client, api(ApiCall(method="POST", path=path)))

    assert not ok
    error = json.loads(err[-1])
    assert error["error"] == "GuestLockedError"
    assert error["remedy"] == "Wait."


def test_without_freeholds_inventory_there_is_no_session() -> None:
    session.share(None)
    state = State(Inventory((["@pve/pve/1010"], {})), Config())

    with pytest.raises(ConnectError, match=r"deploys/inventory\.py"):
        next(iter(state.inventory)).connect(show_errors=False, raise_exceptions=True)


def change(action: Action, phase: Phase, vmid: int, call: ApiCall) -> Change:
    return Change(action=action, phase=phase, node="pve", vmid=vmid, host="x", calls=(call,))


def test_operations_yield_the_calls_of_their_phase_and_container(commands: Any) -> None:
    create = ApiCall(method="POST", path="/nodes/pve/lxc", params={"vmid": 1010})
    start = ApiCall(method="POST", path="/nodes/pve/lxc/1010/status/start")
    other = ApiCall(method="POST", path="/nodes/pve/lxc/1020/status/start")
    plan = Plan(
        client="lab",
        changes=(
            change(Action.CREATE, Phase.CONFIGURE, 1010, create),
            change(Action.START, Phase.POWER, 1010, start),
            change(Action.START, Phase.POWER, 1020, other),
        ),
    )
    session.share(session.Session(lambda: Api({}), lambda: plan))  # type: ignore[arg-type, return-value]
    try:
        assert commands(operations.container, {}, vmid=1010) == ['POST /nodes/pve/lxc {"vmid": 1010}']
        assert commands(operations.power, {}, vmid=1010) == ["POST /nodes/pve/lxc/1010/status/start {}"]
        assert commands(operations.container, {}, vmid=1020) == []
    finally:
        session.share(None)
