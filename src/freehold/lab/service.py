"""The lab as a process: start, stop, status, reset (a stand-in of a Proxmox VE node, for development).

``python -m freehold.lab.service FOLDER`` is the process itself: the API on loopback and on the node's Unix socket,
the containers underneath, the file server on the bridge. Containers do not depend on it: after ``kill -9`` they run on,
and the next start finds them.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from freehold.errors import BadInputError, FreeholdError
from freehold.lab import cloud_standin
from freehold.lab.api.certificate import ensure_certificate
from freehold.lab.machine import mirror, smallstorage, templates
from freehold.lab.machine.lxc import LxcBackend
from freehold.lab.machine.network import CLOUD_PORT, MIRROR_PORT, host_nameservers
from freehold.lab.machine.node import NAME, LabNode, gpus
from freehold.lab.machine.paths import LabPaths
from freehold.lab.machine.rootfs import NODE_IDS
from freehold.lab.machine.setup import LabSettings, Say, bring_up, check_host, remove, take_down
from freehold.lab.state import Appliance, LabState, NodeSpec, StorageSpec

START_TIMEOUT = 30.0
"""Seconds in which the API has to answer."""
STOP_TIMEOUT = 20.0


def start(paths: LabPaths, settings: LabSettings, say: Say) -> dict[str, Any]:
    """Bring the lab up, or find that it is; returns its status.

    Raises:
        BadInputError: This machine cannot host the lab.
        FreeholdError: A step failed, or the API does not answer.
    """
    check_host(paths)
    os.umask(0o022)  # containers have to pass through the folders above their files
    paths.make()
    with paths.start_lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two starts at once would each clear away what the other one fills
        if process_id(paths) is not None and settings != LabSettings.load(paths):
            raise BadInputError(
                "the lab runs with other settings",
                where=str(paths.settings),
                remedy="Run `freehold lab stop` first.",
            )
        publish_certificate(paths)
        booted = bring_up(paths, settings, say)
        if process_id(paths) is None:
            say("starting the API")
            _spawn(paths)
        _wait(paths)
        if booted:
            _start_guests(paths, say)
        return status(paths)


def stop(paths: LabPaths, say: Say) -> None:
    """Stop the API, all containers and the network; data stays. Stopped already is fine.

    Raises:
        BadInputError: The user is not root.
        FreeholdError: Something would not stop.
    """
    check_host(paths)
    _end_process(paths, say)
    if paths.settings.exists():
        take_down(paths, LabSettings.load(paths), say)


def reset(paths: LabPaths, say: Say, *, purge: bool) -> None:
    """Stop the lab and remove its guests and state, with ``purge`` its templates too.

    Raises:
        BadInputError: The user is not root.
        FreeholdError: Something would not stop.
    """
    stop(paths, say)
    say("removing guests and state")
    remove(paths, purge=purge)


def status(paths: LabPaths) -> dict[str, Any]:
    """What the lab is and how to reach it; the same keys whether it runs or not."""
    settings = LabSettings.load(paths)
    network = settings.network()
    node = LabNode(paths, network)
    pid = process_id(paths)
    answers = pid is not None and _answers(paths)
    guests = call(paths, "GET", f"/nodes/{NAME}/lxc") if answers else []
    return {
        "running": answers,
        "pid": pid,
        "endpoint": f"https://127.0.0.1:{settings.port}",
        "fingerprint": _fingerprint(paths),
        "certificate": str(paths.certificate),
        "root_user": "root@pam",
        "root_password_file": str(paths.root_password),
        "node": {
            "name": NAME,
            "running": node.running(),
            "address": str(network.node_address),
            "ssh_user": "root",
            "ssh_key": str(paths.node_key),
            "host_key": node.host_key or None,
            "known_hosts": str(paths.known_hosts),
        },
        "bridge": settings.bridge,
        "subnet": settings.subnet,
        "files": f"http://{network.gateway}:{MIRROR_PORT}/",
        "guests": sorted(
            ({"vmid": int(g["vmid"]), "name": g.get("name"), "status": g["status"]} for g in guests),
            key=lambda guest: int(str(guest["vmid"])),
        ),
        "state": str(paths.state),
        "cache": str(paths.cache),
        "log": str(paths.log),
    }


def publish_certificate(paths: LabPaths) -> None:
    """Make the API's certificate at the first start and put it, without its key, where clients can read it."""
    certificate = x509.load_pem_x509_certificate(ensure_certificate(paths.api_state).read_bytes())
    paths.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    paths.certificate.chmod(0o644)


def _fingerprint(paths: LabPaths) -> str | None:
    if not paths.certificate.exists():
        return None
    digest = x509.load_pem_x509_certificate(paths.certificate.read_bytes()).fingerprint(hashes.SHA256())
    return ":".join(f"{byte:02X}" for byte in digest)


class SocketConnection(http.client.HTTPConnection):
    """HTTP over the API's Unix socket, on which the caller is root@pam."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def call(paths: LabPaths, method: str, path: str) -> Any:
    """The ``data`` of one call of the API as root@pam.

    Raises:
        FreeholdError: The API does not answer, or answers with an error.
    """
    try:
        with contextlib.closing(SocketConnection(paths.api_socket)) as connection:
            connection.request(method, f"/api2/json{path}")
            answer = connection.getresponse()
            body = answer.read()
    except OSError as error:
        raise FreeholdError(
            "the lab's API does not answer", doing=f"{method} {path}", answer=str(error)
        ) from error
    if answer.status != 200:
        raise FreeholdError("the lab's API refused a call", doing=f"{method} {path}", answer=answer.reason)
    return json.loads(body)["data"]


def process_id(paths: LabPaths) -> int | None:
    """The process id of the running lab; None when nobody holds the lab's lock."""
    try:
        with paths.lock.open("r") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = stream.read().strip()
                return int(text) if text else None
    except (FileNotFoundError, PermissionError):
        return None
    return None


