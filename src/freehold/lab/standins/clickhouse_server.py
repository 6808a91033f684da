#!/usr/bin/python3
"""Stand-in of the ClickHouse server (lab): its HTTP interface over ClickHouse's own engine, in the package chdb-core.

The contract is https://clickhouse.com/docs/interfaces/http. The engine reads the very ``config.xml`` that the server would
(so it refuses settings that do not exist), and users, networks, hashes and grants come from its ``users.xml``: the engine
checks grants, this program the rest. It answers::

    GET  POST  /             query, database, user, password, default_format, query_id, param_*, settings; Basic
                             authentication and X-ClickHouse-{User,Key,Database,Format}; gzip both ways
    GET        /ping  /replicas_status
    GET        /metrics      at the port of the section prometheus: system.metrics, system.events and a few others

What it is not: a server of the native protocol (port 9000 closes every connection), replicated, or a place for sessions
(session_id is ignored). ``currentUser()`` is the engine's only user, in the role of the one who asked. The engine is newer
than the server that it stands for, and answers ``version()`` with its own.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import hmac
import importlib
import json
import logging
import os
import queue
import re
import shutil
import signal
import socketserver
import sys
import threading
import time
import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

VERSION = ""  # written by the build
PACKAGES = Path(__file__).resolve().parents[1] / "share" / "standin"

AUTHENTICATION_FAILED, READONLY = 516, 164
# Of upstream's exceptionCodeToHTTPStatus (src/Server/HTTP); everything else is 500.
STATUS = {AUTHENTICATION_FAILED: 403, 62: 400, 60: 404, 81: 404, 47: 404, 497: 403, 241: 500}
"""HTTP status by code of an exception."""

OWN = {
    "query",
    "database",
    "user",
    "password",
    "default_format",
    "query_id",
    "session_id",
    "session_timeout",
    "session_check",
    "quota_key",
    "compress",
    "decompress",
    "enable_http_compression",
    "wait_end_of_query",
    "buffer_size",
    "role",
    "http_write_exception_in_output_format",
    "send_progress_in_http_headers",
    "http_headers_progress_interval_ms",
    "client_protocol_version",
}
"""Parameters of a request that are no settings of the engine here."""

READS = re.compile(r"(?is)\s*(--[^\n]*\n\s*|/\*.*?\*/\s*)*(select|show|desc|exists|explain|with|[(])")
FORBIDDEN = re.compile(r"(?i)\bset\s+(default\s+)?role\b")
"""Would let a caller out of the role that stands for the user."""


class QueryError(Exception):
    """What ClickHouse calls an exception."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class User:
    """A user of ``users.xml``."""

    name: str
    password: str
    networks: list[Any]
    grants: list[str]
    database: str
    sessions: queue.LifoQueue[Any] = field(default_factory=queue.LifoQueue)
    made: int = 0


def read_users(file: Path) -> dict[str, User]:
    """The users of the server's own file."""
    root = ET.parse(file).getroot()  # noqa: S314 - our own configuration
    users = {}
    for element in root.find("users") or []:
        name = element.tag
        users[name] = User(
            name,
            element.findtext("password_sha256_hex", ""),
            [ip_network(str(entry.text)) for entry in element.findall("networks/ip")],
            [str(query.text) for query in element.findall("grants/query")] or ["GRANT ALL ON *.*"],
            element.findtext("default_database", "default"),
        )
    return users


def _role(user: User) -> str:
    """Name of the role of the engine's only user that stands for a user."""
    return f"as_{user.name}"


