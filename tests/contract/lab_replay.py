"""Replays recorded scenarios against the lab's API on a stand-in machine in memory, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.test_utils import TestServer

from freehold.lab.api.server import LAB, create_app
from freehold.lab.backend import Log
from freehold.lab.state import LabState, NodeSpec, StorageSpec

from .answer_compare import Comparison, plain
from .lab_preconditions import BEFORE, GATES, PASSWORD, World
from .memory_backend_standin import MemoryBackend

RECORDINGS = json.loads((Path(__file__).parent / "pve/recordings.json").read_text("utf-8"))
UPLOAD = b"x" * 64
_INTERFACES = (
    {
        "iface": "eth0",
        "type": "eth",
        "method": "manual",
        "method6": "manual",
        "families": ["inet"],
        "active": 1,
        "exists": 1,
    },
    {
        "iface": "vmbr0",
        "type": "bridge",
        "method": "static",
        "method6": "manual",
        "families": ["inet"],
        "address": "192.0.2.1",
        "netmask": "24",
        "cidr": "192.0.2.1/24",
        "active": 1,
        "autostart": 1,
        "priority": 3,
        "bridge_ports": "",
        "bridge_stp": "off",
        "bridge_fd": "0",
    },
)
_PCI = (
    {
        "id": "0000:00:01.0",
        "class": "0xffff00",
        "vendor": "0x1af4",
        "device": "0x1045",
        "subsystem_vendor": "0x1af4",
        "subsystem_device": "0x1045",
        "iommugroup": -1,
    },
)


@dataclass
class Outcome:
    """One recorded call: how the lab's answer differs, or ``None``."""

    id: str
    call: str
    difference: str | None


