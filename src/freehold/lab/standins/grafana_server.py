#!/usr/bin/python3
"""Stand-in of Grafana (lab): configuration, provisioning, logins and data sources, and no pictures.

The contract is https://grafana.com/docs/grafana/v13.0/developer-resources/api-reference/http-api/ and the page on
provisioning. It reads the same ``grafana.ini``, environment (``GF_<SECTION>_<KEY>``) and provisioning files, and does not
start with data sources or dashboards that upstream would refuse or show empty::

    GET   /api/health  /login                                       for anybody
    GET   /metrics                                                  user and password of [metrics]
    POST  /login {"user", "password"}                               a session cookie, or 401
    GET   /logout
    GET   /  /d/{uid}                                               a plain page, or the way to /login
    GET   /api/org  /api/user                                       session or basic authentication, like all below
    GET   /api/datasources  /api/datasources/uid/{uid}  .../health  the health asks the data source
    GET   /api/search?type=dash-db  /api/dashboards/uid/{uid}
    GET   POST  /api/datasources/proxy/uid/{uid}/{path}             passed on with the data source's password

    grafana cli admin reset-admin-password --password-from-stdin

What it is not: a user interface. Everything else answers 404.
"""

from __future__ import annotations

import argparse
import base64
import configparser
import hashlib
import hmac
import html
import json
import os
import re
import secrets
import signal
import sqlite3
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http import HTTPStatus
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "standin"))
import yaml

VERSION = ""
SOURCES = {"prometheus", "alertmanager"}
PANELS = {"alertlist", "bargauge", "gauge", "row", "stat", "table", "text", "timeseries"}
READY = {"prometheus": "/-/ready", "alertmanager": "/-/ready"}


class RefusedError(Exception):
    """What upstream would refuse, in words."""


class Settings:
    """``grafana.ini`` with the environment laid over it."""

    def __init__(self, file: Path) -> None:
        self._parser = configparser.RawConfigParser(interpolation=None, strict=False)
        with file.open(encoding="utf-8") as stream:
            self._parser.read_string("[top]\n" + stream.read())

    def get(self, section: str, key: str, default: str = "") -> str:
        """The value of a key."""
        name = re.sub(r"[.-]", "_", f"GF_{section}_{key}").upper()
        return os.environ.get(name) or str(self._parser.get(section, key, fallback=default))

    def on(self, section: str, key: str, default: bool = False) -> bool:
        """Whether a key is switched on."""
        return self.get(section, key, str(default)).lower() == "true"


class Store:
    """The database: the administrator's password and the sessions."""

    def __init__(self, settings: Settings) -> None:
        folder = Path(settings.get("paths", "data", "data"))
        self._file = folder / settings.get("database", "path", "grafana.db")
        self._lock = threading.Lock()
        with self._open() as database:
            database.execute("CREATE TABLE IF NOT EXISTS admin (salt BLOB, digest BLOB)")
            empty = database.execute("SELECT count(*) FROM admin").fetchone()[0] == 0
        if (
            empty
        ):  # as upstream: the configuration's password counts when the database is made, and never again
            self.set_password(settings.get("security", "admin_password", "admin"))

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=10)

    def set_password(self, password: str) -> None:
        """Give the administrator another password."""
        salt = secrets.token_bytes(16)
        with self._lock, self._open() as database:
            database.execute("DELETE FROM admin")
            database.execute("INSERT INTO admin VALUES (?, ?)", (salt, _digest(password, salt)))

    def is_password(self, password: str) -> bool:
        """Whether this is the administrator's password."""
        with self._lock, self._open() as database:
            salt, digest = database.execute("SELECT salt, digest FROM admin").fetchone()
        return hmac.compare_digest(digest, _digest(password, salt))


def _digest(password: str, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 10_000)


