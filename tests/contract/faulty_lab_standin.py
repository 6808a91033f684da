"""A stand-in of a Proxmox VE node that misbehaves on demand: the lab's API over TLS, containers in memory alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from freehold.lab.api.server import create_app, serve
from freehold.lab.state import LabState, NodeSpec, StorageSpec

from .memory_backend_standin import MemoryBackend

TEMPLATES = (
    "debian-12-standard_12.12-1_amd64.tar.zst",
    "debian-13-standard_13.1-2_amd64.tar.zst",
)
GIB = 2**30


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a request: an answer of a status, silence, or a closed connection."""

    status: int = 0
    reason: str = ""
    body: str = ""
    silence: float = 0
    """Seconds without an answer; then the connection is closed."""
    after: bool = False
    """The request is carried out first, and its answer is lost."""


class FaultyLab:
    """The lab's API on a free port of the loopback interface.

    Args:
        directory: Where its state and its certificate (``api.pem``) lie.
        storages: Sizes in GiB of the storages that hold containers.
        pci: Addresses of the node's GPUs.
        templates: Names of the templates that the node has; it offers no others.
        memory: Memory of the node in bytes.
    """

    def __init__(
        self,
        directory: Path,
        *,
        storages: dict[str, int] | None = None,
        pci: tuple[str, ...] = (),
        templates: tuple[str, ...] = TEMPLATES,
        memory: int = 16 * GIB,
    ) -> None:
        self.password = "the-password-of-root"
        self.seen: list[tuple[str, str]] = []
        self.fault: Callable[[str, str], Fault | None] = lambda method, path: None
        self.backend = MemoryBackend()
        specs = {"local": StorageSpec("/var/lib/vz", directory / "vz", ("iso", "vztmpl"))}
        for name, size in (storages or {"guests": 500}).items():
            folder = directory / name
            specs[name] = StorageSpec(f"/var/lib/{name}", folder, ("rootdir", "images"), size * GIB)
        cache = directory / "vz/template/cache"
        cache.mkdir(parents=True)
        for template in templates:
            (cache / template).write_bytes(b"a template")
        devices = [
            {"id": address, "class": "0x030000", "vendor": "0x10de", "device": "0x2684", "iommugroup": -1}
            for address in pci
        ]
        self.state = LabState(
            directory / "pve",
            root_password=self.password,
            storages=specs,
            node=NodeSpec(pci=devices, cores=16, memory=memory),
            login_delay=0.0,
            broadcast_interval=0.0,
        )
        self.app = create_app(self.state, self.backend)
        self.app.middlewares.append(self._middleware())
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._runner = self._do(serve(self.app, port=0))
        self.port = int(self._runner.addresses[0][1])
        self.endpoint = f"https://127.0.0.1:{self.port}"
        pem = x509.load_pem_x509_certificate((directory / "pve/pve-ssl.pem").read_bytes())
        self.certificate = directory / "api.pem"
        self.certificate.write_bytes(pem.public_bytes(Encoding.PEM))

    def _do(self, work: Awaitable[Any]) -> Any:
        async def wait() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result(20)

    def _middleware(self) -> Any:
        @web.middleware
        async def middleware(request: web.Request, handler: Any) -> web.StreamResponse:
            path = request.path.removeprefix("/api2/json")
            self.seen.append((request.method, path))
            fault = self.fault(request.method, path)
            if fault is None:
                return await handler(request)  # type: ignore[no-any-return]
            if fault.after:
                await handler(request)
            if fault.status:
                return web.Response(status=fault.status, reason=fault.reason, text=fault.body)
            await asyncio.sleep(fault.silence)
            if request.transport:
                request.transport.close()
            return web.Response(status=500)

        return middleware

    @property
    def writes(self) -> list[tuple[str, str]]:
        """The requests that may change something."""
        return [call for call in self.seen if call[0] != "GET" and call[1] != "/access/ticket"]

    @property
    def guests(self) -> list[int]:
        """VMIDs of the guests that exist."""
        return sorted(int(vmid) for vmid in self.state.data["guests"])

    def close(self) -> None:
        """Stop listening."""
        self._do(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
