"""The lab after its process was killed, what it writes, and where it listens."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import aiohttp
import pytest

import freehold.lab.api.calls  # noqa: F401 - registers the handlers
from freehold.errors import BadInputError
from freehold.lab.answers import PveError
from freehold.lab.api.certificate import fingerprint
from freehold.lab.api.server import create_app, dispatch, serve
from freehold.lab.context import Lab
from freehold.lab.guests import Config
from freehold.lab.pveschema import find
from freehold.lab.state import LabState, StorageSpec

from .lab_preconditions import PASSWORD, TINY, World
from .lab_replay import make_world
from .memory_backend_standin import MemoryBackend

KILLED = """
import sys, time
from pathlib import Path
from tests.contract.lab_replay import make_world
from tests.contract.lab_preconditions import World
world = make_world(Path(sys.argv[1]))
world.users()
world.create(100)
world.hold("create")
from freehold.lab.lxc_create import create
from freehold.lab.context import Call
create(Call(world.lab, "root@pam", {
    "node": "pve", "vmid": "101", "ostemplate": "local:vztmpl/tiny_1.0-1_amd64.tar.gz", "rootfs": "guests:1"}))
while "guests:101/vm-101-disk-0.raw" not in world.lab.state.data["volumes"]:
    time.sleep(0.01)
print("half made", flush=True)
time.sleep(60)
"""


def reopen(directory: Path, **options: object) -> Lab:
    """A new process's view of the same directory."""
    storages = {
        "local": StorageSpec("/var/lib/vz", directory / "vz", ("iso", "vztmpl", "backup")),
        "guests": StorageSpec("/var/lib/guests", directory / "guests", ("rootdir", "images")),
    }
    return Lab(LabState(directory / "state", root_password=PASSWORD, storages=storages), MemoryBackend())


def call(lab: Lab, method: str, path: str, **params: object) -> object:
    return dispatch(lab, "root@pam", method, path, find(method, path), dict(params))


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = make_world(tmp_path)
    made.users()
    return made