class Grafana:
    """What was configured and provisioned."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings)
        self.sessions: set[str] = set()
        self.began = time.time()
        self.answers: dict[tuple[str, int], int] = {}
        provisioning = Path(settings.get("paths", "provisioning"))
        self.sources = data_sources(provisioning / "datasources")
        self.dashboards = dashboards(provisioning / "dashboards", {source["uid"] for source in self.sources})

    def source(self, uid: str) -> dict[str, Any] | None:
        """The data source of this id."""
        return next((source for source in self.sources if source["uid"] == uid), None)

    def ask(self, source: dict[str, Any], path: str, body: bytes | None, kind: str) -> tuple[int, bytes, str]:
        """What a data source answers: status, body, type."""
        # Provisioning was held against http and https.
        request = urllib.request.Request(f"{source['url'].rstrip('/')}/{path.lstrip('/')}", data=body)  # noqa: S310
        if kind:
            request.add_header("Content-Type", kind)
        if source.get("basicAuth"):
            pair = f"{source['basicAuthUser']}:{source['secureJsonData']['basicAuthPassword']}"
            request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
                return answer.status, answer.read(), answer.headers.get("Content-Type", "")
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers.get("Content-Type", "")
        except OSError as error:
            return HTTPStatus.BAD_GATEWAY, json.dumps({"message": str(error)}).encode(), "application/json"


def _expand(value: Any) -> Any:
    """Names of the environment in provisioning files, ``$NAME`` and ``${NAME}``; ``$$`` is a dollar."""
    if isinstance(value, dict):
        return {key: _expand(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_expand(each) for each in value]
    if not isinstance(value, str):
        return value

    def name(found: re.Match[str]) -> str:
        if found.group(0) == "$$":
            return "$"
        return os.environ.get(found.group(1) or found.group(2), "")

    return re.sub(r"\$\$|\$\{(\w+)\}|\$(\w+)", name, value)


def data_sources(folder: Path) -> list[dict[str, Any]]:
    """The provisioned data sources."""
    found: list[dict[str, Any]] = []
    for file in sorted(folder.glob("*.y*ml")):
        document = _expand(yaml.safe_load(file.read_text(encoding="utf-8")))
        if document.get("apiVersion") != 1:
            raise RefusedError(f"{file}: apiVersion must be 1")
        for source in document.get("datasources") or []:
            if missing := {"name", "type", "url", "access", "uid"} - source.keys():
                raise RefusedError(f"{file}: a data source lacks {sorted(missing)}")
            if source["type"] not in SOURCES:
                raise RefusedError(f"{file}: the program has no data source {source['type']}")
            if not re.match(r"^https?://[^/]+", source["url"]):
                raise RefusedError(f"{file}: {source['url']} is no address")
            if source.get("basicAuth") and not source.get("secureJsonData", {}).get("basicAuthPassword"):
                raise RefusedError(f"{file}: {source['name']} has no password")
            found.append(source)
    for key in ("name", "uid"):
        if len({source[key] for source in found}) != len(found):
            raise RefusedError(f"two data sources have one {key}")
    if sum(bool(source.get("isDefault")) for source in found) > 1:
        raise RefusedError("only one data source can be the default")
    return found


def dashboards(folder: Path, sources: set[str]) -> dict[str, dict[str, Any]]:
    """The provisioned dashboards by id."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.glob("*.y*ml")):
        for provider in yaml.safe_load(file.read_text(encoding="utf-8")).get("providers") or []:
            if provider.get("type") != "file":
                raise RefusedError(f"{file}: {provider.get('type')} is no type of provider")
            for path in sorted(Path(provider["options"]["path"]).glob("**/*.json")):
                dashboard = json.loads(path.read_text(encoding="utf-8"))
                _check(dashboard, path, sources)
                if dashboard["uid"] in found or any(
                    dashboard["title"] == other["title"] for other in found.values()
                ):
                    raise RefusedError(f"{path}: another dashboard has the same uid or title")
                found[dashboard["uid"]] = dashboard | {"folder": provider.get("folder", "General")}
    return found