def engine_configuration(config: Path, folder: Path) -> tuple[Path, Path]:
    """The server's configuration as the engine can use it, and its data folder: its own user gets a role for each user."""
    root = ET.parse(config).getroot()  # noqa: S314 - our own configuration
    users_file = Path(
        root.findtext("user_directories/users_xml/path", "") or root.findtext("users_config", "")
    )
    users = ET.parse(users_file).getroot()  # noqa: S314 - our own configuration
    roles = ET.SubElement(users, "roles")
    named = read_users(users_file)
    for user in named.values():
        grants = ET.SubElement(ET.SubElement(roles, _role(user)), "grants")
        for query in user.grants:
            ET.SubElement(grants, "query").text = query
    given = users.find("users")
    assert given is not None
    only = ET.SubElement(given, "default")
    ET.SubElement(only, "password_sha256_hex").text = hashlib.sha256(b"").hexdigest()
    ET.SubElement(ET.SubElement(only, "networks"), "ip").text = "127.0.0.1"
    for key in ("profile", "quota"):
        ET.SubElement(only, key).text = "default"
    grants = ET.SubElement(only, "grants")
    for user in named.values():
        ET.SubElement(grants, "query").text = f"GRANT {_role(user)}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    own_users, own_config = folder / "users.xml", folder / "config.xml"
    ET.ElementTree(users).write(own_users)
    path = root.find("user_directories/users_xml/path")
    if path is not None:
        path.text = str(own_users)
    if (logger := root.find("logger")) is not None:
        root.remove(logger)  # the engine would log every query, whatever the level
    ET.SubElement(root, "users_config").text = str(own_users)
    ET.ElementTree(root).write(own_config)
    return own_config, Path(root.findtext("path", "/var/lib/clickhouse/"))


class Engine:
    """ClickHouse's engine, with some sessions for each user."""

    SESSIONS = 4

    def __init__(self, config: Path) -> None:
        root = ET.parse(config).getroot()  # noqa: S314 - our own configuration
        users_file = root.findtext("user_directories/users_xml/path", "")
        self.users = read_users(Path(users_file))
        data = Path(root.findtext("path", "/var/lib/clickhouse/"))
        own, data = engine_configuration(config, data / "standin")
        sys.path.insert(0, str(PACKAGES))
        self._session: Any = importlib.import_module("chdb.session").Session
        self._data = data
        self._address = f"{data}?config-file={own}"
        self._lock = threading.Lock()
        self.started = time.time()
        self.admin = next(user for user in self.users.values() if user.grants == ["GRANT ALL ON *.*"])
        self.query(self.admin, b"SELECT 1", "TabSeparated", "default", {}, {})

    def _take(self, user: User) -> Any:
        with self._lock:
            make = user.sessions.empty() and user.made < self.SESSIONS
            user.made += make
        if not make:
            return user.sessions.get()
        session = self._session(self._address)
        session.query(f"SET ROLE {_role(user)}")
        return session

    def query(
        self,
        user: User,
        sql: bytes,
        output: str,
        database: str,
        parameters: dict[str, str],
        settings: dict[str, str],
    ) -> Any:
        """The result of a query as a user.

        Raises:
            QueryError: The engine refuses it.
        """
        session = self._take(user)
        changed = []
        try:
            session.query(f"USE `{database}`")
            for name, value in settings.items():
                quoted = value.replace("\\", "\\\\").replace("'", "\\'")
                session.query(f"SET {name} = '{quoted}'")
                changed.append(name)
            return session.query(sql, output, params=parameters) if parameters else session.query(sql, output)
        except RuntimeError as error:
            found = re.search(r"Code: (\d+)", str(error))
            raise QueryError(int(found[1]) if found else 1002, str(error)) from error
        finally:
            for name in changed:
                session.query(f"SET {name} = DEFAULT")
            user.sessions.put(session)

    def metrics(self) -> str:
        """Figures under the names of the server's exporter."""
        lines = []
        for table, prefix, kind, value in (
            ("metrics", "ClickHouseMetrics", "gauge", "value"),
            ("events", "ClickHouseProfileEvents", "counter", "value"),
        ):
            names = "metric" if table == "metrics" else "event"
            sql = f"SELECT {names}, {value} FROM system.{table} ORDER BY 1"  # noqa: S608 - fixed names
            rows = self.query(self.admin, sql.encode(), "TabSeparated", "default", {}, {}).bytes().decode()
            for row in rows.splitlines():
                name, number = row.split("\t")
                lines += [f"# TYPE {prefix}_{name} {kind}", f"{prefix}_{name} {number}"]
        parts = b"SELECT max(n) FROM (SELECT count() AS n FROM system.parts WHERE active GROUP BY database, table, partition)"
        most = (
            self.query(self.admin, parts, "TabSeparated", "default", {}, {}).bytes().decode().strip() or "0"
        )
        disk = shutil.disk_usage(self._data)
        resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
        for name, figure in (
            ("Uptime", f"{time.time() - self.started:.0f}"),
            ("MaxPartCountForPartition", most),
            ("MemoryResident", str(resident)),
            ("FilesystemMainPathAvailableBytes", str(disk.free)),
            ("FilesystemMainPathTotalBytes", str(disk.total)),
        ):
            lines += [
                f"# TYPE ClickHouseAsyncMetrics_{name} gauge",
                f"ClickHouseAsyncMetrics_{name} {figure}",
            ]
        return "\n".join(lines) + "\n"


