"""What the recorded scenarios found on the node: their ``precondition`` texts as code, and what was done between steps."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from freehold.lab.access import hash_password, hash_secret
from freehold.lab.context import Call, Lab

from .answer_compare import Comparison

if TYPE_CHECKING:
    from aiohttp import web

    from .lab_replay import Gate
    from .memory_backend_standin import MemoryBackend

PASSWORD = "correct-horse-battery"
DEBIAN = "local:vztmpl/debian-13-standard_13.1-2_amd64.tar.zst"
TINY = "local:vztmpl/tiny_1.0-1_amd64.tar.gz"
DEV_ROLE = [
    "VM.Allocate",
    "VM.Audit",
    "VM.Backup",
    "VM.Clone",
    "VM.Config.CPU",
    "VM.Config.Disk",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.Console",
    "VM.PowerMgmt",
    "VM.Snapshot",
    "VM.Snapshot.Rollback",
    "Datastore.AllocateSpace",
    "Datastore.AllocateTemplate",
    "Datastore.Audit",
    "SDN.Use",
    "Sys.Audit",
    "Pool.Audit",
    "Pool.Allocate",
]
_RECORDED_SUM = "7ce100971f64e7001e8fe5a51973ecdfe1ced42befe7ee8d5fd6219506b5393c"


@dataclass
class World:
    """A lab with the credentials of the recording."""

    app: web.Application
    lab: Lab
    backend: MemoryBackend
    gate: Gate
    comparison: Comparison = field(default_factory=Comparison)
    secrets: dict[str, str] = field(default_factory=dict)
    tickets: dict[str, str] = field(default_factory=dict)
    since: int = 0
    task_of_setup: str = ""
    held: bool = False
    gated: set[str] = field(default_factory=set)

    # the state of the lab, changed as its administrator would

    def users(self) -> None:
        with self.lab.state.change() as data:
            for name in ("dev@pve", "plain@pve"):
                data["users"][name] = {"enable": 1, "expire": 0, "password": hash_password(PASSWORD)}
            data["roles"]["DevRole"] = list(DEV_ROLE)
            data["acl"] = [
                {"path": "/", "type": "user", "ugid": "dev@pve", "roleid": "DevRole", "propagate": 1}
            ]
            for name, privsep, expire in (("full", 0, 0), ("sep", 1, 0), ("old", 0, 1795264539)):
                token = f"dev@pve!{name}"
                self.secrets[token] = f"secret-of-{name}"
                data["tokens"][token] = {
                    "privsep": privsep,
                    "expire": expire,
                    "hash": hash_secret(self.secrets[token]),
                }
        for name in ("root@pam", "dev@pve", "plain@pve"):
            self.tickets[name] = self.lab.access.make_ticket(name)
        self.since = int(time.time())

    def role_of_dev(self, role: str) -> None:
        with self.lab.state.change() as data:
            data["acl"] = [{"path": "/", "type": "user", "ugid": "dev@pve", "roleid": role, "propagate": 1}]

    def user(self, name: str, **values: int) -> None:
        with self.lab.state.change() as data:
            data["users"][name].update(values)

    def pool(self, name: str) -> None:
        with self.lab.state.change() as data:
            data["pools"][name] = {"comment": None, "vms": [], "storage": []}

    def _call(self, function: Callable[[Call], Any], **params: Any) -> Any:
        return function(Call(self.lab, "root@pam", {"node": "pve", **{k: str(v) for k, v in params.items()}}))

    def create(self, vmid: int = 100, **params: Any) -> str:
        from freehold.lab.lxc_create import create

        given = {
            "ostemplate": TINY,
            "rootfs": "guests:0",
            "ostype": "unmanaged",
            "unprivileged": 1,
            "memory": 256,
        }
        if params.get("ostemplate") == DEBIAN:
            del given["ostype"]
        keys = {
            name.replace("_", "-"): value
            for name, value in {**given, "swap": 0, "cores": 1, **params}.items()
        }
        upid = self._call(create, vmid=vmid, **keys)
        self._wait(upid)
        return str(upid)

    def start(self, vmid: int = 100) -> None:
        from freehold.lab.lxc_power import start_task

        self._wait(self._call(lambda call: start_task(call, skip=True), vmid=vmid))

    def remove(self, vmid: int) -> None:
        from freehold.lab.lxc_power import destroy

        config = self.lab.guests.load(vmid)
        config.current.pop("protection", None)
        config.current.pop("lock", None)
        self.lab.guests.save(vmid, config)
        upid = self._call(destroy, vmid=vmid, force=1)
        self._wait(upid)

    def _wait(self, upid: str) -> None:
        self.lab.tasks.wait(upid, 20)
        task = self.lab.tasks.get(upid)
        assert task is not None
        assert task.status in ("OK", "WARNINGS: 1"), task
        # set-up is no part of what the scenario sees in the task list
        self.since = int(time.time())

    def set(self, vmid: int = 100, **values: str | None) -> None:
        config = self.lab.guests.load(vmid)
        for key, value in values.items():
            config.current.pop(key, None)
            if value is not None:
                config.current[key] = value
        self.lab.guests.save(vmid, config)

    def volume(self, name: str, size: int, vmid: int = 100) -> None:
        with self.lab.state.change() as data:
            data["volumes"][f"guests:{vmid}/{name}"] = {
                "vmid": vmid,
                "size": size,
                "format": "raw",
                "ctime": 1,
            }

    def hold(self, kind: str) -> None:
        self.held = True
        self.backend.hold(kind)

    def release(self, kind: str) -> None:
        self.held = False
        self.backend.release(kind)

    # what the requests carry

    def header(self, step: dict[str, Any], name: str, value: str) -> str:
        who = step.get("auth_id", "root@pam")
        if name == "CSRFPreventionToken":
            if step["id"] == "auth-ticket.25":
                return "6B019000:" + "A" * 43
            return self.lab.access.make_csrf("plain@pve" if "another" in value else who)
        ticket = self.tickets.get(who, "")
        if "forged" in value:
            value = "PVEAuthCookie=PVE:root@pam:00000001::" + "A" * 43
        elif "signature changed" in value:
            value = "PVEAuthCookie=" + ticket[:-2] + "xx"
        secret = self.secrets.get(step["id"]) or self.secrets.get(who, "")
        value = value.replace("<TICKET>", ticket).replace("<TOKEN-SECRET>", secret)
        return value.replace("<SECRET>", self.secrets.get("dev@pve!full", ""))

    def secret(self, step: dict[str, Any], value: str) -> str:
        from .lab_replay import UPLOAD

        value = value.replace(_RECORDED_SUM, hashlib.sha256(UPLOAD).hexdigest())
        return value.replace("<PASSWORD>", PASSWORD).replace("<TICKET>", self.tickets["root@pam"])

    def learn(self, step: dict[str, Any], recorded: Any, here: Any) -> None:
        """Remember UPIDs and the secrets of new tokens."""
        one, other = recorded.get("data"), here.get("data")
        if isinstance(one, str) and one.startswith("UPID:") and isinstance(other, str):
            self.comparison.seen[one] = other
        if isinstance(other, dict) and "full-tokenid" in other:
            self.secrets[other["full-tokenid"]] = other["value"]
        match = re.fullmatch(
            r"checksum mismatch: got '(\w+)'.*",
            str((other or {}).get("exitstatus") if isinstance(other, dict) else ""),
        )
        if match:
            self.comparison.seen[_RECORDED_SUM] = match[1]


def _with(*actions: Callable[[World], None]) -> Callable[[World], None]:
    def prepare(world: World) -> None:
        world.users()
        for action in actions:
            action(world)

    return prepare


def _root_only(world: World) -> None:
    world.create()
    world.role_of_dev("Administrator")
    with world.lab.state.change() as data:
        world.secrets["root@pam!ci"] = "secret-of-root-ci"
        data["tokens"]["root@pam!ci"] = {"privsep": 0, "expire": 0, "hash": hash_secret("secret-of-root-ci")}


def _access(world: World) -> None:
    world.pool("demo")
    with world.lab.state.change() as data:
        data["users"]["ben@nope"] = {"enable": 1, "expire": 0}


def _denied(world: World) -> None:
    world.pool("demo")
    world.task_of_setup = world.create()


def _delete(world: World) -> None:
    world.create(memory=256)
    world.create(101)
    world.volume("vm-100-disk-1.raw", 2**30)
    world.volume("vm-100-disk-77.raw", 4 * 2**20)
    world.set(unused0="guests:100/vm-100-disk-1.raw")


def _upload(world: World) -> None:
    for name in ("bad_name_.tar.gz", "small_2.0_all.tar.gz"):
        world.lab.storages.target("local", "vztmpl", name).write_bytes(b"x" * 64)


def _net(address: str) -> str:
    return f"name=eth0,bridge=vmbr0,ip={address}"


BEFORE: dict[str, Callable[[World], None]] = {
    "version-and-index": _with(),
    "auth-ticket": _with(),
    "auth-token": _with(),
    "access-management": _with(_access),
    "permission-denied": _with(_denied),
    "lxc-root-only": _with(_root_only),
    "node-read": _with(),
    "nextid": _with(),
    "unknown-paths": _with(lambda w: w.create()),
    "pools": _with(lambda w: w.create()),
    "storage": _with(),
    "storage-upload": _with(_upload),
    "lxc-create-defaults": _with(),
    "lxc-create-token": _with(lambda w: w.pool("demo")),
    "lxc-create-root": _with(),
    "lxc-create-errors": _with(lambda w: w.create()),
    "lxc-config-stopped": _with(lambda w: w.create(net0=_net("dhcp"))),
    "lxc-config-running": _with(
        lambda w: w.create(
            ostemplate=DEBIAN, hostname="run1", features="nesting=1", net0=_net("192.0.2.10/24")
        ),
        lambda w: w.start(),
    ),
    "lxc-power": _with(lambda w: w.create(ostemplate=DEBIAN, hostname="pow1", features="nesting=1")),
    "lxc-resize": _with(
        lambda w: w.create(
            ostemplate=DEBIAN, features="nesting=1", rootfs="guests:1", mp0="guests:1,mp=/data"
        )
    ),
    "lxc-locked": _with(lambda w: w.create(), lambda w: w.set(lock="backup")),
    "lxc-clone": _with(
        lambda w: w.create(
            ostemplate=DEBIAN,
            hostname="src",
            rootfs="guests:1",
            net0=_net("dhcp"),
            tags="a",
            description="d",
            onboot=1,
            features="nesting=1",
        )
    ),
    "lxc-snapshot-template": _with(lambda w: w.create(), lambda w: w.create(101, rootfs="guests:1")),
    "lxc-vzdump": _with(
        lambda w: w.create(ostemplate=DEBIAN, hostname="bak1", features="nesting=1", tags="x")
    ),
    "lxc-delete": _with(_delete),
    "firewall-guest": _with(lambda w: w.create()),
    "firewall-node-cluster": _with(),
    "tasks": _with(),
}


def _both(*actions: Callable[[World], None]) -> Callable[[World], None]:
    def run(world: World) -> None:
        for action in actions:
            action(world)

    return run


def _later(kind: str) -> Callable[[World], None]:
    """Release while the step waits for the lock of the configuration."""
    import threading

    return lambda world: threading.Timer(0.3, world.release, [kind]).start()


def _keep_old_secret(world: World) -> None:
    world.secrets["auth-token.41"] = world.secrets["dev@pve!ci"]


def _no_pools(world: World) -> None:
    with world.lab.state.change() as data:
        data["pools"].clear()


def _no_more_tokens(world: World) -> None:
    with world.lab.state.change() as data:
        for name in ("dev@pve!e1", "dev@pve!mine"):
            del data["tokens"][name]


def _wait_for_size(world: World) -> None:
    for _ in range(100):
        if "size=2G" in world.lab.guests.load(100).current["mp1"]:
            return
        time.sleep(0.05)


GATES: dict[str, Callable[[World], None]] = {
    "auth-ticket.30": lambda w: w.user("plain@pve", enable=0),
    "auth-ticket.32": lambda w: w.user("plain@pve", enable=1, expire=1),
    "auth-token.37": lambda w: w.user("dev@pve", enable=0),
    "auth-token.38": lambda w: w.user("dev@pve", enable=1),
    "auth-token.39": _no_pools,
    "auth-token.46": _no_more_tokens,
    "auth-token.40": _keep_old_secret,
    "lxc-root-only.62": lambda w: w.role_of_dev("DevRole"),
    "nextid.02": lambda w: w.create() and None,
    "lxc-create-token.01": lambda w: w.hold("create"),
    "lxc-create-token.07": _later("create"),
    "lxc-config-stopped.93": lambda w: w.hold("resize"),
    "lxc-config-stopped.94": _wait_for_size,
    "lxc-config-stopped.98": _both(lambda w: w.release("resize"), lambda w: time.sleep(0.2)),
    "lxc-locked.28": lambda w: w.set(lock=None),
    "lxc-locked.29": _both(lambda w: w.set(lock="backup"), lambda w: w.start()),
    "lxc-snapshot-template.18": lambda w: (
        w.gate.close(),
        w.gated.update(f"lxc-snapshot-template.{n}" for n in (18, 19, 20)),
    )[1],
    "lxc-delete.16": _both(lambda w: w.create(), lambda w: w.volume("vm-100-disk-77.raw", 4 * 2**20)),
    "tasks.12": lambda w: w.hold("create"),
    "tasks.16": lambda w: w.backend.until_held("create"),
    "tasks.17": lambda w: w.release("create"),
}
