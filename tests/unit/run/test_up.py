"""What single stages of ``up`` ask of engines, of SSH and of the API."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from tenacity import stop_after_attempt

from freehold import ssh
from freehold.events import Event, Stage, Status
from freehold.layout.types import Host
from freehold.proxmox.apply import Outcome
from freehold.proxmox.changes import Action, ApiCall, Change, FieldDiff, Phase, Plan, RootStep
from freehold.proxmox.errors import NoSuchDeviceError
from freehold.run import children, roots, up
from freehold.run.context import Client
from freehold.run.folder import RunFolder
from freehold.run.stages import Run, StageFailedError

from .conftest import Open

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIPEGnOW3Bd1tRQmi1GHn8wrBWv8Cvg4zvGzQ2ZqDwH3c"

GPU_STACK: dict[str, Any] = {
    "nodes": {"pve": {"address": "192.0.2.5", "driver": "administrator", "gpus": [{"pci": "0000:01:00.0"}]}},
    "hosts": {"postgres": {"gpus": [0]}},
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What engines are asked; they have nothing to do."""
    documents: list[dict[str, Any]] = []

    def play(_module: str, document: dict[str, Any], **_: Any) -> int:
        documents.append(document)
        return 0

    monkeypatch.setattr(children, "run", play)
    return documents


def run_of(client: Client, tmp_path: Path, events: list[Event] | None = None) -> Run:
    client.ensure_secrets()
    sink: list[Event] = [] if events is None else events
    return Run(client, RunFolder(tmp_path, "up"), sink.append)


def test_the_node_keeps_the_gpus_of_services_that_are_left_out(
    open_client: Open, tmp_path: Path, asked: list[dict[str, Any]]
) -> None:
    client = open_client(**GPU_STACK)
    client = Client(client.loaded, only="caddy")
    up._node(run_of(client, tmp_path))
    devices = {host["name"]: len(host["devices"]) for host in asked[0]["layout"]["hosts"]}
    assert set(devices) == {"caddy", "postgres"}
    assert devices["postgres"] > 0


def test_the_node_gets_no_template_for_services_that_are_left_out(
    open_client: Open, tmp_path: Path, asked: list[dict[str, Any]]
) -> None:
    client = open_client(nodes=GPU_STACK["nodes"])
    client = Client(client.loaded, only="caddy")
    up._node(run_of(client, tmp_path))
    assert [host["name"] for host in asked[0]["layout"]["hosts"]] == ["caddy"]


def created(log: dict[str, list[str]]) -> Any:
    """An API that knows the log of each container's creation, by VMID."""

    class Api:
        calls = 0

        def get(self, path: str, params: dict[str, Any], doing: str = "") -> Any:
            return [{"upid": f"UPID:{params['vmid']}", "starttime": 1}]

        def task_log(self, upid: str) -> list[str]:
            return log[upid.removeprefix("UPID:")]

    return Api()


