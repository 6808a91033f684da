#!/usr/bin/python3
"""Stand-in of the Qdrant server (lab): its REST API over the local mode of the official ``qdrant-client``.

The contract is https://api.qdrant.tech/v-1-19-x/api-reference and upstream's ``config/config.yaml``. It reads the same
configuration file and environment, listens at the same ports with the same certificate, and checks the same keys::

    GET    /  /healthz  /livez  /readyz                              without a key
    GET    /metrics  /telemetry  /collections  /aliases
    GET    PUT  PATCH  DELETE  /collections/{name}                   GET /collections/{name}/exists  .../aliases
    PUT    /collections/{name}/index                                 DELETE .../index/{field}
    POST   /collections/aliases
    PUT    POST  /collections/{name}/points                          GET .../points/{id}
    POST   .../points/delete  scroll  count  search  search/batch  query  query/batch  query/groups  facet  batch
    POST   PUT   .../points/payload  and  .../points/payload/delete  clear
    PUT    .../points/vectors                                        POST .../points/vectors/delete
    GET    POST  .../snapshots                                       GET DELETE .../snapshots/{snapshot}
    PUT    .../snapshots/recover                                     POST .../snapshots/upload
    gRPC   qdrant.Qdrant/HealthCheck alone

What it is not: fast, indexed, replicated. Everything else answers 404 (HTTP) or UNIMPLEMENTED (gRPC). Snapshots are
archives of its own, which upstream's server cannot read.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import importlib
import io
import json
import logging
import os
import re
import signal
import ssl
import sys
import tarfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

VERSION = ""  # written by the build
PACKAGES = Path(__file__).resolve().parent / "standin"

OPEN_PATHS = {"/", "/healthz", "/livez", "/readyz"}
READ_ONLY_POSTS = re.compile(
    r"/collections/[^/]+/points(/(scroll|count|search|search/batch|query|query/batch|query/groups))?|"
    r"/collections/[^/]+/facet"
)
"""Posts that only read, for the read-only key."""


class Refused(Exception):  # noqa: N818 - an answer, not a failure of ours
    """An answer that is no success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Settings:
    """``config.yaml`` with the environment laid over it, as upstream's server reads them."""

    def __init__(self, file: Path) -> None:
        yaml = importlib.import_module("yaml")
        self._document: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8")) or {}

    def get(self, section: str, key: str, default: Any = None) -> Any:
        """A setting, such as ``service``, ``host``; ``QDRANT__SERVICE__HOST`` comes first."""
        name = f"QDRANT__{section.upper()}__{key.upper()}"
        return os.environ.get(name, (self._document.get(section) or {}).get(key, default))

    @property
    def telemetry_disabled(self) -> bool:
        """Whether nothing is told to the developers; this server never tells them anything."""
        return bool(self._document.get("telemetry_disabled", False))


