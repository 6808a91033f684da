"""HTTP of the lab's API (part of a stand-in of Proxmox VE, for development).

A port of what ``PVE::APIServer::AnyEvent`` and ``PVE::HTTPServer`` do with a request: who calls, which call, may the caller,
are the parameters right, and how the answer looks, reason phrase included.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import ssl
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aiohttp import web

from freehold.errors import BadInputError
from freehold.lab.access import ROOT
from freehold.lab.answers import BareError, ConnectionDroppedError, PveError, bad_parameters, denied, failed
from freehold.lab.api.certificate import ensure_certificate
from freehold.lab.api.routes import HANDLERS
from freehold.lab.api.upload import receive
from freehold.lab.backend import Backend
from freehold.lab.context import Call, Extra, Lab
from freehold.lab.pveschema import Endpoint, find, validate
from freehold.lab.state import LabState

PREFIX = "/api2/json"
JSON = "application/json;charset=UTF-8"
_MAX_BODY = 1024 * 1024
_OPEN = {("GET", "/access/domains"), ("GET", "/access/ticket"), ("POST", "/access/ticket")}
"""Calls without authentication (``auth_handler`` of ``PVE::HTTPServer``)."""

LAB = web.AppKey("LAB", Lab)
_POOL = web.AppKey("POOL", ThreadPoolExecutor)


def create_app(state: LabState, backend: Backend) -> web.Application:
    """The application that answers the API, on the machine that ``backend`` is."""
    import freehold.lab.api.calls  # noqa: F401 - registers the handlers

    app = web.Application(client_max_size=_MAX_BODY)
    app[LAB] = Lab(state, backend)
    app[_POOL] = ThreadPoolExecutor(max_workers=32, thread_name_prefix="api")
    app.router.add_route("*", "/{path:.*}", _answer)
    return app


async def serve(
    app: web.Application,
    *,
    host: str = "127.0.0.1",
    port: int = 8006,
    unix_socket: Path | None = None,
) -> web.AppRunner:
    """Listen with TLS on the loopback interface, and without on a socket file whose clients are root@pam.

    The certificate is made at the first start, as ``pve-ssl.pem`` beside the state. The runner that is returned serves
    until its ``cleanup`` is awaited.

    Raises:
        BadInputError: ``host`` is not a loopback address: the lab is for its own machine alone.
    """
    if host != "localhost" and not (_is_ip(host) and ipaddress.ip_address(host).is_loopback):
        raise BadInputError(
            f"the lab does not listen on {host}",
            doing="starting the API of the lab",
            remedy="use 127.0.0.1; the lab is a stand-in of Proxmox VE for development on one machine",
        )
    certificate = ensure_certificate(app[LAB].state.directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port, ssl_context=context).start()
    if unix_socket is not None:
        unix_socket.unlink(missing_ok=True)
        await web.UnixSite(runner, str(unix_socket)).start()
        unix_socket.chmod(0o600)
    return runner


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class _Bare(web.Response):
    """An answer without a Content-Type."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Content-Type", None)


async def _answer(request: web.Request) -> web.StreamResponse:
    try:
        return _json(200, "OK", await _handle(request))
    except PveError as error:
        return _error(error)
    except BareError as error:
        return _Bare(status=error.status, reason=error.reason, text=error.body or None)
    except ConnectionDroppedError:
        if request.transport:
            request.transport.close()
        return _Bare(status=500)


def _json(status: int, reason: str, body: Any) -> web.Response:
    return web.Response(
        status=status,
        reason=reason,
        body=json.dumps(body, ensure_ascii=False).encode(),
        headers={"Content-Type": JSON, "Cache-Control": "max-age=0", "Pragma": "no-cache"},
    )


def _error(error: PveError) -> web.Response:
    body: dict[str, Any] = {"message": error.message, "data": None}
    if error.errors:
        body["errors"] = error.errors
    return _json(error.status, error.message.split("\n", 1)[0].replace("\r", " "), body)


async def _handle(request: web.Request) -> dict[str, Any]:
    lab = request.app[LAB]
    method = request.method
    if method not in ("GET", "POST", "PUT", "DELETE"):
        raise BareError(501, f"method '{method}' not available")
    if not request.path.startswith(PREFIX):
        raise BareError(404, f"no such file '{request.path}'", "no such file\n")
    path = request.path.removeprefix(PREFIX).rstrip("/") or "/"
    user = _authenticate(lab, request, method, path)
    loop = asyncio.get_running_loop()
    found = find(method, path)
    upload = found is not None and found.key == "POST /nodes/{node}/storage/{storage}/upload"
    if upload and found is not None:
        await loop.run_in_executor(request.app[_POOL], _may_upload, lab, user, found)
        params: dict[str, Any] = await receive(request, lab.state.directory / "uploads")
    else:
        params = await _parameters(request)
    answer = await loop.run_in_executor(request.app[_POOL], dispatch, lab, user, method, path, found, params)
    if isinstance(answer, Extra):
        return {"data": answer.data, **answer.attributes}
    return {"data": answer}