def test_killed_process_leaves_nothing_half_made(tmp_path: Path) -> None:
    """SIGKILL while a container is made: the next process keeps what was whole and removes the rest."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half made\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    lab = reopen(tmp_path)
    assert lab.guests.ids() == [100]
    assert not [volume for volume in lab.state.data["volumes"] if ":101/" in volume]
    task = lab.tasks.all()[0]
    assert (task.type, task.id, task.status) == ("vzcreate", "101", "unexpected status")
    assert lab.tasks.log_lines(task.upid)[-1] == "TASK ERROR: unexpected status"
    assert call(lab, "GET", "/cluster/nextid") == "101"


def test_state_is_found_again(world: World, tmp_path: Path) -> None:
    """Guests, rights, tickets and tasks outlive the process."""
    upid = world.create(100, tags="b;a")
    before = call(world.lab, "GET", "/nodes/pve/lxc/100/config")
    ticket = world.lab.access.make_ticket("dev@pve")
    lab = reopen(tmp_path)
    assert call(lab, "GET", "/nodes/pve/lxc/100/config") == before
    assert lab.access.verify_ticket(ticket) == "dev@pve"
    assert lab.access.verify_token("dev@pve!full=secret-of-full") == "dev@pve!full"
    assert call(lab, "GET", f"/nodes/pve/tasks/{upid}/status")["exitstatus"] == "OK"  # type: ignore[index]


def test_lock_of_a_clone_that_was_killed_is_taken_away(world: World, tmp_path: Path) -> None:
    """The source of a clone is locked while it is copied; nobody else could unlock it."""
    world.create(100, rootfs="guests:1")
    world.gate.close()
    call(world.lab, "POST", "/nodes/pve/lxc/100/clone", newid=101)
    assert world.lab.guests.load(100).current["lock"] == "disk"
    lab = reopen(tmp_path)
    world.gate.open()
    assert lab.guests.ids() == [100]
    assert "lock" not in lab.guests.load(100).current


def test_files_are_private_and_hold_no_secret(world: World, tmp_path: Path) -> None:
    """State, logs and key are readable by their owner alone; passwords and token secrets stand nowhere."""
    made = call(world.lab, "POST", "/access/users/dev@pve/token/new")
    world.create(100, password="a-root-password")
    fingerprint(world.lab.state.directory)
    for file in (tmp_path / "state").rglob("*"):
        assert file.stat().st_mode & 0o077 == 0, file
        if file.is_file():
            content = file.read_bytes()
            for secret in (PASSWORD, "a-root-password", made["value"]):  # type: ignore[index]
                assert secret.encode() not in content, file


def test_full_storage_fails_in_the_task_and_leaves_nothing(tmp_path: Path) -> None:
    """A storage with an accounted size takes no volume that is larger than what is left."""
    storages = {
        "local": StorageSpec("/var/lib/vz", tmp_path / "vz", ("vztmpl",)),
        "small": StorageSpec("/var/lib/small", tmp_path / "small", ("rootdir",), 300 * 2**20),
    }
    lab = Lab(LabState(tmp_path / "state", root_password=PASSWORD, storages=storages), MemoryBackend())
    lab.storages.target("local", "vztmpl", "tiny_1.0-1_amd64.tar.gz").write_bytes(b"x")
    upid = str(call(lab, "POST", "/nodes/pve/lxc", vmid=100, ostemplate=TINY, rootfs="small:1"))
    lab.tasks.wait(upid, 10)
    task = lab.tasks.get(upid)
    assert task is not None
    assert str(task.status).startswith("unable to create CT 100 - command 'mkfs.ext4 ")
    assert any("No space left on device" in line for line in lab.tasks.log_lines(upid) or [])
    assert lab.guests.ids() == []
    assert lab.storages.figures("small")["used"] == 0


def test_device_that_vanished_keeps_the_guest_down(world: World) -> None:
    """As on a node whose GPU device node is missing after a boot."""
    world.create(100, dev0="/dev/dri/renderD128,gid=44")
    world.backend.devices.discard("/dev/dri/renderD128")
    upid = str(call(world.lab, "POST", "/nodes/pve/lxc/100/status/start"))
    world.lab.tasks.wait(upid, 10)
    task = world.lab.tasks.get(upid)
    assert task is not None
    assert task.status == "Could not get mode or device ID of /dev/dri/renderD128"
    assert not world.lab.running(100)


def test_two_creations_of_one_id(world: World) -> None:
    """Nothing is reserved by ``nextid``; the second creation is refused."""
    world.hold("create")
    call(world.lab, "POST", "/nodes/pve/lxc", vmid=100, ostemplate=TINY, rootfs="guests:0", unprivileged=1)
    with pytest.raises(PveError, match="CT 100 already exists on node 'pve'"):
        call(
            world.lab, "POST", "/nodes/pve/lxc", vmid=100, ostemplate=TINY, rootfs="guests:0", unprivileged=1
        )
    world.release("create")


@pytest.mark.parametrize("host", ["0.0.0.0", "10.86.0.1", "::", "example.com"])
async def test_listens_on_loopback_alone(world: World, host: str) -> None:
    """The lab is for its own machine."""
    with pytest.raises(BadInputError, match="does not listen"):
        await serve(world.app, host=host, port=0)


async def test_tls_and_the_socket_of_the_node(tmp_path: Path) -> None:
    """TLS with a certificate that stays the same; the socket file makes its clients root@pam, and is private."""
    made = make_world(tmp_path)
    path = tmp_path / "api.sock"
    runner = await serve(made.app, port=0, unix_socket=path)
    try:
        port = runner.addresses[0][1]
        pinned = fingerprint(made.lab.state.directory)
        pin = aiohttp.Fingerprint(bytes.fromhex(pinned.replace(":", "")))
        async with aiohttp.ClientSession() as session:
            async with session.get(f"https://127.0.0.1:{port}/api2/json/version", ssl=pin) as answer:
                assert (answer.status, answer.reason, await answer.read()) == (401, "No ticket", b"")
                assert "Content-Type" not in answer.headers
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(
                    f"https://127.0.0.1:{port}/api2/json/version", ssl=ssl.create_default_context()
                )
        assert path.stat().st_mode & 0o077 == 0
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
            started = time.monotonic()
            async with session.post("http://node/api2/json/pools", data={"poolid": "demo"}) as answer:
                assert (answer.status, await answer.json()) == (200, {"data": None})
            assert time.monotonic() - started < 5
    finally:
        await runner.cleanup()
    assert fingerprint(made.lab.state.directory) == pinned


async def test_a_call_that_waits_holds_up_nobody(world: World) -> None:
    """A change waits for the lock of a configuration while other calls are answered."""
    world.create(100)
    app = create_app(world.lab.state, world.backend)
    runner = await serve(app, port=0, unix_socket=world.lab.state.directory / "s")
    lock = world.lab.state.guest_lock(100)
    try:
        connector = aiohttp.UnixConnector(str(world.lab.state.directory / "s"))
        async with aiohttp.ClientSession("http://node", connector=connector) as session:
            lock.acquire()
            url = "/api2/json/nodes/pve/lxc/100/config"
            waiting = asyncio.create_task(session.put(url, data={"memory": "300"}))
            await asyncio.sleep(0.1)
            async with session.get(url) as answer:
                assert (await answer.json())["data"]["memory"] == 256
            assert not waiting.done()
            lock.release()
            assert (await waiting).status == 200
            async with session.get(url) as answer:
                assert (await answer.json())["data"]["memory"] == 300
    finally:
        await runner.cleanup()


def test_guests_that_go_while_they_are_listed_are_no_error(world: World) -> None:
    lab = world.lab
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            lab.guests.save(777, Config({"hostname": "here"}, {}, []))
            lab.guests.remove(777)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(200):
            assert set(lab.guests.all()) <= {*lab.guests.ids(), 777}
    finally:
        stop.set()
        thread.join()