def _check(dashboard: dict[str, Any], path: Path, sources: set[str]) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", dashboard.get("uid", "")) or not dashboard.get("title"):
        raise RefusedError(f"{path}: no uid or no title")
    if not isinstance(dashboard.get("schemaVersion"), int):
        raise RefusedError(f"{path}: no schemaVersion")
    numbers: set[int] = set()
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        where = f"{path}: panel {panel.get('title')!r}"
        if panel["type"] not in PANELS:
            raise RefusedError(f"{where}: {panel['type']} is no kind of panel")
        if panel["id"] in numbers:
            raise RefusedError(f"{where}: its id is that of another")
        numbers.add(panel["id"])
        grid = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        if not cells or taken & cells or grid["x"] + grid["w"] > 24:
            raise RefusedError(f"{where}: it lies over another, or outside")
        taken |= cells
        for target in panel.get("targets", []):
            if target["datasource"]["uid"] not in sources:
                raise RefusedError(f"{where}: there is no data source {target['datasource']['uid']}")
            if not target.get("expr", "").strip():
                raise RefusedError(f"{where}: a query is empty")


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server_version = "Grafana"
    sys_version = ""
    grafana: Grafana

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def log_message(self, *_: Any) -> None:
        """Nothing is said of requests."""

    def _answer(self, body: bytes | None) -> None:
        parts = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(parts.path).rstrip("/") or "/"
        settings = self.grafana.settings
        if path == "/api/health":
            self._json({"database": "ok", "version": VERSION, "commit": "stand-in"})
        elif path == "/metrics":
            self._metrics()
        elif path == "/login" and body is None:
            self._page("Log in", "<p>This is a stand-in of Grafana (lab).</p>")
        elif path == "/login":
            self._login(body or b"")
        elif not self._known():
            if path.startswith("/api/"):
                self._json({"message": "Unauthorized"}, HTTPStatus.UNAUTHORIZED)
            else:
                self._send(HTTPStatus.FOUND, b"", "text/html", {"Location": "/login"})
        elif path == "/logout":
            self._send(HTTPStatus.FOUND, b"", "text/html", {"Location": "/login", **_cookie("", settings)})
        elif path == "/api/org":
            self._json({"id": 1, "name": "Main Org."})
        elif path == "/api/user":
            self._json({"id": 1, "login": "admin", "isGrafanaAdmin": True, "orgId": 1})
        elif path == "/api/search":
            self._json(
                [
                    {"uid": uid, "title": each["title"], "type": "dash-db", "folderTitle": each["folder"]}
                    for uid, each in self.grafana.dashboards.items()
                ]
            )
        elif found := re.fullmatch(r"/api/dashboards/uid/([\w-]+)", path):
            self._dashboard(found.group(1))
        elif path == "/api/datasources":
            self._json([_public(source) for source in self.grafana.sources])
        elif found := re.fullmatch(r"/api/datasources/uid/([\w-]+)(/health)?", path):
            self._source(found.group(1), health=bool(found.group(2)))
        elif found := re.fullmatch(r"/api/datasources/proxy/uid/([\w-]+)/(.+)", path):
            self._proxy(found.group(1), found.group(2), parts.query, body)
        elif path == "/" or re.fullmatch(r"/d/[\w-]+", path):
            items = "".join(
                f'<li><a href="/d/{uid}">{html.escape(each["title"])}</a></li>'
                for uid, each in self.grafana.dashboards.items()
            )
            self._page("Dashboards", f"<p>This is a stand-in of Grafana (lab).</p><ul>{items}</ul>")
        else:
            self._json({"message": "Not found"}, HTTPStatus.NOT_FOUND)

    def _basic(self) -> tuple[str, str] | None:
        kind, _, text = self.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "basic":
            return None
        try:
            user, _, password = base64.b64decode(text).decode().partition(":")
        except ValueError:
            return None
        return user, password

    def _known(self) -> bool:
        pair = self._basic()
        if pair and self.grafana.settings.on("auth.basic", "enabled", default=True):
            return self._is_admin(*pair)
        session = SimpleCookie(self.headers.get("Cookie", "")).get("grafana_session")
        return session is not None and session.value in self.grafana.sessions

    def _is_admin(self, user: str, password: str) -> bool:
        name = self.grafana.settings.get("security", "admin_user", "admin")
        return user == name and self.grafana.store.is_password(password)

    def _login(self, body: bytes) -> None:
        try:
            given = json.loads(body)
            allowed = self._is_admin(given["user"], given["password"])
        except (ValueError, KeyError, TypeError):
            self._json({"message": "bad login data"}, HTTPStatus.BAD_REQUEST)
            return
        if not allowed or self.grafana.settings.on("auth", "disable_login_form"):
            self._json({"message": "Invalid username or password"}, HTTPStatus.UNAUTHORIZED)
            return
        session = secrets.token_hex(16)
        self.grafana.sessions.add(session)
        self._json({"message": "Logged in"}, headers=_cookie(session, self.grafana.settings))

    def _metrics(self) -> None:
        settings = self.grafana.settings
        wanted = (
            settings.get("metrics", "basic_auth_username"),
            settings.get("metrics", "basic_auth_password"),
        )
        if not settings.on("metrics", "enabled", default=True):
            self._json({"message": "Not found"}, HTTPStatus.NOT_FOUND)
        elif all(wanted) and self._basic() != wanted:
            self._json({"message": "Unauthorized"}, HTTPStatus.UNAUTHORIZED)
        else:
            lines = [
                f'grafana_build_info{{version="{VERSION}"}} 1',
                f"process_start_time_seconds {self.grafana.began:.0f}",
            ]
            lines += [
                f'grafana_http_request_total{{method="{method}",status_code="{status}"}} {number}'
                for (method, status), number in sorted(self.grafana.answers.items())
            ]
            self._send(HTTPStatus.OK, ("\n".join(lines) + "\n").encode(), "text/plain; version=0.0.4")

    def _dashboard(self, uid: str) -> None:
        dashboard = self.grafana.dashboards.get(uid)
        if dashboard is None:
            self._json({"message": "Dashboard not found"}, HTTPStatus.NOT_FOUND)
        else:
            meta = {"provisioned": True, "folderTitle": dashboard["folder"], "canEdit": False}
            self._json({"meta": meta, "dashboard": {k: v for k, v in dashboard.items() if k != "folder"}})

    def _source(self, uid: str, *, health: bool) -> None:
        source = self.grafana.source(uid)
        if source is None:
            self._json({"message": "Data source not found"}, HTTPStatus.NOT_FOUND)
        elif not health:
            self._json(_public(source))
        else:
            status, answer, _ = self.grafana.ask(source, READY[source["type"]], None, "")
            if status == HTTPStatus.OK:
                self._json({"status": "OK", "message": "The data source answers."})
            else:
                self._json(
                    {"status": "ERROR", "message": answer.decode("utf-8", "replace")[:200]},
                    HTTPStatus.BAD_REQUEST,
                )

    def _proxy(self, uid: str, path: str, query: str, body: bytes | None) -> None:
        source = self.grafana.source(uid)
        if source is None:
            self._json({"message": "Data source not found"}, HTTPStatus.NOT_FOUND)
            return
        asked = f"{urllib.parse.quote(path)}{'?' + query if query else ''}"
        self._send(
            *self.grafana.ask(source, asked, body, self.headers.get("Content-Type", "") if body else "")
        )

    def _page(self, title: str, body: str) -> None:
        text = f"<!doctype html><html lang=en><title>Grafana: {title}</title><h1>{title}</h1>{body}"
        self._send(HTTPStatus.OK, text.encode(), "text/html; charset=UTF-8")

    def _json(self, value: Any, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), "application/json", headers)

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        key = (self.command.lower(), int(status))
        self.grafana.answers[key] = self.grafana.answers.get(key, 0) + 1
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        if self.grafana.settings.on("security", "content_security_policy"):
            self.send_header("Content-Security-Policy", "default-src 'none'")
        self.send_header("X-Frame-Options", "deny")
        self.end_headers()
        self.wfile.write(body)


