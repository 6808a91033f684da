"""The lab demands the privileges that were measured on the real API (``pve/privileges.json``): these, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from freehold.lab.answers import PveError
from freehold.lab.api.server import dispatch
from freehold.lab.api.upload import SHOWN
from freehold.lab.pveschema import find

from .lab_preconditions import DEBIAN, World
from .lab_replay import make_world, no_resolver

PRIVILEGES = json.loads((Path(__file__).parent / "pve/privileges.json").read_text("utf-8"))
MEASURED = PRIVILEGES["least_privileges"]
USER = "few@pve!token"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    no_resolver(monkeypatch)
    made = make_world(tmp_path)
    made.users()
    made.pool("demo")
    with made.lab.state.change() as data:
        data["users"]["few@pve"] = {"enable": 1, "expire": 0}
        data["tokens"][USER] = {"privsep": 0, "expire": 0, "hash": ""}
    return made


def grant(world: World, least: list[dict[str, Any]]) -> None:
    """The token's user gets one role for each privilege, on its path, without propagation."""
    with world.lab.state.change() as data:
        data["acl"] = []
        for number, entry in enumerate(least):
            role = f"Only{number}"
            data["roles"][role] = [entry["privilege"]]
            data["acl"].append(
                {"path": entry["path"], "type": "user", "ugid": "few@pve", "roleid": role, "propagate": 0}
            )


def prepare(world: World, call: dict[str, Any]) -> dict[str, Any]:
    """The node as the measured call found it; the parameters that it sends."""
    params = dict(call["params"])
    title = call["title"]
    for vmid in (200, 201):
        if world.lab.guests.exists(vmid):
            world.remove(vmid)
    if call["call"] != "POST /nodes/pve/lxc":
        mounts = {"mp0": "guests:0,mp=/d"} if "mp0 removed" in title else {}
        nets = {"net0": "name=eth0,bridge=vmbr0"} if "net0" in title else {}
        world.create(200, **mounts, **nets)
    if "unused0" in title:
        world.volume("vm-200-disk-9.raw", 2**20, 200)
        world.set(200, unused0="guests:200/vm-200-disk-9.raw")
    if call["call"].endswith("/resize"):
        world.remove(200)
        world.create(200, rootfs="guests:1")
    if "nesting=1 (changed)" in title:
        world.set(200, features=None)
    with world.lab.state.change() as data:
        data["pools"].pop("demo2", None)
        data["pools"]["demo"]["vms"] = []
    if "upload" in title:
        folder = world.lab.state.directory / "uploads"
        folder.mkdir(exist_ok=True)
        (folder / "abc").write_bytes(b"x")
        return {"content": "vztmpl", "filename": "p_1_all.tar.gz", "tmpfilename": SHOWN + "abc"}
    if "download.invalid" in str(params.get("url")):
        params["url"] = str(params["url"]).replace("download.invalid", "download.example.com")
    return params


def send(world: World, call: dict[str, Any], params: dict[str, Any]) -> tuple[int, str, Any]:
    method, path = call["call"].split(" ", 1)
    try:
        answer = dispatch(world.lab, USER, method, path, find(method, path), params)
    except PveError as error:
        return error.status, error.message.strip(), None
    if isinstance(answer, str) and answer.startswith("UPID:"):
        world.lab.tasks.wait(answer, 20)
    return 200, "OK", answer


@pytest.mark.parametrize("call", MEASURED, ids=[f"{c['call']} {c['title']}"[:80] for c in MEASURED])
def test_least_privileges_are_enough_and_each_is_needed(world: World, call: dict[str, Any]) -> None:
    """With the measured set the call passes; without any one of it the answer is the measured one."""
    least = call["least"]
    if least and call["title"] == "create with pool: privileges on the pool only (no ACL on /vms)":
        assert {entry["path"].split("/")[1] for entry in least} == {"pool", "storage"}
    params = prepare(world, call)
    grant(world, least)
    status, reason, full = send(world, call, params)
    assert status == (call.get("answer") or {"status": 200})["status"], reason
    assert status != 403
    for missing in least:
        params = prepare(world, call)
        grant(world, [entry for entry in least if entry is not missing])
        status, reason, answer = send(world, call, params)
        measured = missing.get("answer_without_it") or {"status": 403, "reason": "Permission check failed"}
        assert status == measured["status"], (missing, reason)
        if status == 200:
            # a list that is filtered: what the privilege shows is gone
            assert len(str(answer)) < len(str(full)), missing
        elif reason != measured["reason"]:
            # the measurement left other privileges in place, which decides which check refuses first
            assert reason == "Permission check failed" or missing["privilege"] in reason, (reason, measured)


def test_role_that_freehold_prepares_is_enough(world: World) -> None:
    """The role of ``privileges.json`` on a pool creates, changes, starts, stops, clones and removes a container."""
    role = {
        path: names for path, names in PRIVILEGES["freehold_token_role"].items() if path.startswith("on ")
    }
    places = {"{pool}": "demo", "{target}": "guests", "{templates}": "local", "{bridge}": "vmbr0"}
    least = []
    for path, names in role.items():
        for mark, name in places.items():
            path = path.replace(mark, name)
        least += [{"privilege": name, "path": path.removeprefix("on ")} for name in names]
    grant(world, least)
    with world.lab.state.change() as data:
        for entry in data["acl"]:
            entry["propagate"] = 1

    def ok(method: str, path: str, **params: Any) -> Any:
        status, reason, answer = send(world, {"call": f"{method} {path}"}, params)
        assert status == 200, (method, path, reason)
        return answer

    ok(
        "POST",
        "/nodes/pve/lxc",
        vmid=300,
        ostemplate=DEBIAN,
        rootfs="guests:1",
        pool="demo",
        unprivileged=1,
        features="nesting=1",
        net0="name=eth0,bridge=vmbr0,ip=dhcp",
        tags="freehold;client-x",
    )
    ok("PUT", "/nodes/pve/lxc/300/config", memory=1024, cores=2, description="d")
    ok("PUT", "/nodes/pve/lxc/300/resize", disk="rootfs", size="+1G")
    ok("POST", "/nodes/pve/lxc/300/status/start")
    ok("POST", "/nodes/pve/lxc/300/status/stop")
    ok("DELETE", "/nodes/pve/lxc/300", purge=1)
    assert not world.lab.guests.exists(300)