@pytest.fixture
def reachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file per address: what a fake ``ssh-keyscan`` on PATH prints for it."""
    folder, tools = tmp_path / "shown", tmp_path / "tools"
    folder.mkdir()
    tools.mkdir()
    (tools / "ssh-keyscan").write_text(
        f'#!/bin/sh\nfor last; do :; done\necho "$last" >> {tmp_path}/scanned\ncat "{folder}/$last" 2>/dev/null\n'
    )
    (tools / "ssh-keyscan").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setattr(ssh, "stop_after_delay", lambda _: stop_after_attempt(2))
    return folder


def key(number: int) -> str:
    return KEY.replace("Bd1t", f"Bd{number}t")


def test_one_host_that_does_not_answer_keeps_no_other_from_being_pinned(
    open_client: Open, tmp_path: Path, reachable: Path
) -> None:
    """The first in order is the one that fails, and both that fail are named."""
    client = open_client(services={"openwebui": None})
    logs = {str(host.vmid): [ssh.fingerprint(key(2))] for host in client.layout.hosts}
    client.__dict__["api"] = created(logs)
    hosts = client.layout.hosts
    good = hosts[-1]
    (reachable / str(good.address)).write_text(f"{good.address} ssh-ed25519 {key(2)}\n")
    events: list[Event] = []
    with pytest.raises(StageFailedError) as caught:
        up._start(run_of(client, tmp_path, events), Plan(client="acme"))
    assert all(host.name in caught.value.message for host in hosts[:-1])
    assert good.name not in caught.value.message
    assert ssh.pinned(client.directory / "known_hosts", str(good.address))
    failed = {event.host for event in events if event.status is Status.FAILED and event.host}
    assert failed == {host.name for host in hosts[:-1]}


def test_a_host_that_was_just_started_is_waited_for(
    client: Client, tmp_path: Path, reachable: Path, asked: list[dict[str, Any]]
) -> None:
    lines = []
    for host in client.layout.hosts:
        line = f"{host.address} ssh-ed25519 {KEY}\n"
        (reachable / str(host.address)).write_text(line)
        lines.append(line)
    (client.directory / "known_hosts").write_text("".join(lines))
    caddy = client.layout.host("caddy")
    call = ApiCall(method="POST", path=f"/nodes/pve/lxc/{caddy.vmid}/status/reboot")
    restart = Change(
        action=Action.RESTART,
        phase=Phase.POWER,
        node="pve",
        vmid=caddy.vmid,
        host="acme-caddy",
        calls=(call,),
    )
    client.secrets.set("proxmox.token", "secret")
    up._start(run_of(client, tmp_path), Plan(client="acme", changes=(restart,)))
    assert (tmp_path / "scanned").read_text().split() == [str(caddy.address)]


def test_keys_of_hosts_that_change_places_are_not_kept(client: Client, tmp_path: Path) -> None:
    """After a change of network.first, an address can be that of another host of the same client."""
    client.ensure_secrets()
    caddy, postgres = client.layout.host("caddy"), client.layout.host("postgres")
    pins = client.directory / "known_hosts"
    pins.write_text(f"{caddy.address} ssh-ed25519 {KEY}\n{postgres.address} ssh-ed25519 {KEY}\n")

    def moved(host: Host, old: str) -> Change:
        diff = FieldDiff(
            field="net0", old=f"name=eth0,bridge=vmbr0,ip={old}/24", new=f"name=eth0,ip={host.interface}"
        )
        return Change(
            action=Action.UPDATE, phase=Phase.CONFIGURE, node="pve", vmid=host.vmid, host="x", diffs=(diff,)
        )

    # postgres had the address that caddy gets; the one of postgres was somebody's change by hand
    changes = (moved(caddy, "10.86.0.7"), moved(postgres, str(caddy.address)))
    up._forget_keys(client, Plan(client="acme", changes=changes))
    assert not ssh.pinned(pins, str(caddy.address))
    assert ssh.pinned(pins, str(postgres.address))


def test_a_container_that_is_made_anew_gets_a_new_key(client: Client) -> None:
    caddy = client.layout.host("caddy")
    pins = client.directory / "known_hosts"
    pins.write_text(f"{caddy.address} ssh-ed25519 {KEY}\n")
    made = Change(action=Action.CREATE, phase=Phase.CONFIGURE, node="pve", vmid=caddy.vmid, host="acme-caddy")
    up._forget_keys(client, Plan(client="acme", changes=(made,)))
    assert not ssh.pinned(pins, str(caddy.address))


def test_a_root_step_that_fails_in_a_session_keeps_no_other_from_being_made(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def apply_change(_api: Any, change: Change, *, root: Any) -> Outcome:
        if change.host == "acme-caddy":
            raise NoSuchDeviceError("A device node is not there.", remedy="Load its driver")
        made.append(change.vmid)
        return Outcome(changed=True)

    monkeypatch.setattr(roots, "apply_change", apply_change)
    monkeypatch.setattr(roots, "root_session", lambda _: contextlib.nullcontext())
    client.__dict__["api"] = created({})
    changes = tuple(
        Change(
            action=Action.UPDATE,
            phase=Phase.ROOT,
            node="pve",
            vmid=host.vmid,
            host=host.hostname,
            root_steps=(RootStep(node="pve", vmid=host.vmid, options={"dev0": "/dev/nvidia0"}),),
        )
        for host in (client.layout.host("caddy"), client.layout.host("postgres"))
    )
    with pytest.raises(StageFailedError) as caught:
        roots.run_steps(
            run_of(client, tmp_path), Plan(client="acme", changes=changes), Phase.ROOT, Stage.ROOT_STEPS
        )
    assert made == [client.layout.host("postgres").vmid]
    assert "on caddy" in caught.value.message
    assert caught.value.remedy == "Load its driver"