def _authenticate(lab: Lab, request: web.Request, method: str, path: str) -> str:
    """Who calls; an empty text for nobody where that is allowed.

    Raises:
        BareError: 401.
    """
    sock: socket.socket | None = request.transport.get_extra_info("socket") if request.transport else None
    if sock is not None and sock.family == socket.AF_UNIX:
        return ROOT
    header = request.headers.get("Authorization", "")
    if header.startswith("PVEAPIToken"):
        return lab.access.verify_token(header[len("PVEAPIToken") + 1 :] if header[11:12] == "=" else "")
    if (method, path) in _OPEN:
        return ""
    ticket = urllib.parse.unquote(request.cookies.get("PVEAuthCookie", ""))
    if header.startswith("PVEAuthCookie="):
        ticket = urllib.parse.unquote(header.removeprefix("PVEAuthCookie="))
    if not ticket:
        raise BareError(401, "No ticket")
    user = lab.access.verify_ticket(ticket)
    if method != "GET" and not lab.access.csrf_valid(user, request.headers.get("CSRFPreventionToken", "")):
        raise BareError(401, "Permission denied - invalid csrf token")
    return user


async def _parameters(request: web.Request) -> dict[str, Any]:
    """The query of GET and DELETE, the body of POST and PUT."""
    if request.method in ("GET", "DELETE"):
        return _collect(request.query_string)
    body = await request.read()
    kind = request.content_type
    if not body:
        return _collect(request.query_string)
    if kind == "application/json":
        try:
            loaded = json.loads(body)
        except ValueError:
            start = body[:20].decode(errors="replace")
            text = (
                "malformed JSON string, neither tag, array, object, number, string or atom, at character offset 0 "
                f'(before "{start}") at /usr/share/perl5/PVE/APIServer/AnyEvent.pm line 934.'
            )
            raise BareError(500, text, text + "\n") from None
        return dict(loaded) if isinstance(loaded, dict) else {}
    if kind == "multipart/form-data":
        raise ConnectionDroppedError
    if kind not in ("application/x-www-form-urlencoded", "application/octet-stream"):
        text = f"upload 'Content-Type '{kind}' not implemented"
        raise BareError(506, text, text)
    return _collect(body.decode("utf-8", "replace"))


def _collect(text: str) -> dict[str, Any]:
    found = urllib.parse.parse_qs(text, keep_blank_values=True)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _may_upload(lab: Lab, user: str, found: Endpoint) -> None:
    """The check that comes before the bytes; a refusal has no body."""
    try:
        lab.access.check_declared(user, found.schema.get("permissions"), found.path_params)
    except PveError as error:
        raise BareError(error.status, error.message.strip()) from error


def dispatch(
    lab: Lab, user: str, method: str, path: str, found: Endpoint | None, params: dict[str, Any]
) -> Any:
    """Answer one authenticated request.

    Raises:
        PveError: Whatever is wrong with it, in the order in which the real server finds out.
    """
    if path == "/" and method == "GET":
        return [{"subdir": name} for name in ("version", "cluster", "nodes", "storage", "access", "pools")]
    handler = HANDLERS.get(found.key) if found else None
    if found is None or handler is None:
        raise PveError(501, f"Method '{method} {path}' not implemented")
    merged: dict[str, Any] = dict(found.path_params)
    for name, value in params.items():
        if name in merged and str(value) != merged[name]:
            raise bad_parameters(
                {name: "duplicate parameter (already defined in URI) with conflicting values!"}
            )
        merged[name] = value
    if "!" in user and not found.schema.get("allowtoken"):
        raise denied(f"URI '{path}' not available with API token, need proper ticket.\n")
    lab.access.check_declared(user, found.schema.get("permissions"), merged)
    node = found.path_params.get("node")
    if node not in (None, lab.state.node.name, "localhost") and found.schema.get("proxyto"):
        raise failed(
            f"hostname lookup '{node}' failed - failed to get address info for: {node}: Name or service not known"
        )
    return handler(Call(lab, user, validate(found.schema, merged)))