class Gate:
    """Holds the work of tasks until it is opened, so that a call meets a task that runs."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._event.set()

    def close(self) -> None:
        self._event.clear()

    def open(self) -> None:
        self._event.set()

    @property
    def closed(self) -> bool:
        return not self._event.is_set()

    def guard(self, work: Callable[[Log], None]) -> Callable[[Log], None]:
        def guarded(log: Log) -> None:
            assert self._event.wait(20), "nobody opened the gate"
            work(log)

        return guarded


def make_world(directory: Path) -> World:
    """A fresh lab with the node, the storages and the templates of the recording."""
    storages = {
        "local": StorageSpec("/var/lib/vz", directory / "vz", ("iso", "vztmpl", "backup")),
        "guests": StorageSpec(
            "/var/lib/guests", directory / "guests", ("rootdir", "images", "vztmpl", "snippets")
        ),
    }
    state = LabState(
        directory / "state",
        root_password=PASSWORD,
        storages=storages,
        node=NodeSpec(address="192.0.2.1", dns=("192.0.2.53",), interfaces=_INTERFACES, pci=_PCI, cores=2),
        config_lock_timeout=2.0,
        login_delay=0.0,
        broadcast_interval=0.0,
    )
    backend = MemoryBackend(
        devices=("/dev/fuse", "/dev/null", "/dev/dri/renderD128"), directories=("/srv/share",)
    )
    templates = directory / "vz/template/cache"
    templates.mkdir(parents=True)
    for name in ("debian-13-standard_13.1-2_amd64.tar.zst", "tiny_1.0-1_amd64.tar.gz"):
        (templates / name).write_bytes(b"a template")
    app = create_app(state, backend)
    gate = Gate()
    lab = app[LAB]
    start = lab.tasks.start
    lab.tasks.start = lambda kind, ident, user, work: start(kind, ident, user, gate.guard(work))  # type: ignore[method-assign]
    return World(app=app, lab=lab, backend=backend, gate=gate)


async def replay(scenario: dict[str, Any], world: World) -> list[Outcome]:
    """Send all steps of a scenario in order."""
    world.comparison = Comparison()
    if prepare := BEFORE.get(scenario["name"]):
        prepare(world)
    steps = scenario["steps"]
    outcomes = []
    server = TestServer(world.app)
    await server.start_server()
    try:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            for number, step in enumerate(steps):
                following = steps[number + 1] if number + 1 < len(steps) else None
                await _prepare(world, step, following)
                difference = await _send(world, session, server, step)
                outcomes.append(Outcome(step["id"], f"{step['method']} {step['path']}", difference))
    finally:
        world.gate.open()
        await server.close()
    return outcomes


def _polls_running(step: dict[str, Any] | None) -> bool:
    data = step["body"].get("data") if step and isinstance(step["body"], dict) else None
    return (
        bool(step)
        and "/tasks/" in step["path"]
        and isinstance(data, dict)
        and data.get("status") == "running"
    )


async def _prepare(world: World, step: dict[str, Any], following: dict[str, Any] | None) -> None:
    """Bring the lab to where the recording was before this step."""
    if world.gate.closed and not _polls_running(step) and step["id"] not in world.gated:
        world.gate.open()
    if not world.gate.closed and not world.held:
        await asyncio.to_thread(_settle, world)
    if action := GATES.get(step["id"]):
        await asyncio.to_thread(action, world)
    if not world.gate.closed and not world.held:
        await asyncio.to_thread(_settle, world)
    _make_room(world, step)
    if _polls_running(following):
        world.gate.close()


def _settle(world: World) -> None:
    for task in world.lab.tasks.all():
        if task.running:
            world.lab.tasks.wait(task.upid, 20)


def _make_room(world: World, step: dict[str, Any]) -> None:
    """The recording removed guests silently between attempts to make the same one."""
    new = None
    if step["method"] == "POST" and step["path"] == "/nodes/pve/lxc":
        new = step["params"].get("vmid")
    elif step["method"] == "POST" and step["path"].endswith("/clone"):
        new = step["params"].get("newid")
    if isinstance(new, int) and world.lab.guests.exists(new) and "already exists" not in step["reason"]:
        world.remove(new)


async def _send(
    world: World, session: aiohttp.ClientSession, server: TestServer, step: dict[str, Any]
) -> str | None:
    known = world.comparison
    path = known.substitute(step["path"])
    if step["id"].startswith("permission-denied"):
        path = re.sub(r"UPID:[^/]+", world.task_of_setup, path)
    params = known.substitute(step["params"])
    if "since" in params:
        params["since"] = world.since
    params = {
        name: world.secret(step, str(value)) if isinstance(value, str) else value
        for name, value in params.items()
    }
    headers = {name: world.header(step, name, value) for name, value in step["headers"].items()}
    options: dict[str, Any] = {"headers": headers}
    if step["method"] in ("GET", "DELETE"):
        options["params"] = {name: str(value) for name, value in params.items() if not name.startswith("_")}
    else:
        options["data"] = _body(step, params, headers)
    url = server.make_url("/").join(server.make_url("/api2/json"))
    try:
        async with session.request(step["method"], f"{url}{path}", **options) as answer:
            text = await answer.text()
            status, reason = answer.status, answer.reason or ""
            kind = answer.headers.get("Content-Type")
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        status, reason, text, kind = 0, step["reason"], "", None
    return _difference(world, step, status, reason, text, kind)


def _body(step: dict[str, Any], params: dict[str, Any], headers: dict[str, str]) -> Any:
    kind = headers.get("Content-Type", "")
    if kind == "multipart/form-data":
        del headers["Content-Type"]
        form = aiohttp.FormData(default_to_multipart=True, quote_fields=False)
        for name in params["_order"]:
            if name == "filename":
                file = re.fullmatch(r"<file (.+), 64 bytes>", params[name])
                assert file, params
                form.add_field(name, UPLOAD, filename=file[1], content_type="application/octet-stream")
            else:
                form.add_field(name, params[name])
        return form
    announced = {"unknown-paths.28": "application/json", "unknown-paths.29": "text/plain"}.get(step["id"])
    pairs = [
        (name, str(item))
        for name, value in params.items()
        for item in (value if isinstance(value, list) else [value])
    ]
    if announced:
        headers["Content-Type"] = announced
        return "&".join(f"{name}={value}" for name, value in pairs).encode()
    if kind == "application/json":
        return json.dumps(params).encode()
    return aiohttp.FormData(pairs)() if pairs else b""


def _difference(
    world: World, step: dict[str, Any], status: int, reason: str, text: str, kind: str | None
) -> str | None:
    recorded = step["body"]
    if status != step["status"]:
        return f"status {status} {reason!r} instead of {step['status']} {step['reason']!r}: {text[:300]}"
    known = world.comparison
    if status != 200 and not known.texts(plain(step["reason"]), plain(reason)):
        return f"reason {reason!r} instead of {step['reason']!r}"
    if kind != step["content_type"]:
        return f"content type {kind!r} instead of {step['content_type']!r}"
    if not isinstance(recorded, dict | list):
        return None if plain(str(recorded)) == plain(text) else f"body {text!r} instead of {recorded!r}"
    here = json.loads(text)
    world.learn(step, recorded, here)
    return known.bodies(step["path"], recorded, here)


def no_resolver(monkeypatch: Any) -> None:
    """The recorded node had no name resolution to the outside; nor has this test."""
    real = socket.getaddrinfo

    def lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(host, str) and host.endswith("example.com"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