class Handler(BaseHTTPRequestHandler):
    """One connection of the HTTP interface."""

    protocol_version = "HTTP/1.1"
    timeout = 300
    engine: Engine

    def handle_request(self) -> None:
        """Answer a query, or a question for life."""
        url = urlsplit(self.path)
        body = self._body()
        if url.path in {"/ping", "/replicas_status"}:
            return self._send(200, b"Ok.\n", {})
        given = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        if url.path != "/":
            return self._send(404, f"There is no handle {url.path}\n".encode(), {})
        if "query" not in given and not body:
            return self._send(200, b"Ok.\n", {})
        query_id = given.get("query_id") or str(uuid.uuid4())
        headers = {"X-ClickHouse-Query-Id": query_id, "X-ClickHouse-Timezone": "UTC"}
        try:
            content, more = self._query(given, body)
        except QueryError as error:
            text = str(error)
            if "DB::Exception" not in text:
                text = f"Code: {error.code}. DB::Exception: {text}"
            headers["X-ClickHouse-Exception-Code"] = str(error.code)
            # not the text, which holds the query; upstream's rules for masking are none of the engine's here
            logging.warning("%s: query %s ended with code %s", self.client_address[0], query_id, error.code)
            return self._send(STATUS.get(error.code, 500), f"{text.strip()}\n".encode(), headers)
        return self._send(200, content, headers | more)

    do_GET = do_POST = handle_request  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(parts)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _user(self, given: dict[str, str]) -> User:
        name, password = self.headers.get("X-ClickHouse-User"), self.headers.get("X-ClickHouse-Key")
        if (basic := self.headers.get("Authorization", "")).startswith("Basic "):
            name, _, password = base64.b64decode(basic[6:]).decode().partition(":")
        name, password = given.get("user", name) or "default", given.get("password", password) or ""
        user = self.engine.users.get(name)
        caller = ip_address(self.client_address[0])
        digest = hashlib.sha256(password.encode()).hexdigest()
        if (
            user is None
            or not hmac.compare_digest(digest, user.password)
            or not any(caller in network for network in user.networks)
        ):
            raise QueryError(
                AUTHENTICATION_FAILED,
                f"{name}: Authentication failed: password is incorrect, or there is no user with such name. "
                "(AUTHENTICATION_FAILED)",
            )
        return user

    def _query(self, given: dict[str, str], body: bytes) -> tuple[bytes, dict[str, str]]:
        user = self._user(given)
        sql = given.get("query", "").encode()
        sql = (sql + b"\n" + body if sql and body else sql or body).strip()
        if FORBIDDEN.search(sql[:200].decode(errors="replace")):
            raise QueryError(497, "this stand-in does not change roles (ACCESS_DENIED)")
        if self.command == "GET" and not READS.match(sql[:2000].decode(errors="replace")):
            raise QueryError(READONLY, "Cannot execute query in readonly mode (GET). (READONLY)")
        output = given.get("default_format") or self.headers.get("X-ClickHouse-Format") or "TabSeparated"
        database = given.get("database") or self.headers.get("X-ClickHouse-Database") or user.database
        parameters = {name[6:]: value for name, value in given.items() if name.startswith("param_")}
        settings = {
            name: value
            for name, value in given.items()
            if name not in OWN and not name.startswith("param_") and re.fullmatch(r"[a-z0-9_]+", name)
        }
        result = self.engine.query(user, sql, output, database, parameters, settings)
        tail = re.search(rb"(?i)\bformat\s+([a-z]+)\s*(settings\b.*)?;?$", sql[-300:])
        shown = tail[1].decode() if tail and not re.match(rb"(?i)\s*insert", sql) else output
        kind = "application/json" if shown.lower().startswith("json") else "text/tab-separated-values"
        summary = {
            "read_rows": str(result.rows_read()),
            "read_bytes": str(result.bytes_read()),
            "written_rows": str(result.rows_written()),
            "written_bytes": str(result.bytes_written()),
            "elapsed_ns": str(int(result.elapsed() * 1e9)),
        }
        headers = {
            "Content-Type": f"{kind}; charset=UTF-8",
            "X-ClickHouse-Format": shown,
            "X-ClickHouse-Summary": json.dumps(summary),
        }
        content = result.bytes() or b""
        if given.get("enable_http_compression") == "1" and "gzip" in self.headers.get("Accept-Encoding", ""):
            content = gzip.compress(content, 1)
            headers["Content-Encoding"] = "gzip"
        return content, headers

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": "text/plain; charset=UTF-8",
            "X-ClickHouse-Server-Display-Name": f"stand-in {VERSION}",
            **headers,
            "Content-Length": str(len(content)),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """As the server at its level ``warning``: nothing of what went well."""