def _spawn(paths: LabPaths) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with paths.log.open("ab") as log:
        paths.log.chmod(0o600)
        subprocess.Popen(
            [sys.executable, "-m", "freehold.lab.service", str(paths.state), str(paths.cache)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env=environment,
        )


def _wait(paths: LabPaths) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    seen = False
    while not _answers(paths):
        alive = process_id(paths) is not None
        if (seen and not alive) or time.monotonic() > deadline:
            raise FreeholdError(
                "the lab's API does not answer",
                doing="starting the lab",
                where=str(paths.log),
                answer="\n".join(paths.log.read_text(errors="replace").splitlines()[-15:]),
                remedy="Another program may hold the port: see `ss -tlnp`, or start the lab with --port.",
            )
        seen = seen or alive
        time.sleep(0.1)


def _answers(paths: LabPaths) -> bool:
    try:
        call(paths, "GET", "/version")
    except FreeholdError:
        return False
    return True


def _start_guests(paths: LabPaths, say: Say) -> None:
    """Start the guests with ``onboot``, in their order, as a node does when it boots."""
    wanted = []
    for guest in call(paths, "GET", f"/nodes/{NAME}/lxc"):
        config = call(paths, "GET", f"/nodes/{NAME}/lxc/{guest['vmid']}/config")
        if str(config.get("onboot", 0)) == "1" and guest["status"] == "stopped":
            order = dict(p.split("=", 1) for p in str(config.get("startup", "")).split(",") if "=" in p).get(
                "order"
            )
            wanted.append((int(order) if order else sys.maxsize, int(guest["vmid"])))
    for _, vmid in sorted(wanted):
        say(f"starting container {vmid}")
        call(paths, "POST", f"/nodes/{NAME}/lxc/{vmid}/status/start")


def _end_process(paths: LabPaths, say: Say) -> None:
    pid = process_id(paths)
    if pid is None:
        return
    say("stopping the API")
    for how, seconds in ((signal.SIGTERM, STOP_TIMEOUT), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if process_id(paths) is None:
                return
            time.sleep(0.05)
    raise FreeholdError("the lab's process does not end", doing="stopping the lab", where=f"process {pid}")


# --- the process itself


def _take_lock(paths: LabPaths) -> IO[str]:
    stream = paths.lock.open("a+")
    paths.lock.chmod(0o644)
    for _ in range(40):
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:  # held by another lab, or for an instant by one who asks whether a lab runs
            time.sleep(0.05)
    else:
        raise SystemExit("the lab runs already")
    stream.truncate(0)
    stream.write(str(os.getpid()))
    stream.flush()
    return stream


def lab_state(paths: LabPaths, settings: LabSettings) -> LabState:
    """The API's state on this machine: its storages, its node, the templates on offer."""
    network = settings.network()
    bridge = dict(NodeSpec().interfaces[0])
    bridge |= {
        "address": str(network.gateway),
        "netmask": str(network.subnet.prefixlen),
        "cidr": f"{network.gateway}/{network.subnet.prefixlen}",
    }
    return LabState(
        paths.api_state,
        root_password=paths.root_password.read_text("ascii").strip(),
        storages={
            "local": StorageSpec("/var/lib/vz", paths.local, ("iso", "vztmpl", "backup")),
            "guests": StorageSpec("/var/lib/guests", paths.guests, ("rootdir", "images")),
            "small": StorageSpec("/var/lib/small", paths.small, ("rootdir", "images"), smallstorage.SIZE),
        },
        node=NodeSpec(
            name=NAME,
            address=str(network.node_address),
            dns=host_nameservers(),
            interfaces=(bridge,),
            pci=gpus(),
        ),
        appliances=[
            Appliance(
                template=one.name,
                package=one.package,
                version=one.version,
                os="-".join(one.package.split("-")[:2]),
                headline=one.headline,
                source=paths.templates / one.name,
                sha512=templates.checksum_file(paths.templates, one).read_text(),
            )
            for one in templates.OFFERED
        ],
    )


async def _serve(paths: LabPaths) -> None:
    from freehold.lab.api.server import create_app, serve

    settings = LabSettings.load(paths)
    network = settings.network()
    backend = LxcBackend(paths, network, LabNode(paths, network).overlay.rootfs)
    # Whoever finds that the API answers finds the certificate of the cloud as well.
    cloud = cloud_standin.start((str(network.gateway), CLOUD_PORT), paths.state)
    runner = await serve(
        create_app(lab_state(paths, settings), backend), port=settings.port, unix_socket=paths.api_socket
    )
    os.chown(paths.api_socket, NODE_IDS.root, NODE_IDS.root)
    files = mirror.serve(paths, network)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await ended.wait()
    files.shutdown()
    cloud.shutdown()
    await runner.cleanup()


def main() -> None:
    """Run the lab in the foreground until it is told to end."""
    os.umask(0o022)
    paths = LabPaths(Path(sys.argv[1]), Path(sys.argv[2]))
    lock = _take_lock(paths)
    asyncio.run(_serve(paths))
    lock.close()


if __name__ == "__main__":
    main()