def _cookie(session: str, settings: Settings) -> dict[str, str]:
    text = f"grafana_session={session}; Path=/; HttpOnly; SameSite={settings.get('security', 'cookie_samesite', 'lax').title()}"
    return {"Set-Cookie": text + ("; Secure" if settings.on("security", "cookie_secure") else "")}


def _public(source: dict[str, Any]) -> dict[str, Any]:
    shown = {key: value for key, value in source.items() if key != "secureJsonData"}
    return shown | {
        "readOnly": not source.get("editable", False),
        "secureJsonFields": dict.fromkeys(source.get("secureJsonData", {}), True),
    }


def main() -> None:
    """``grafana server`` or ``grafana cli admin reset-admin-password``."""
    parser = argparse.ArgumentParser(prog="grafana", description=f"Stand-in of Grafana (lab), {VERSION}")
    parser.add_argument("--version", "-v", action="version", version=f"grafana version {VERSION}")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--homepath", type=Path, required=True)
    shared.add_argument("--config", type=Path, required=True)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("server", parents=[shared])
    cli = commands.add_parser("cli", parents=[shared]).add_subparsers(dest="topic", required=True)
    reset = (
        cli.add_parser("admin").add_subparsers(dest="work", required=True).add_parser("reset-admin-password")
    )
    reset.add_argument("--password-from-stdin", action="store_true", required=True)
    given = parser.parse_args()
    if not (given.homepath / "conf" / "defaults.ini").is_file():
        raise SystemExit(f"{given.homepath} is not where Grafana lies: there is no conf/defaults.ini")
    settings = Settings(given.config)
    if given.command == "cli":
        Store(settings).set_password(sys.stdin.readline().rstrip("\n"))
        print("Admin password changed successfully")
        return
    try:
        Handler.grafana = Grafana(settings)
    except (RefusedError, ValueError, KeyError) as error:
        raise SystemExit(f"Grafana's provisioning is refused: {error!r}") from error
    address = settings.get("server", "http_addr"), int(settings.get("server", "http_port", "3000"))
    server = ThreadingHTTPServer(address, Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()


if __name__ == "__main__":
    main()
