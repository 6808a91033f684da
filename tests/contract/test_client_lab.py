"""The client against the lab's API on a real TLS socket: prepare, create, change, grow, restart, destroy."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import freehold.lab
from freehold.lab.api.server import LAB, create_app, serve
from freehold.lab.state import LabState, NodeSpec, StorageSpec
from freehold.proxmox import errors
from freehold.proxmox.apply import apply, digest, execute
from freehold.proxmox.changes import Action, Phase, Plan
from freehold.proxmox.client import Password, PveClient, Token
from freehold.proxmox.observe import Observed, observe
from freehold.proxmox.plan import plan, plan_down
from freehold.proxmox.prepare import Ran, over_session, over_ssh, prepare
from freehold.proxmox.privileges import Needs, missing_privileges
from freehold.proxmox.spec import BindMount, ContainerSpec, DeviceSpec, Interface, VolumeSpec

from .memory_backend_standin import MemoryBackend
from .schema_check import problems

STANDINS = Path(freehold.lab.__file__).parent / "machine/node_files/pve_cli_standin.py"
PASSWORD = "correct-horse-battery"
NEEDS = Needs(
    token="freehold@pve!freehold",
    pool="freehold-acme",
    nodes=("pve",),
    storages=("guests",),
    template_storages=("local",),
    bridges=("vmbr0",),
)
BRIDGE = {
    "iface": "vmbr0",
    "type": "bridge",
    "method": "static",
    "method6": "manual",
    "families": ["inet"],
    "cidr": "10.0.0.1/24",
    "active": 1,
    "exists": 1,
}


class Lab:
    """The lab's API in a thread, with a machine in memory."""

    def __init__(self, directory: Path) -> None:
        templates = directory / "vz/template/cache"
        templates.mkdir(parents=True)
        (templates / "debian-12-standard_12.12-1_amd64.tar.zst").write_bytes(b"a template")
        state = LabState(
            directory / "state",
            root_password=PASSWORD,
            storages={
                "local": StorageSpec("/var/lib/vz", directory / "vz", ("iso", "vztmpl", "backup")),
                "guests": StorageSpec("/var/lib/guests", directory / "guests", ("rootdir", "images")),
            },
            node=NodeSpec(address="10.0.0.1", dns=("10.0.0.53",), interfaces=(BRIDGE,), cores=8),
            config_lock_timeout=2.0,
            login_delay=0.0,
        )
        self.backend = MemoryBackend(devices=("/dev/nvidia0", "/dev/nvidiactl"), directories=("/srv/models",))
        self.app = create_app(state, self.backend)
        self.lab = self.app[LAB]
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.socket = directory / "api.sock"
        self._runner = self._do(serve(self.app, port=0, unix_socket=self.socket))
        self.port = next(a[1] for a in self._runner.addresses if isinstance(a, tuple))
        self.certificate = directory / "state/pve-ssl.pem"
        self.sent: list[tuple[str, str]] = []

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def client(self, credential: Token | Password) -> PveClient:
        """A client whose requests are held against the real schema before they are sent."""
        made = PveClient(f"https://127.0.0.1:{self.port}", credential, ca_file=self.certificate)
        send = made._send

        def checked(method: str, path: str, params: dict[str, str | int], doing: str) -> Any:
            assert not problems(
                method, path.replace("%3A", ":").replace("%40", "@").replace("%21", "!"), params
            )
            self.sent.append((method, path))
            return send(method, path, params, doing)

        made._send = checked  # type: ignore[method-assign]
        return made

    def on_node(self, argv: list[str]) -> Ran:
        """Run a command of the lab's node (the stand-ins of pct and pvesh), as root there."""
        command = self.socket.with_name(argv[0])
        if not command.exists():
            command.symlink_to(STANDINS)
        done = subprocess.run(
            [sys.executable, str(command), *argv[1:]],
            env={**os.environ, "FREEHOLD_LAB_SOCKET": str(self.socket)},
            capture_output=True,
            text=True,
            check=False,
        )
        return Ran(status=done.returncode, out=done.stdout, error=done.stderr)

    def close(self) -> None:
        self._do(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


@pytest.fixture
def root(lab: Lab) -> PveClient:
    return lab.client(Password("root@pam", PASSWORD))


@pytest.fixture
def client(lab: Lab, root: PveClient) -> PveClient:
    secret = prepare(over_session(root), NEEDS).secret
    assert secret
    return lab.client(Token(NEEDS.token, secret))


def spec(number: int = 0, **changes: Any) -> ContainerSpec:
    base: dict[str, Any] = {
        "node": "pve",
        "vmid": 1000 + number,
        "hostname": f"acme-h{number}",
        "template": "local:vztmpl/debian-12-standard_12.12-1_amd64.tar.zst",
        "storage": "guests",
        "disk": 2,
        "cores": 1,
        "memory": 512,
        "interfaces": (
            Interface(
                name="eth0",
                bridge="vmbr0",
                address=f"10.0.0.{100 + number}/24",
                gateway="10.0.0.1",
                firewall=True,
            ),
        ),
        "nameservers": ("10.0.0.53",),
        "startup_order": 10 + number,
        "tags": ("freehold", "client-acme"),
        "description": "Made by Freehold.\nDo not edit.",
        "pool": "freehold-acme",
        "ssh_public_keys": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKYUhzvbPB8oTTcGXJQZHgnlcOTWdOnDkBPKYdyd7jV freehold",
    }
    return ContainerSpec.model_validate({**base, **changes})


def look(client: PveClient, *specs: ContainerSpec) -> Observed:
    return observe(client, specs, owner="acme", pool="freehold-acme", nodes=["pve"])


def up(client: PveClient, *specs: ContainerSpec, root: PveClient | None = None) -> Plan:
    made = plan(specs, look(client, *specs))
    apply(client, made, root=root)
    return made


def test_prepare_grants_what_is_needed_and_then_nothing_more(
    lab: Lab, root: PveClient, client: PveClient
) -> None:
    assert missing_privileges(client, NEEDS) == []
    again = prepare(over_session(root), NEEDS)
    assert again.steps == ()
    assert again.secret is None
    renewed = prepare(over_session(root), NEEDS, new_secret=True)
    assert renewed.secret
    assert missing_privileges(lab.client(Token(NEEDS.token, renewed.secret)), NEEDS) == []
    with pytest.raises(errors.AuthenticationError):
        client.get("/version")


def test_what_prepare_grants_is_the_least(lab: Lab, root: PveClient, client: PveClient) -> None:
    everything = spec(volumes=(VolumeSpec(path="/data", storage="guests", size=1),), protection=True)
    up(client, everything)
    for role in (
        "FreeholdContainers",
        "FreeholdStorage",
        "FreeholdNetwork",
        "FreeholdTemplates",
        "FreeholdAudit",
    ):
        with lab.lab.state.change() as data:
            kept, data["roles"][role] = data["roles"][role], []
        assert {m.path for m in missing_privileges(client, NEEDS)}, role
        with lab.lab.state.change() as data:
            data["roles"][role] = kept
    with lab.lab.state.change() as data:
        data["roles"]["FreeholdNetwork"] = []
    with pytest.raises(errors.MissingPrivilegeError) as caught:
        up(client, everything, spec(1))
    assert caught.value.path == "/sdn/zones/localnetwork/vmbr0"
    assert caught.value.privileges == ("SDN.Use",)


def test_a_container_is_made_changed_grown_and_destroyed(
    lab: Lab, client: PveClient, root: PveClient
) -> None:
    first = spec(volumes=(VolumeSpec(path="/data", storage="guests", size=1),), protection=True)
    made = up(client, first)
    assert [change.action for change in made.changes] == [Action.CREATE, Action.START]
    assert plan([first], look(client, first)).empty
    mac = look(client, first).guests[1000].config["net0"].split("hwaddr=")[1][:17]

    second = first.model_copy(
        update={
            "memory": 768,
            "cores": 2,
            "disk": 3,
            "nameservers": ("9.9.9.9",),
            "tags": ("freehold", "client-acme", "gpu"),
            "interfaces": (Interface(name="eth0", bridge="vmbr0", address="10.0.0.150/24", vlan=7),),
            "volumes": (
                VolumeSpec(path="/data", storage="guests", size=2),
                VolumeSpec(path="/more", storage="guests", size=1),
            ),
            "mounts": (BindMount(path="/models", source="/srv/models", read_only=True),),
            "devices": (DeviceSpec(path="/dev/nvidia0", gid=2107, mode="0660"),),
            "features": {"nesting": "1", "keyctl": "1"},
        }
    )
    with pytest.raises(errors.RootOnlyError):
        up(client, second)
    up(client, second, root=root)
    assert plan([second], look(client, second)).empty
    config = look(client, second).guests[1000].config
    assert mac in config["net0"]
    assert config["dev0"] == "/dev/nvidia0,gid=2107,mode=0660"
    assert "size=3G" in config["rootfs"]
    assert "size=2G" in config["mp0"]
    assert config["mp2"] == "/srv/models,mp=/models,ro=1"

    third = second.model_copy(update={"devices": (), "mounts": (), "features": {"nesting": "1"}})
    up(client, third, root=root)
    assert plan([third], look(client, third)).empty
    config = look(client, third).guests[1000].config
    assert config["protection"] == "1"
    assert not {"dev0", "mp2"} & set(config)

    shrunk = third.model_copy(update={"disk": 1, "storage": "other"})
    impossible = plan([shrunk], look(client, shrunk))
    assert impossible.empty
    assert all(diff.remedy for _, diff in impossible.impossible)

    apply(client, plan_down(look(client)))
    assert root.get("/nodes/pve/lxc") == []
    assert plan_down(look(client)).empty


def test_eight_containers_are_observed_and_planned_with_ten_calls(client: PveClient) -> None:
    specs = [spec(number) for number in range(8)]
    up(client, *specs)
    before = client.calls
    assert plan(specs, look(client, *specs)).empty
    assert client.calls - before == 10


@pytest.mark.parametrize("what", ["vmid", "name", "address"])
def test_a_foreign_guest_in_the_way_stops_everything(client: PveClient, root: PveClient, what: str) -> None:
    params = {
        "vmid": 1000 if what == "vmid" else 500,
        "hostname": "acme-h0" if what == "name" else "theirs",
        "net0": f"name=eth0,bridge=vmbr0,ip=10.0.0.{100 if what == 'address' else 9}/24",
        "ostemplate": "local:vztmpl/debian-12-standard_12.12-1_amd64.tar.zst",
        "rootfs": "guests:1",
        "unprivileged": 1,
    }
    root.wait(root.call("POST", "/nodes/pve/lxc", params))
    with pytest.raises(errors.ForeignGuestError) as caught:
        look(client, spec())
    assert str(params["vmid"]) in caught.value.message
    assert len(root.get("/nodes/pve/lxc")) == 1
    assert plan_down(look(client)).empty


def test_tags_alone_make_no_container_the_clients(client: PveClient, root: PveClient) -> None:
    up(client, spec())
    root.call("POST", "/pools", {"poolid": "theirs"})
    root.call("PUT", "/pools", {"poolid": "theirs", "vms": 1000, "allow-move": 1})
    with pytest.raises(errors.ForeignGuestError, match="is in pool 'theirs' instead of 'freehold-acme'"):
        look(client, spec())
    assert plan_down(look(client)).empty
    root.call("PUT", "/pools", {"poolid": "theirs", "vms": 1000, "delete": 1})
    assert [change.calls[0].path for change in plan([spec()], look(client, spec())).changes] == ["/pools"]


def test_a_container_that_lost_its_tags_is_named_with_the_way_back(
    client: PveClient, root: PveClient
) -> None:
    up(client, spec())
    root.call("PUT", "/nodes/pve/lxc/1000/config", {"tags": "mine"})
    with pytest.raises(errors.ForeignGuestError, match="pct set 1000 --tags 'freehold;client-acme'"):
        look(client, spec())


def test_a_run_that_was_cut_off_while_creating_is_awaited(lab: Lab, client: PveClient) -> None:
    wanted = spec()
    create = plan([wanted], look(client, wanted)).changes[0].calls[0]
    lab.backend.hold("create")
    client.call(create.method, create.path, create.params)
    threading.Timer(0.5, lambda: lab.backend.release("create")).start()
    observed = look(client, wanted)
    assert [change.action for change in plan([wanted], observed).changes] == [Action.START]


def test_what_a_crashed_creation_left_locked_is_removed_by_root_and_made_anew(
    lab: Lab, client: PveClient
) -> None:
    wanted = spec()
    up(client, wanted)
    config = lab.lab.guests.load(1000)
    config.current.clear()
    config.current["lock"] = "create"
    lab.lab.guests.save(1000, config)
    lab.backend.stop(1000, print)
    made = plan([wanted], look(client, wanted))
    assert [step.argv() for step in made.root_steps(Phase.UNLOCK)] == [
        ["pct", "unlock", "1000"],
        ["pct", "destroy", "1000", "--purge", "1"],
    ]
    assert [change.action for change in made.changes] == [Action.DESTROY, Action.CREATE, Action.START]


def test_a_change_by_somebody_else_since_the_plan_is_not_overwritten(
    client: PveClient, root: PveClient
) -> None:
    up(client, spec())
    wanted = spec(memory=768)
    made = plan([wanted], look(client, wanted))
    root.call("PUT", "/nodes/pve/lxc/1000/config", {"cores": 3})
    with pytest.raises(errors.StaleDigestError):
        apply(client, made)
    up(client, wanted)
    assert plan([wanted], look(client, wanted)).empty


def test_down_spares_a_container_that_lost_its_tags_since(client: PveClient, root: PveClient) -> None:
    up(client, spec())
    down = plan_down(look(client))
    root.call("PUT", "/nodes/pve/lxc/1000/config", {"tags": "somebody-else"})
    with pytest.raises(errors.ForeignGuestError):
        apply(client, down)
    assert len(root.get("/nodes/pve/lxc")) == 1


def test_a_locked_container_says_so(client: PveClient, root: PveClient) -> None:
    up(client, spec())
    root.call("PUT", "/nodes/pve/lxc/1000/config", {"lock": "backup"})
    wanted = spec(memory=768)
    made = plan([wanted], look(client, wanted))
    assert any("locked (backup)" in note for note in made.notes)
    with pytest.raises(errors.GuestLockedError):
        apply(client, made)


def test_a_missing_template_and_a_missing_device_are_named(client: PveClient, root: PveClient) -> None:
    with pytest.raises(errors.NoSuchTemplateError):
        up(client, spec(template="local:vztmpl/none.tar.zst"))
    with pytest.raises(errors.NoSuchDeviceError):
        up(client, spec(devices=(DeviceSpec(path="/dev/kfd"),)), root=root)


def test_one_failing_container_does_not_stop_the_others(client: PveClient) -> None:
    broken = spec(1, template="local:vztmpl/none.tar.zst")
    with pytest.raises(errors.NoSuchTemplateError):
        up(client, spec(0), broken, spec(2))
    assert set(look(client, spec(0), spec(2)).guests) == {1000, 1002}


def test_a_plan_survives_json(client: PveClient) -> None:
    made = plan([spec()], look(client, spec()))
    assert Plan.model_validate_json(made.model_dump_json()) == made
    assert json.dumps(made.render())


def test_root_on_the_node_prepares_and_passes_devices_with_commands(lab: Lab) -> None:
    root = over_ssh(lab.on_node)
    done = prepare(root, NEEDS)
    assert done.secret
    assert prepare(root, NEEDS).steps == ()
    assert all(done.secret not in step.argv() for step in done.steps)
    client = lab.client(Token(NEEDS.token, done.secret))
    assert missing_privileges(client, NEEDS) == []

    wanted = spec(
        devices=(DeviceSpec(path="/dev/nvidia0", gid=2107), DeviceSpec(path="/dev/nvidiactl", gid=2107))
    )
    made = plan([wanted], look(client, wanted))
    apply(client, made, [Phase.CONFIGURE])
    for step in made.root_steps():
        ran = lab.on_node(step.argv(digest(client, "/nodes/pve/lxc/1000")))
        assert ran.status == 0, ran.error
    apply(client, made, [Phase.POWER])
    assert plan([wanted], look(client, wanted)).empty

    fewer = spec(devices=(DeviceSpec(path="/dev/nvidiactl", gid=2107),))
    made = plan([fewer], look(client, fewer))
    stale = made.root_steps()[0].argv("0" * 40)
    assert "detected modified configuration" in lab.on_node(stale).error
    for step in made.root_steps():
        assert lab.on_node(step.argv(digest(client, "/nodes/pve/lxc/1000"))).status == 0
    apply(client, made, [Phase.POWER])
    assert plan([fewer], look(client, fewer)).empty
    config = look(client, fewer).guests[1000].config
    assert [key for key in config if key.startswith("dev")] == ["dev1"]


def test_what_root_on_the_node_refuses_is_said(lab: Lab) -> None:
    with pytest.raises(errors.PveError) as caught:
        over_ssh(lab.on_node)("POST", "/access/roles", {"roleid": "X", "privs": "VM.Fly"})
    assert "invalid privilege" in str(caught.value.answer)


def test_what_happened_in_the_meantime_counts_as_done(client: PveClient, root: PveClient) -> None:
    wanted = spec()
    made = plan([wanted], look(client, wanted))
    apply(client, made, [Phase.CONFIGURE])
    root.wait(root.call("POST", "/nodes/pve/lxc/1000/status/start"))
    assert not apply(client, made, [Phase.POWER])[1000].changed

    grown = spec(disk=3)
    resize = plan([grown], look(client, grown)).changes[0].calls[0]
    assert execute(client, resize).changed
    again = resize.model_copy(update={"reread_digest": True})
    assert not execute(client, again).changed

    down = plan_down(look(client))
    assert apply(client, down)[1000].changed
    assert not apply(client, down)[1000].changed