class Store:
    """Collections and snapshots. One request at a time: the local mode is not made for threads."""

    def __init__(self, settings: Settings) -> None:
        local = importlib.import_module("qdrant_client.local.qdrant_local")
        self.models: Any = importlib.import_module("qdrant_client.http.models")
        self.adapter: Any = importlib.import_module("pydantic").TypeAdapter
        self.snapshots = Path(settings.get("storage", "snapshots_path", "./snapshots"))
        storage = Path(settings.get("storage", "storage_path", "./storage"))
        for folder in (self.snapshots, storage):
            folder.mkdir(parents=True, exist_ok=True)
        self.url_recovery = bool(settings.get("service", "enable_snapshot_url_recovery", True))
        self.lock = threading.Lock()
        self.local: Any = local.QdrantLocal(str(storage), force_disable_check_same_thread=True)

    def parse(self, model: str, body: bytes) -> Any:
        """A request of the API, checked by the client's own types."""
        try:
            return self.adapter(getattr(self.models, model)).validate_json(body or b"{}")
        except ValueError as error:
            raise Refused(400, f"Format error in JSON body: {str(error)[:500]}") from error

    def require(self, name: str) -> None:
        """Refuse a collection that does not exist."""
        if not self.local.collection_exists(name):
            raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")

    # --- snapshots

    def take(self, name: str) -> Any:
        """Write a snapshot of a collection."""
        now = datetime.now(UTC)
        folder = self.snapshots / name
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}-standin-{now:%Y-%m-%d-%H-%M-%S-%f}.snapshot"
        config = self.local._get_collection(name).config.model_dump_json()
        lines, offset = [], None
        while True:
            page, offset = self.local.scroll(
                name, limit=1000, offset=offset, with_payload=True, with_vectors=True
            )
            lines += [point.model_dump_json(include={"id", "payload", "vector"}) for point in page]
            if offset is None:
                break
        with tarfile.open(path, "w") as archive:
            for member, text in (("config.json", config), ("points.jsonl", "\n".join(lines))):
                info = tarfile.TarInfo(member)
                info.size = len(text.encode())
                archive.addfile(info, io.BytesIO(text.encode()))
        return self.describe(path)

    def describe(self, path: Path) -> Any:
        """What the API says of a snapshot."""
        made = datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None)
        return self.models.SnapshotDescription(
            name=path.name,
            creation_time=made.isoformat(timespec="seconds"),
            size=path.stat().st_size,
            checksum=hashlib.sha256(path.read_bytes()).hexdigest(),
        )

    def snapshot(self, name: str, snapshot: str) -> Path:
        """The file of a snapshot."""
        path = self.snapshots / name / Path(snapshot).name
        if not path.is_file():
            raise Refused(404, f"Not found: Snapshot {snapshot} not found")
        return path

    def recover(self, name: str, content: bytes) -> bool:
        """Put what a snapshot holds in place of a collection, or make it."""
        try:
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                config, points = (
                    _member(archive, member).decode() for member in ("config.json", "points.jsonl")
                )
        except (tarfile.TarError, KeyError) as error:
            raise Refused(400, f"Bad request: Failed to unpack snapshot: {error}") from error
        made = self.parse("CreateCollection", config.encode())
        self.local.delete_collection(name)
        self.local.create_collection(name, made.vectors, made.sparse_vectors)
        parsed = [self.parse("PointStruct", line.encode()) for line in points.splitlines()]
        if parsed:
            self.local.upsert(name, parsed)
        return True

    def recover_from(self, name: str, location: str) -> bool:
        """Recover from where the caller says: a snapshot that lies here, and nothing else."""
        if not location.startswith("file://"):
            if not self.url_recovery:
                raise Refused(403, "Forbidden: Snapshot recovery from URL is disabled")
            raise Refused(400, "Bad request: this stand-in fetches nothing")
        path = Path(unquote(urlsplit(location).path)).resolve()
        if not path.is_relative_to(self.snapshots.resolve()) or not path.is_file():
            raise Refused(403, "Forbidden: Snapshot file must be inside the snapshots directory")
        return self.recover(name, path.read_bytes())


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    assert stream is not None
    return stream.read()