class Figures(Handler):
    """One connection of the port for Prometheus."""

    def handle_request(self) -> None:
        """The figures, and nothing else."""
        if urlsplit(self.path).path != "/metrics":
            return self._send(404, b"There is no such page\n", {})
        return self._send(200, self.engine.metrics().encode(), {"Content-Type": "text/plain; version=0.0.4"})

    do_GET = handle_request  # noqa: N815


class Server(ThreadingHTTPServer):
    """A port of the HTTP interface."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """A caller that went away is one line."""
        logging.warning("%s: %s", client_address[0], sys.exc_info()[1])


class Silent(socketserver.BaseRequestHandler):
    """The native protocol, which this stand-in does not speak."""

    def handle(self) -> None:
        """Close, and say why in the log."""
        logging.warning("%s: this stand-in has no native protocol", self.client_address[0])


class SilentServer(socketserver.ThreadingTCPServer):
    """The port of the native protocol."""

    allow_reuse_address = True
    daemon_threads = True


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(prog="clickhouse")
    parser.add_argument("--version", action="version", version=f"ClickHouse server version {VERSION}.")
    parser.add_argument("command", choices=["server"])
    parser.add_argument("--config-file", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    config = ET.parse(options.config_file).getroot()  # noqa: S314 - our own configuration
    Handler.engine = Engine(options.config_file)
    servers: list[socketserver.BaseServer] = []
    for host in [str(element.text) for element in config.findall("listen_host")] or ["127.0.0.1"]:
        servers.append(Server((host, int(config.findtext("http_port", "8123"))), Handler))
        servers.append(SilentServer((host, int(config.findtext("tcp_port", "9000"))), Silent))
        if port := config.findtext("prometheus/port"):
            servers.append(Server((host, int(port)), Figures))
    logging.info("stand-in of ClickHouse %s", VERSION)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main()
