"""A stand-in of the Proxmox VE API for tests of the client: configuration semantics in memory, no containers.

It sits under the client as a transport, so that everything above it is the real thing, and holds every request
against the real schema. Semantics are those recorded from Proxmox VE 9.2; the lab is the fuller stand-in.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from freehold.proxmox import propstrings
from freehold.proxmox.client import Password, PveClient, Token

from .schema_check import problems

TOKEN = Token("freehold@pve!freehold", "not-a-secret")
LATER = re.compile(r"^(nameserver|searchdomain|features|tty|console|cmode|timezone|ostype)$")


class RefusalError(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, reason: str, errors: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.errors = status, reason, errors


@dataclass
class Guest:
    """One container."""

    config: dict[str, str] = field(default_factory=dict)
    pending: dict[str, str] = field(default_factory=dict)
    pending_delete: set[str] = field(default_factory=set)
    running: bool = False
    pool: str | None = None

    def digest(self) -> str:
        state = (sorted(self.config.items()), sorted(self.pending.items()), sorted(self.pending_delete))
        return hashlib.sha1(repr(state).encode()).hexdigest()


class PveStandin(BaseAdapter):
    """The API of one node ``pve`` with the storage ``guests``, as a transport of the client."""

    def __init__(self) -> None:
        super().__init__()
        self.guests: dict[int, Guest] = {}
        self.tasks: dict[str, tuple[str, list[str]]] = {}
        self.task_list: list[dict[str, Any]] = []
        self.permissions: dict[str, dict[str, int]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.before: Callable[[str, str], None] = lambda method, path: None
        self._number = 0

    def client(self, credential: Token | Password = TOKEN) -> PveClient:
        """A client whose calls end here."""
        made = PveClient("https://pve.test:8006", credential)
        made._session.mount("https://", self)
        return made

    def close(self) -> None:
        """Nothing is open."""

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        """Answer one request."""
        parts = urlsplit(str(request.url))
        path = unquote(parts.path.removeprefix("/api2/json"))
        in_body = request.method in {"POST", "PUT"}
        text = request.body if in_body else parts.query
        raw = text.decode() if isinstance(text, bytes) else str(text or "")
        pairs = parse_qsl(raw, keep_blank_values=True, strict_parsing=bool(raw))
        params = dict(pairs)
        assert len(params) == len(pairs), f"a parameter was sent twice: {raw}"
        method = str(request.method)
        self.requests.append((method, path, dict(params)))
        refused = problems(method, path, params)
        assert not refused, refused
        root = "PVEAuthCookie" in request.headers.get("Cookie", "")
        try:
            self.before(method, path)
            data = self._answer(method, path, params, root)
            status, reason, body = 200, "OK", {"data": data}
        except RefusalError as refusal:
            status, reason = refusal.status, refusal.reason
            body = {"data": None, "message": reason + "\n"}
            if refusal.errors:
                body["errors"] = dict(refusal.errors)
        return self._response(request, status, reason, json.dumps(body))

    def _response(
        self, request: requests.PreparedRequest, status: int, reason: str, body: str
    ) -> requests.Response:
        raw = HTTPResponse(
            body=io.BytesIO(body.encode()),
            status=status,
            reason=reason,
            headers={"Content-Type": "application/json;charset=UTF-8"},
            preload_content=False,
        )
        response = requests.Response()
        response.status_code, response.reason, response.raw = status, reason, raw
        response.request, response.url, response.connection = request, str(request.url), self  # type: ignore[attr-defined]
        return response

    def _answer(self, method: str, path: str, params: dict[str, str], root: bool) -> Any:
        if (method, path) == ("POST", "/access/ticket"):
            return {
                "ticket": "PVE:root@pam:1::x",
                "CSRFPreventionToken": "1:x",
                "username": params["username"],
            }
        if path == "/access/permissions":
            return self.permissions
        if path == "/cluster/resources":
            return [
                {"vmid": v, "node": "pve", "type": "lxc", "status": "unknown"} | self._pool(g)
                for v, g in self.guests.items()
            ]
        if path == "/pools":
            self._guest(int(params["vms"])).pool = params["poolid"]
            return None
        if match := re.fullmatch(r"/nodes/pve/tasks/([^/]+)/(status|log)", path):
            exit_text, lines = self.tasks[match[1]]
            if match[2] == "log":
                return [{"n": n, "t": line} for n, line in enumerate(lines, 1)]
            return {"upid": match[1], "status": "stopped", "exitstatus": exit_text}
        if path == "/nodes/pve/tasks":
            return [t for t in self.task_list if str(t["id"]) == params.get("vmid")]
        if path == "/nodes/pve/lxc":
            return self._create(params, root) if method == "POST" else self._list()
        match = re.fullmatch(r"/nodes/pve/lxc/(\d+)(/.*)?", path)
        assert match, path
        return self._on_guest(method, int(match[1]), match[2] or "", params, root)

    def _pool(self, guest: Guest) -> dict[str, str]:
        return {"pool": guest.pool} if guest.pool else {}

    def _list(self) -> list[dict[str, Any]]:
        rows = []
        for vmid, guest in self.guests.items():
            row: dict[str, Any] = {
                "vmid": vmid,
                "status": "running" if guest.running else "stopped",
                "type": "lxc",
            }
            row["name"] = guest.config.get("hostname", f"CT{vmid}")
            row |= {key: guest.config[key] for key in ("tags", "lock") if key in guest.config}
            rows.append(row)
        return rows

    def _guest(self, vmid: int) -> Guest:
        if vmid not in self.guests:
            raise RefusalError(500, f"Configuration file 'nodes/pve/lxc/{vmid}.conf' does not exist")
        return self.guests[vmid]

    def task(self, kind: str, vmid: int, exit_text: str = "OK", log: list[str] | None = None) -> str:
        """A task that has already ended."""
        self._number += 1
        upid = f"UPID:pve:{self._number:08X}:00000001:6B000000:{kind}:{vmid}:{TOKEN.id}:"
        self.tasks[upid] = (exit_text, log or [f"TASK {exit_text}"])
        return upid

    def _create(self, params: dict[str, str], root: bool) -> str:
        vmid = int(params.pop("vmid"))
        if vmid in self.guests:
            raise RefusalError(500, f"CT {vmid} already exists on node 'pve'")
        guest = Guest(pool=params.pop("pool", None))
        for key in ("ostemplate", "ssh-public-keys", "unprivileged"):
            params.pop(key, None)
        guest.config = {
            "arch": "amd64",
            "ostype": "debian",
            "hostname": f"CT{vmid}",
            "memory": "512",
            "swap": "512",
        }
        guest.config["unprivileged"] = "1"
        self._root_only(guest, params, root)
        for key, value in params.items():
            guest.config[key] = self._stored(vmid, key, value)
        self.guests[vmid] = guest
        return self.task("vzcreate", vmid)

    def _root_only(self, guest: Guest, params: Mapping[str, str], root: bool) -> None:
        if root:
            return
        names = [*params, *re.split(r"[,;\s]+", params.get("delete", ""))]
        if any(propstrings.base_name(name) == "dev" and name != "dev" for name in names):
            raise RefusalError(
                403, "Permission check failed (configuring device passthrough is only allowed for root@pam)"
            )
        for key, value in params.items():
            if propstrings.base_name(key) == "mp" and value.startswith("/"):
                raise RefusalError(
                    403, "Permission check failed (mount point type bind is only allowed for root@pam)"
                )
        old = propstrings.parse("features", guest.config.get("features", ""))
        new = propstrings.parse("features", params.get("features", guest.config.get("features", "")))
        if {**old, "nesting": ""} != {**new, "nesting": ""}:
            raise RefusalError(
                403,
                "Permission check failed (changing feature flags (except nesting) is only allowed for root@pam)",
            )

    def _stored(self, vmid: int, key: str, value: str) -> str:
        """A value as the node stores it."""
        self._number += 1
        name = propstrings.base_name(key)
        if key == "tags":
            return ";".join(sorted({t.lower() for t in re.split(r"[;,\s]+", value) if t})) or " "
        if key == "description":
            return value.rstrip("\n") + "\n"
        if name == "net" and key != name:
            properties = propstrings.parse(key, value)
            mac = hashlib.sha1(f"{self._number}".encode()).hexdigest()[:6].upper()
            properties.setdefault("hwaddr", f"BC:24:11:{mac[:2]}:{mac[2:4]}:{mac[4:]}")
            return propstrings.render(key, {**properties, "type": "veth"})
        if key == "rootfs" or (name == "mp" and key != name):
            properties = propstrings.parse(key, value)
            if new := re.fullmatch(r"(\w+):(\d+)", properties["volume"]):
                properties["volume"] = f"{new[1]}:{vmid}/vm-{vmid}-disk-{self._number}.raw"
                properties["size"] = f"{new[2]}G"
            return propstrings.render(key, properties)
        return value

    def _on_guest(self, method: str, vmid: int, rest: str, params: dict[str, str], root: bool) -> Any:
        guest = self._guest(vmid)
        if (method, rest) == ("GET", "/pending"):
            return self._pending(guest)
        if (method, rest) == ("GET", "/config"):
            kept = {k: v for k, v in guest.config.items() if k not in guest.pending_delete}
            return {**kept, **guest.pending, "digest": guest.digest()}
        lock = guest.config.get("lock")
        if lock and not rest.startswith("/status"):
            raise RefusalError(500, f"CT is locked ({lock})")
        if (method, rest) == ("PUT", "/config"):
            return self._put(vmid, guest, params, root)
        if (method, rest) == ("PUT", "/resize"):
            return self._resize(vmid, guest, params)
        if method == "DELETE":
            return self._delete(vmid, guest)
        return self._power(vmid, guest, rest.removeprefix("/status/"), lock)

    def _pending(self, guest: Guest) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [{"key": "digest", "value": guest.digest()}]
        for key in sorted({*guest.config, *guest.pending, *guest.pending_delete}):
            row: dict[str, Any] = {"key": key}
            if key in guest.config:
                value = guest.config[key]
                row["value"] = int(value) if value.isdigit() else value
            if key in guest.pending:
                row["pending"] = guest.pending[key]
            if key in guest.pending_delete:
                row["delete"] = 1
            rows.append(row)
        return rows

    def _check_digest(self, guest: Guest, params: dict[str, str]) -> None:
        if params.pop("digest", guest.digest()) != guest.digest():
            raise RefusalError(
                500, "detected modified configuration - file changed by other user? Try again."
            )

    def _put(self, vmid: int, guest: Guest, params: dict[str, str], root: bool) -> None:
        self._check_digest(guest, params)
        if not params:
            raise RefusalError(500, "no options specified")
        self._root_only(guest, params, root)
        deletes = [name for name in re.split(r"[,;\s]+", params.pop("delete", "")) if name]
        for name in re.split(r"[,;\s]+", params.pop("revert", "")):
            guest.pending.pop(name, None)
            guest.pending_delete.discard(name)
        for name in deletes:
            if name in params:
                raise RefusalError(
                    400, "Parameter verification failed.", {"delete": f"you can't use '-{name}' and -delete"}
                )
            if name in {"memory", "rootfs"}:
                raise RefusalError(500, f"unable to delete required option '{name}'")
            numbered = propstrings.base_name(name)
            if numbered == "mp" and guest.config.get("protection") == "1":
                raise RefusalError(500, f"can't remove CT {vmid} drive '{name}' - protection mode enabled")
            if guest.running and (LATER.match(name) or numbered in {"mp", "dev"}):
                guest.pending_delete.add(name)
            else:
                self._drop(guest, name)
        for key, value in params.items():
            self._set(vmid, guest, key, self._stored(vmid, key, value))

    def _drop(self, guest: Guest, name: str) -> None:
        text = guest.config.pop(name, None)
        if text and propstrings.base_name(name) == "mp":
            volume = propstrings.parse(name, text)["volume"]
            if not volume.startswith("/"):
                index = next(i for i in range(256) if f"unused{i}" not in guest.config)
                guest.config[f"unused{index}"] = volume

    def _set(self, vmid: int, guest: Guest, key: str, value: str) -> None:
        changed = key in guest.config and propstrings.base_name(key) in {"mp", "dev"}
        if guest.running and (LATER.match(key) or changed):
            guest.pending_delete.discard(key) if propstrings.base_name(key) != "dev" else None
            if guest.config.get(key) == value:
                guest.pending.pop(key, None)
            else:
                guest.pending[key] = value
            return
        guest.config[key] = value

    def _resize(self, vmid: int, guest: Guest, params: dict[str, str]) -> str:
        self._check_digest(guest, params)
        disk = params["disk"]
        properties = propstrings.parse(disk, guest.config[disk])
        old, new = propstrings.size_bytes(properties["size"]), propstrings.size_bytes(params["size"])
        if new < old:
            raise RefusalError(500, "unable to shrink disk size")
        if new == old:
            raise RefusalError(500, "disk is already at specified size")
        guest.config[disk] = propstrings.render(disk, {**properties, "size": params["size"]})
        return self.task("resize", vmid)

    def _delete(self, vmid: int, guest: Guest) -> str:
        if guest.config.get("protection") == "1":
            raise RefusalError(500, f"can't remove CT {vmid} - protection mode enabled")
        if guest.running:
            raise RefusalError(500, f"unable to destroy CT {vmid} - container is running")
        del self.guests[vmid]
        return self.task("vzdestroy", vmid)

    def _power(self, vmid: int, guest: Guest, action: str, lock: str | None) -> str:
        if action == "start" and guest.running:
            raise RefusalError(500, f"CT {vmid} already running")
        if action != "start" and not guest.running:
            raise RefusalError(500, f"{'VM' if action == 'reboot' else 'CT'} {vmid} not running")
        if lock:
            return self.task("vz" + action, vmid, f"CT is locked ({lock})")
        if action in {"start", "reboot"}:
            for name in guest.pending_delete - set(guest.pending):
                self._drop(guest, name)
            guest.config |= guest.pending
            guest.pending, guest.pending_delete = {}, set()
        guest.running = action in {"start", "reboot"}
        return self.task("vz" + action, vmid)