class Api:
    """The requests, one method for each kind; each gets the parts of the path, the query and the body."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.local = store.local
        name, points = r"/collections/([^/]+)", r"/collections/([^/]+)/points"
        routes: list[tuple[str, str, Callable[..., Any]]] = [
            ("GET", "/collections", lambda _: self.local.get_collections()),
            ("GET", "/aliases", lambda _: self.local.get_aliases()),
            ("POST", "/collections/aliases", self.change_aliases),
            ("PUT", name, self.create),
            ("GET", f"{name}/exists", lambda _, c: {"exists": self.local.collection_exists(c)}),
            ("GET", name, lambda _, c: self.local.get_collection(c)),
            ("PATCH", name, self.change),
            ("DELETE", name, self.remove),
            ("GET", f"{name}/aliases", lambda _, c: self.local.get_collection_aliases(c)),
            ("PUT", f"{name}/index", self.index),
            ("DELETE", f"{name}/index/([^/]+)", lambda _, c, f: self.local.delete_payload_index(c, f)),
            ("POST", f"{name}/facet", self.facet),
            ("PUT", points, self.upsert),
            ("POST", points, self.retrieve),
            ("POST", f"{points}/delete", self.delete),
            ("POST", f"{points}/scroll", self.scroll),
            ("POST", f"{points}/count", self.count),
            ("POST", f"{points}/search", lambda body, c: self.search(c, self.parse("SearchRequest", body))),
            ("POST", f"{points}/search/batch", self.search_batch),
            ("POST", f"{points}/query", lambda body, c: self.query(c, self.parse("QueryRequest", body))),
            ("POST", f"{points}/query/batch", self.query_batch),
            ("POST", f"{points}/query/groups", self.query_groups),
            ("POST", f"{points}/batch", self.batch),
            ("POST", f"{points}/payload", self.set_payload),
            ("PUT", f"{points}/payload", self.overwrite_payload),
            ("POST", f"{points}/payload/delete", self.delete_payload),
            ("POST", f"{points}/payload/clear", self.clear_payload),
            ("PUT", f"{points}/vectors", self.update_vectors),
            ("POST", f"{points}/vectors/delete", self.delete_vectors),
            ("GET", f"{points}/([^/]+)", self.point),
            ("GET", f"{name}/snapshots", self.snapshots),
            ("POST", f"{name}/snapshots", lambda _, c: store.take(c)),
            ("PUT", f"{name}/snapshots/recover", self.recover),
            ("POST", f"{name}/snapshots/upload", self.upload),
            ("DELETE", f"{name}/snapshots/([^/]+)", self.remove_snapshot),
        ]
        self.routes = [(method, re.compile(pattern), call) for method, pattern, call in routes]

    def parse(self, model: str, body: bytes) -> Any:
        """A request, checked."""
        return self.store.parse(model, body)

    def answer(self, method: str, path: str, body: bytes) -> Any:
        """The result of a request.

        Raises:
            Refused: It is wrong, or this stand-in does not know it.
        """
        known = False
        for wanted, pattern, call in self.routes:
            found = pattern.fullmatch(path)
            known |= found is not None
            if found and wanted == method:
                parts = [unquote(part) for part in found.groups()]
                whole = pattern.pattern == r"/collections/([^/]+)" and method in {"PUT", "DELETE"}
                if parts and not whole and "/snapshots/" not in path and not path.endswith("/exists"):
                    self.store.require(parts[0])
                with self.store.lock:
                    try:
                        return call(body, *parts)
                    except (ValueError, KeyError, AssertionError, TypeError) as error:
                        raise Refused(400, f"Wrong input: {error}") from error
        raise Refused(405 if known else 404, "")

    def create(self, body: bytes, name: str) -> Any:
        made = self.parse("CreateCollection", body)
        if self.local.collection_exists(name):
            raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
        return self.local.create_collection(name, made.vectors, made.sparse_vectors, metadata=made.metadata)

    def remove(self, _body: bytes, name: str) -> Any:
        return self.local.collection_exists(name) and self.local.delete_collection(name)

    def change(self, body: bytes, name: str) -> Any:
        made = self.parse("UpdateCollection", body)
        self.local.update_collection(name, made.sparse_vectors, made.metadata)
        return True

    def change_aliases(self, body: bytes) -> Any:
        return self.local.update_collection_aliases(self.parse("ChangeAliasesOperation", body).actions)

    def index(self, body: bytes, name: str) -> Any:
        made = self.parse("CreateFieldIndex", body)
        return self.local.create_payload_index(name, made.field_name, made.field_schema)

    def facet(self, body: bytes, name: str) -> Any:
        made = self.parse("FacetRequest", body)
        return self.local.facet(name, made.key, made.filter, made.limit or 10)

    def upsert(self, body: bytes, name: str) -> Any:
        made = self.parse("PointInsertOperations", body)
        given = made.points if hasattr(made, "points") else made.batch
        if isinstance(given, list):
            self._check_size(name, given)
        return self.local.upsert(name, given)

    def _check_size(self, name: str, points: list[Any]) -> None:
        """Refuse a vector of another length, of which the local mode would keep a half."""
        size = getattr(self.local.get_collection(name).config.params.vectors, "size", None)
        for point in points:
            if size and isinstance(point.vector, list) and len(point.vector) != size:
                raise ValueError(f"Vector dimension error: expected dim: {size}, got {len(point.vector)}")

    def retrieve(self, body: bytes, name: str) -> Any:
        made = self.parse("PointRequest", body)
        shown = True if made.with_payload is None else made.with_payload
        return self.local.retrieve(name, made.ids, shown, made.with_vector or False)

    def point(self, _body: bytes, name: str, point: str) -> Any:
        found = self.local.retrieve(name, [int(point) if point.isdigit() else point], True, True)
        if not found:
            raise Refused(404, f"Not found: Point with id {point} does not exists!")
        return found[0]

    def delete(self, body: bytes, name: str) -> Any:
        return self.local.delete(name, self.parse("PointsSelector", body))

    def scroll(self, body: bytes, name: str) -> Any:
        made = self.parse("ScrollRequest", body)
        points, after = self.local.scroll(
            name,
            scroll_filter=made.filter,
            limit=made.limit or 10,
            order_by=made.order_by,
            offset=made.offset,
            with_payload=True if made.with_payload is None else made.with_payload,
            with_vectors=made.with_vector or False,
        )
        return {"points": points, "next_page_offset": after}

    def count(self, body: bytes, name: str) -> Any:
        return self.local.count(name, self.parse("CountRequest", body).filter)

    def search(self, name: str, made: Any) -> Any:
        return self.local.search(
            name,
            made.vector,
            made.filter,
            limit=made.limit,
            offset=made.offset,
            with_payload=False if made.with_payload is None else made.with_payload,
            with_vectors=made.with_vector or False,
            score_threshold=made.score_threshold,
        )

    def search_batch(self, body: bytes, name: str) -> Any:
        return [self.search(name, each) for each in self.parse("SearchRequestBatch", body).searches]

    def _nearest(self, query: Any) -> Any:
        plain = isinstance(query, list | int | str) or type(query).__name__ == "SparseVector"
        return self.store.models.NearestQuery(nearest=query) if plain else query

    def query(self, name: str, made: Any) -> Any:
        return self.local.query_points(
            name,
            query=self._nearest(made.query),
            using=made.using,
            prefetch=made.prefetch,
            query_filter=made.filter,
            limit=made.limit or 10,
            offset=made.offset,
            with_payload=made.with_payload or False,
            with_vectors=made.with_vector or False,
            score_threshold=made.score_threshold,
            lookup_from=made.lookup_from,
        )

    def query_batch(self, body: bytes, name: str) -> Any:
        return [self.query(name, each) for each in self.parse("QueryRequestBatch", body).searches]

    def query_groups(self, body: bytes, name: str) -> Any:
        made = self.parse("QueryGroupsRequest", body)
        return self.local.query_points_groups(
            name,
            group_by=made.group_by,
            query=self._nearest(made.query),
            using=made.using,
            prefetch=made.prefetch,
            query_filter=made.filter,
            limit=made.limit or 10,
            group_size=made.group_size or 3,
            with_payload=made.with_payload or False,
            with_vectors=made.with_vector or False,
            score_threshold=made.score_threshold,
        )

    def batch(self, body: bytes, name: str) -> Any:
        return self.local.batch_update_points(name, self.parse("UpdateOperations", body).operations)

    def _selected(self, made: Any) -> Any:
        models = self.store.models
        return models.FilterSelector(filter=made.filter) if made.points is None else list(made.points)

    def set_payload(self, body: bytes, name: str) -> Any:
        made = self.parse("SetPayload", body)
        return self.local.set_payload(name, made.payload, self._selected(made), made.key)

    def overwrite_payload(self, body: bytes, name: str) -> Any:
        made = self.parse("SetPayload", body)
        return self.local.overwrite_payload(name, made.payload, self._selected(made))

    def delete_payload(self, body: bytes, name: str) -> Any:
        made = self.parse("DeletePayload", body)
        return self.local.delete_payload(name, made.keys, self._selected(made))

    def clear_payload(self, body: bytes, name: str) -> Any:
        return self.local.clear_payload(name, self.parse("PointsSelector", body))

    def update_vectors(self, body: bytes, name: str) -> Any:
        return self.local.update_vectors(name, self.parse("UpdateVectors", body).points)

    def delete_vectors(self, body: bytes, name: str) -> Any:
        made = self.parse("DeleteVectors", body)
        return self.local.delete_vectors(name, made.vector, self._selected(made))

    def snapshots(self, _body: bytes, name: str) -> Any:
        return [
            self.store.describe(path) for path in sorted((self.store.snapshots / name).glob("*.snapshot"))
        ]

    def remove_snapshot(self, _body: bytes, name: str, snapshot: str) -> Any:
        self.store.snapshot(name, snapshot).unlink()
        return True

    def recover(self, body: bytes, name: str) -> Any:
        return self.store.recover_from(name, self.parse("SnapshotRecover", body).location)

    def upload(self, body: bytes, name: str) -> Any:
        head, _, rest = body.partition(b"\r\n\r\n")
        boundary = head.split(b"\r\n", 1)[0][2:]
        form = message_from_bytes(
            b'Content-Type: multipart/form-data; boundary="'
            + boundary
            + b'"\r\n\r\n'
            + head
            + b"\r\n\r\n"
            + rest
        )
        parts = form.get_payload()
        if not isinstance(parts, list) or not parts:
            raise Refused(400, "Bad request: no file in the form")
        content = parts[0].get_payload(decode=True)  # type: ignore[union-attr]
        return self.store.recover(name, content if isinstance(content, bytes) else b"")


class Handler(BaseHTTPRequestHandler):
    """One connection over TLS."""

    protocol_version = "HTTP/1.1"
    timeout = 120
    api: Api
    settings: Settings
    seen: Counter[tuple[str, str, int]]

    def handle_request(self) -> None:
        """Check the key, answer, count."""
        url = urlsplit(self.path)
        path = url.path.rstrip("/") or "/"
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        started = time.monotonic()
        try:
            limit = int(self.settings.get("service", "max_request_size_mb", 32)) << 20
            if len(body) > limit:
                raise Refused(413, "Payload reached size limit.")
            self.check_key(path)
            status, kind, content = self.plain(path, parse_qs(url.query))
            if not status:
                result = self.api.answer(self.command, path, body)
                status, kind = 200, "application/json"
                content = self.document({"result": result, "status": "ok"}, started)
        except Refused as refused:
            status, kind = refused.status, "application/json"
            plain = status in {401, 403} and not path.endswith(("/recover", "/upload"))
            if plain:
                kind, content = "text/plain", str(refused).encode()
            else:
                content = self.document({"status": {"error": str(refused)}}, started)
        pattern = re.sub(r"(?<=/collections/)[^/]+", "{name}", path)
        pattern = re.sub(r"(?<=/snapshots/)(?!recover|upload).+", "{snapshot_name}", pattern)
        self.seen[(self.command, pattern, status)] += 1
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = handle_request  # noqa: N815

    def check_key(self, path: str) -> None:
        """As upstream: 401 without a key, 403 with a wrong one or one that may only read."""
        key = self.settings.get("service", "api_key")
        reading = self.settings.get("service", "read_only_api_key")
        if path in OPEN_PATHS or not (key or reading):
            return
        shown = self.headers.get("api-key") or self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not shown:
            raise Refused(401, "Must provide an API key or an Authorization bearer token")
        if key and hmac.compare_digest(shown, key):
            return
        if not (reading and hmac.compare_digest(shown, reading)):
            raise Refused(403, "Invalid API key or JWT")
        if self.command != "GET" and not (self.command == "POST" and READ_ONLY_POSTS.fullmatch(path)):
            raise Refused(403, "Forbidden: Global manage access is required")

    def plain(self, path: str, _query: Any) -> tuple[int, str, bytes]:
        """Answers that are no results: status, kind and content; status 0 where it is none of them."""
        if self.command != "GET":
            return 0, "", b""
        if path == "/":
            about = {"title": "qdrant - vector search engine", "version": VERSION, "commit": "stand-in"}
            return 200, "application/json", json.dumps(about).encode()
        if path in OPEN_PATHS:
            word = path.removeprefix("/")
            text = "all shards are ready" if word == "readyz" else f"{word} check passed"
            return 200, "text/plain", text.encode()
        if path == "/metrics":
            return 200, "text/plain; version=0.0.4", self.metrics().encode()
        if path == "/telemetry":
            told = {
                "app": {"name": "qdrant", "version": VERSION},
                "collections": {"number_of_collections": len(self.api.local.collections)},
            }
            document = {"result": {"id": "stand-in", **told}, "status": "ok", "time": 0.0}
            return 200, "application/json", json.dumps(document).encode()
        if found := re.fullmatch(r"/collections/([^/]+)/snapshots/([^/]+)", path):
            file = self.api.store.snapshot(*map(unquote, found.groups()))
            return 200, "application/octet-stream", file.read_bytes()
        return 0, "", b""

    def metrics(self) -> str:
        """Figures under upstream's names."""
        with self.api.store.lock:
            points = sum(collection.count().count for collection in self.api.local.collections.values())
        lines = [
            "# TYPE app_info gauge",
            f'app_info{{name="qdrant",version="{VERSION}"}} 1',
            "# TYPE app_status_recovery_mode gauge",
            "app_status_recovery_mode 0",
            "# TYPE collections_total gauge",
            f"collections_total {len(self.api.local.collections)}",
            "# TYPE collections_vector_total gauge",
            f"collections_vector_total {points}",
            "# TYPE cluster_enabled gauge",
            "cluster_enabled 0",
            "# TYPE rest_responses_total counter",
            *(
                f'rest_responses_total{{method="{method}",endpoint="{path}",status="{status}"}} {count}'
                for (method, path, status), count in sorted(self.seen.items())
            ),
        ]
        return "\n".join(lines) + "\n"

    def document(self, content: dict[str, Any], started: float) -> bytes:
        """The JSON of an answer."""
        document = content | {"time": round(time.monotonic() - started, 6)}
        return json.dumps(document, default=lambda value: value.model_dump(mode="json")).encode()

    def log_message(self, template: str, *arguments: Any) -> None:
        """To the journal, as upstream does at INFO."""
        logging.info("%s %s", self.client_address[0], template % arguments)


class Server(ThreadingHTTPServer):
    """The REST API; the handshake of TLS is left to the thread of its connection."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """A caller that went away, or does not trust the certificate, is one line."""
        logging.info("connection ended: %s", sys.exception() if sys.version_info >= (3, 11) else "")


def serve_grpc(address: str, settings: Settings) -> Any:
    """The gRPC port: a server that knows nothing but the health check."""
    grpc: Any = importlib.import_module("grpc")
    stubs: Any = importlib.import_module("qdrant_client.grpc")
    futures: Any = importlib.import_module("concurrent.futures")

    class Health(stubs.QdrantServicer):  # type: ignore[misc]
        def HealthCheck(self, _request: Any, _context: Any) -> Any:  # noqa: N802
            return stubs.HealthCheckReply(title="qdrant - vector search engine", version=VERSION)

    server = grpc.server(futures.ThreadPoolExecutor(2))
    importlib.import_module("qdrant_client.grpc.qdrant_pb2_grpc").add_QdrantServicer_to_server(
        Health(), server
    )
    if settings.get("service", "enable_tls"):
        pem = Path(settings.get("tls", "cert")).read_bytes()
        key = Path(settings.get("tls", "key")).read_bytes()
        server.add_secure_port(address, grpc.ssl_server_credentials([(key, pem)]))
    else:
        server.add_insecure_port(address)
    server.start()
    return server


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(prog="qdrant")
    parser.add_argument("--version", action="version", version=f"qdrant {VERSION}")
    parser.add_argument("--config-path", type=Path, required=True)
    parser.add_argument("--uri")
    parser.add_argument("--bootstrap")
    options = parser.parse_args()
    sys.path.insert(0, str(PACKAGES))
    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
    settings = Settings(options.config_path)
    host = str(settings.get("service", "host", "127.0.0.1"))
    Handler.api, Handler.settings, Handler.seen = Api(Store(settings)), settings, Counter()
    server = Server((host, int(settings.get("service", "http_port", 6333))), Handler)
    if settings.get("service", "enable_tls"):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(settings.get("tls", "cert"), settings.get("tls", "key"))
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if port := settings.get("service", "grpc_port"):
        calls = serve_grpc(f"{host}:{port}", settings)  # ends with its last reference
        signal.signal(signal.SIGTERM, lambda *_: (calls.stop(0), sys.exit(0)))
    logging.info(
        "stand-in of Qdrant %s, telemetry %s", VERSION, "off" if settings.telemetry_disabled else "on"
    )
    server.serve_forever()


if __name__ == "__main__":
    main()
