"""Stand-in of Langfuse (lab): web and worker of version 4, in the image that ``langfuse.py`` makes.

It goes the way of the real one: the web part checks what it depends on, runs its migrations, makes organisation, project,
key and administrator from ``LANGFUSE_INIT_*``, puts what comes in into the bucket of events and a queue in Valkey, and the
worker brings it to ClickHouse. Names of tables and columns are upstream's (``packages/shared/prisma/schema.prisma`` and
``packages/shared/clickhouse``); it has the few of them that are used here.

The contract that it follows (https://api.reference.langfuse.com, and https://langfuse.com/self-hosting/configuration):

    GET    /api/public/health, /api/public/ready
    GET    /api/public/projects                  the project of the key
    POST   /api/public/otel/v1/traces            OTLP over HTTP, protobuf or JSON, plain or gzip
    POST   /api/public/ingestion                 refused but for scores, as in the write mode events_only
    GET    /api/public/v2/observations           userId, traceId, fromStartTime, toStartTime, limit, cursor, fields, expandMetadata
    DELETE /api/public/traces                    {"traceIds": [...]}, done by the worker
    GET    /api/auth/csrf, /api/auth/session     NextAuth, with
    POST   /api/auth/callback/credentials        mail address and password
    POST   /api/auth/signup                      refused with AUTH_DISABLE_SIGNUP
    GET    /api/health                           of the worker
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

VERSION = ""
ENV = os.environ
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

POSTGRES = """
DO $$ BEGIN CREATE TYPE "Role" AS ENUM ('OWNER', 'ADMIN', 'MEMBER', 'VIEWER', 'NONE'); EXCEPTION WHEN duplicate_object THEN NULL; END $$;
CREATE TABLE IF NOT EXISTS users (
  id text PRIMARY KEY, name text, email text UNIQUE, email_verified timestamp(3), password text, image text,
  admin boolean NOT NULL DEFAULT false, v4_beta_enabled boolean NOT NULL DEFAULT false,
  created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  feature_flags text[] DEFAULT ARRAY[]::text[]);
CREATE TABLE IF NOT EXISTS organizations (
  id text PRIMARY KEY, name text NOT NULL,
  created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS projects (
  id text PRIMARY KEY, org_id text NOT NULL REFERENCES organizations(id) ON UPDATE CASCADE ON DELETE CASCADE, name text NOT NULL,
  created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  deleted_at timestamp(3), retention_days integer, metadata jsonb);
CREATE TABLE IF NOT EXISTS organization_memberships (
  id text PRIMARY KEY, org_id text NOT NULL REFERENCES organizations(id) ON UPDATE CASCADE ON DELETE CASCADE,
  user_id text NOT NULL REFERENCES users(id) ON UPDATE CASCADE ON DELETE CASCADE, role "Role" NOT NULL,
  created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  UNIQUE (org_id, user_id));
CREATE TABLE IF NOT EXISTS project_memberships (
  project_id text NOT NULL REFERENCES projects(id) ON DELETE CASCADE, user_id text NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  org_membership_id text NOT NULL REFERENCES organization_memberships(id) ON DELETE CASCADE, role "Role" NOT NULL,
  created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  PRIMARY KEY (project_id, user_id));
CREATE TABLE IF NOT EXISTS api_keys (
  id text PRIMARY KEY, created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, note text, public_key text NOT NULL UNIQUE,
  hashed_secret_key text NOT NULL UNIQUE, fast_hashed_secret_key text UNIQUE, display_secret_key text NOT NULL,
  last_used_at timestamp(3), expires_at timestamp(3), project_id text REFERENCES projects(id) ON DELETE CASCADE);
"""

_EVENTS = """
  project_id String, trace_id String, span_id String, parent_span_id String, start_time DateTime64(6),
  end_time Nullable(DateTime64(6)), name String, type LowCardinality(String), environment LowCardinality(String) DEFAULT 'default',
  trace_name String, user_id String, session_id String, provided_model_name String, input String, output String,
  metadata_names Array(String), metadata_values Array(String), blob_storage_file_path String,
  created_at DateTime64(6) DEFAULT now(), updated_at DateTime64(6) DEFAULT now(), event_ts DateTime64(6), is_deleted UInt8
) ENGINE = ReplacingMergeTree(event_ts, is_deleted) PARTITION BY toYYYYMM(start_time)
PRIMARY KEY (project_id, toStartOfMinute(start_time), xxHash32(trace_id))
ORDER BY (project_id, toStartOfMinute(start_time), xxHash32(trace_id), span_id, start_time)
"""
CLICKHOUSE = (
    "CREATE TABLE IF NOT EXISTS schema_migrations (version Int64, dirty UInt8, sequence UInt64)"
    " ENGINE = MergeTree ORDER BY sequence",
    f"CREATE TABLE IF NOT EXISTS events_full ({_EVENTS}",
    f"CREATE TABLE IF NOT EXISTS events_core ({_EVENTS}",
    "CREATE MATERIALIZED VIEW IF NOT EXISTS events_core_mv TO events_core AS SELECT * EXCEPT (input, output),"
    " leftUTF8(input, 200) AS input, leftUTF8(output, 200) AS output FROM events_full",
    "CREATE TABLE IF NOT EXISTS scores (id String, timestamp DateTime64(3), project_id String, trace_id String, name String,"
    " value Float64, created_at DateTime64(3) DEFAULT now(), updated_at DateTime64(3) DEFAULT now(), event_ts DateTime64(3),"
    " is_deleted UInt8) ENGINE = ReplacingMergeTree(event_ts, is_deleted) PARTITION BY toYYYYMM(timestamp)"
    " ORDER BY (project_id, toDate(timestamp), name, id)",
    "CREATE TABLE IF NOT EXISTS blob_storage_file_log (id String, project_id String, entity_type String, entity_id String,"
    " event_id String, bucket_name String, bucket_path String, created_at DateTime64(3) DEFAULT now(),"
    " updated_at DateTime64(3) DEFAULT now(), event_ts DateTime64(3), is_deleted UInt8)"
    " ENGINE = ReplacingMergeTree(event_ts, is_deleted) ORDER BY (project_id, entity_type, entity_id, event_id)",
)
MIGRATION = 39


def say(text: str) -> None:
    """A line of the log."""
    print(text, flush=True)


def postgres() -> Any:
    """A connection to Postgres."""
    import psycopg  # type: ignore[import-not-found, unused-ignore] # of the image

    return psycopg.connect(ENV["DATABASE_URL"], connect_timeout=5, autocommit=True)


def clickhouse(query: str, body: bytes = b"", **parameters: str) -> list[dict[str, Any]]:
    """Rows of a query over ClickHouse's HTTP interface; values go in as its ``param_`` parameters."""
    asked = {f"param_{name}": value for name, value in parameters.items()}
    asked |= {"database": ENV.get("CLICKHOUSE_DB", "default"), "default_format": "JSONEachRow"}
    asked |= {"query": query} if body else {}
    request = urllib.request.Request(  # noqa: S310 - HTTP, by the settings
        f"{ENV['CLICKHOUSE_URL']}/?{urllib.parse.urlencode(asked)}", body or query.encode(), method="POST"
    )
    request.add_header("X-ClickHouse-User", ENV["CLICKHOUSE_USER"])
    request.add_header("X-ClickHouse-Key", ENV["CLICKHOUSE_PASSWORD"])
    try:
        with OPENER.open(request, timeout=60) as answer:
            return [json.loads(line) for line in answer.read().decode().splitlines() if line.startswith("{")]
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"ClickHouse: {error.read().decode(errors='replace')[:500]}") from error


class Valkey:
    """A connection to Valkey (https://valkey.io/topics/protocol/)."""

    def __init__(self) -> None:
        self.door = socket.create_connection(
            (ENV["REDIS_HOST"], int(ENV.get("REDIS_PORT", "6379"))), timeout=30
        )
        self.stream = self.door.makefile("rb")
        self.ask("AUTH", *([ENV["REDIS_USERNAME"]] if ENV.get("REDIS_USERNAME") else []), ENV["REDIS_AUTH"])

    def ask(self, *command: str) -> Any:
        """Answer to a command."""
        parts = [part.encode() for part in command]
        self.door.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
        return self.answer()

    def answer(self) -> Any:
        """The next answer."""
        line = self.stream.readline()
        kind, rest = line[:1], line[1:-2].decode()
        if kind == b"-" or not line:
            raise RuntimeError(f"Valkey: {rest or 'closed'}")
        if kind == b"$":
            return None if rest == "-1" else self.stream.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return None if rest == "-1" else [self.answer() for _ in range(int(rest))]
        return rest


def queue(name: str) -> str:
    """The key of a queue."""
    return f"{ENV.get('REDIS_KEY_PREFIX', '')}:{name}"


def s3(method: str, kind: str, key: str = "", body: bytes = b"") -> bytes:
    """One signed call (AWS Signature Version 4), path style, for the bucket of EVENT_UPLOAD or MEDIA_UPLOAD."""
    given = {
        part: ENV[f"LANGFUSE_S3_{kind}_{part}"]
        for part in ("ENDPOINT", "BUCKET", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    }
    region = ENV.get(f"LANGFUSE_S3_{kind}_REGION", "us-east-1")
    host = urllib.parse.urlsplit(given["ENDPOINT"]).netloc
    path = "/" + urllib.parse.quote(f"{given['BUCKET']}/{key}".rstrip("/"))
    now = datetime.now(UTC)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    signed = ";".join(headers)
    canonical = "\n".join([method, path, "", *(f"{k}:{v}" for k, v in headers.items()), "", signed, digest])
    scope = f"{day}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    secret = f"AWS4{given['SECRET_ACCESS_KEY']}".encode()
    for part in (day, region, "s3", "aws4_request"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    signature = hmac.digest(secret, text.encode(), "sha256").hex()
    address = given["ENDPOINT"] + path
    request = urllib.request.Request(address, body or None, headers, method=method)  # noqa: S310 - HTTP, by the settings
    request.add_header(
        "Authorization",
        f"AWS4-HMAC-SHA256 Credential={given['ACCESS_KEY_ID']}/{scope}, SignedHeaders={signed}, Signature={signature}",
    )
    with OPENER.open(request, timeout=30) as answer:
        return bytes(answer.read())


def check() -> None:
    """Raise where something that Langfuse depends on is not there."""
    with postgres() as connection:
        connection.execute("SELECT 1")
    clickhouse("SELECT 1")
    if Valkey().ask("PING") != "PONG":
        raise RuntimeError("Valkey does not answer")


def migrate() -> None:
    """What the entry point does: migrations of Postgres (Prisma), then of ClickHouse (golang-migrate)."""
    with postgres() as connection:
        connection.execute(POSTGRES)
    clickhouse(CLICKHOUSE[0])
    found = clickhouse("SELECT version, dirty FROM schema_migrations ORDER BY sequence DESC LIMIT 1")
    if found and int(found[0]["dirty"]):
        say(f"error: Dirty database version {found[0]['version']}. Fix and force version.")
        sys.exit(1)
    for statement in CLICKHOUSE[1:]:
        clickhouse(statement)
    if not found:
        clickhouse(f"INSERT INTO schema_migrations VALUES ({MIGRATION}, 0, {time.time_ns()})")  # noqa: S608


def hashed(secret: str) -> str:
    """How the secret key of a project is kept beside its bcrypt hash: SHA-256 with the salt."""
    salt = hashlib.sha256(ENV["SALT"].encode()).hexdigest()
    return hashlib.sha256(secret.encode() + salt.encode()).hexdigest()


def initialise() -> None:
    """Organisation, project, key and administrator of ``LANGFUSE_INIT_*``, as ``web/src/initialize.ts`` makes them."""
    import bcrypt

    if not ENV.get("LANGFUSE_INIT_ORG_ID"):
        return
    org, project = ENV["LANGFUSE_INIT_ORG_ID"], ENV["LANGFUSE_INIT_PROJECT_ID"]
    with postgres() as connection:
        do = connection.execute
        do(
            "INSERT INTO organizations (id, name) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            (org, ENV.get("LANGFUSE_INIT_ORG_NAME", "Provisioned Org")),
        )
        do(
            "INSERT INTO projects (id, org_id, name) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            (project, org, ENV.get("LANGFUSE_INIT_PROJECT_NAME", "Provisioned Project")),
        )
        public, secret = ENV["LANGFUSE_INIT_PROJECT_PUBLIC_KEY"], ENV["LANGFUSE_INIT_PROJECT_SECRET_KEY"]
        slow = bcrypt.hashpw(secret.encode(), bcrypt.gensalt(11)).decode()
        do(
            "INSERT INTO api_keys (id, note, public_key, hashed_secret_key, fast_hashed_secret_key, display_secret_key,"
            " project_id) VALUES (%s, 'Provisioned API Key', %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (secrets.token_hex(12), public, slow, hashed(secret), f"{secret[:6]}...{secret[-4:]}", project),
        )
        mail, password = (
            ENV.get("LANGFUSE_INIT_USER_EMAIL", "").lower(),
            ENV.get("LANGFUSE_INIT_USER_PASSWORD"),
        )
        if not mail or not password:
            return
        known = do("SELECT id FROM users WHERE email = %s", (mail,)).fetchone()
        user = known[0] if known else secrets.token_hex(12)
        if not known:
            kept = bcrypt.hashpw(password.encode(), bcrypt.gensalt(12)).decode()
            do(
                "INSERT INTO users (id, name, email, password) VALUES (%s, %s, %s, %s)",
                (user, ENV.get("LANGFUSE_INIT_USER_NAME", "Provisioned User"), mail, kept),
            )
        do(
            "INSERT INTO organization_memberships (id, org_id, user_id, role) VALUES (%s, %s, %s, 'OWNER')"
            " ON CONFLICT (org_id, user_id) DO UPDATE SET role = 'OWNER'",
            (secrets.token_hex(12), org, user),
        )


class Answers(BaseHTTPRequestHandler):
    """What both parts share."""

    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: Any, *cookies: str) -> None:
        """A JSON answer."""
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        for cookie in cookies:
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        self.wfile.write(data)

    def body(self) -> bytes:
        """What was sent."""
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

    def dispatch(self, method: str) -> None:
        """Find the function of a path, and turn what it raises into an answer."""
        self.url = urllib.parse.urlsplit(self.path)
        self.query = {name: values[-1] for name, values in urllib.parse.parse_qs(self.url.query).items()}
        data = self.body()
        function = self.routes.get((method, self.url.path))
        try:
            if function is None:
                self.answer(404, {"message": "Not Found"})
            else:
                function(self, data)
        except Exception as error:  # noqa: BLE001 - as the real one: any failure is an answer
            say(f"error: {method} {self.url.path}: {error}")
            self.answer(500, {"message": "Internal Server Error"})

    routes: ClassVar[dict[tuple[str, str], Any]] = {}

    def do_GET(self) -> None:
        """GET."""
        self.dispatch("GET")

    def do_POST(self) -> None:
        """POST."""
        self.dispatch("POST")

    def do_DELETE(self) -> None:
        """DELETE."""
        self.dispatch("DELETE")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """No line per request."""


def health(handler: Answers, _data: bytes) -> None:
    """Whether the program answers."""
    handler.answer(200, {"status": "OK", "version": VERSION})


def ready(handler: Answers, _data: bytes) -> None:
    """Whether all that it depends on answers too."""
    try:
        check()
    except Exception as error:  # noqa: BLE001 - whatever is missing, the answer is the same
        say(f"warn: Readiness check failed: {error}")
        handler.answer(503, {"status": "Readiness check failed", "version": VERSION})
    else:
        handler.answer(200, {"status": "OK", "version": VERSION})


def project_of(handler: Answers) -> str | None:
    """The project whose key was shown; otherwise the refusal is answered."""
    kind, _, given = (handler.headers.get("Authorization") or "").partition(" ")
    if kind == "Basic":
        public, _, secret = base64.b64decode(given).decode(errors="replace").partition(":")
        with postgres() as connection:
            row = connection.execute(
                "SELECT project_id FROM api_keys WHERE public_key = %s AND fast_hashed_secret_key = %s",
                (public, hashed(secret)),
            ).fetchone()
        if row:
            return str(row[0])
    handler.answer(401, {"message": "Invalid credentials. Confirm that you've configured the correct host."})
    return None


def projects(handler: Answers, _data: bytes) -> None:
    """The project of the key."""
    if project := project_of(handler):
        with postgres() as connection:
            row = connection.execute(
                "SELECT p.id, p.name, o.id, o.name FROM projects p JOIN organizations o ON o.id = p.org_id WHERE p.id = %s",
                (project,),
            ).fetchone()
        found = {"id": row[0], "name": row[1], "organization": {"id": row[2], "name": row[3]}, "metadata": {}}
        handler.answer(200, {"data": [found]})


def traces_in(handler: Answers, data: bytes) -> None:
    """OTLP: the request goes into the bucket of events, and a note of it into the queue."""
    from google.protobuf.json_format import MessageToJson  # type: ignore[import-untyped, unused-ignore] # of the image
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # type: ignore[import-not-found, unused-ignore]
        ExportTraceServiceRequest,
    )

    if not (project := project_of(handler)):
        return
    if "protobuf" in (handler.headers.get("Content-Type") or ""):
        data = MessageToJson(ExportTraceServiceRequest.FromString(data)).encode()
    day = datetime.now(UTC).strftime("%Y/%m/%d/%H/%M")
    key = f"{ENV.get('LANGFUSE_S3_EVENT_UPLOAD_PREFIX', '')}otel/{project}/{day}/{secrets.token_hex(16)}.json"
    s3("PUT", "EVENT_UPLOAD", key, data)
    Valkey().ask("LPUSH", queue("otel-ingestion-queue"), json.dumps({"project": project, "key": key}))
    handler.answer(200, {})


def ingestion(handler: Answers, data: bytes) -> None:
    """The old way in: in the write mode events_only it takes scores alone."""
    if project_of(handler):
        kinds = {event.get("type") for event in json.loads(data).get("batch", [])}
        if refused := sorted(map(str, kinds - {"score-create", "sdk-log"})):
            text = f'Event type "{refused[0]}" is not accepted by /api/public/ingestion when'
            handler.answer(400, {"message": f"{text} LANGFUSE_MIGRATION_V4_WRITE_MODE is events_only"})
        else:
            handler.answer(207, {"successes": [], "errors": []})


COLUMNS = {
    "basic": "name, user_id AS userId, session_id AS sessionId, metadata_names AS names, metadata_values AS values",
    "io": "input, output",
    "model": "provided_model_name AS providedModelName",
}
"""Columns by the group of fields that is asked for; those of metadata and usage are told by attributes."""


def observations(handler: Answers, _data: bytes) -> None:
    """Observations, newest first, page by page."""
    if not (project := project_of(handler)):
        return
    limit = min(int(handler.query.get("limit", "50")), 1000)
    skip = int(handler.query.get("cursor", "0"))
    where, given = ["project_id = {project:String}", "is_deleted = 0"], {"project": project}
    for asked, column in (("userId", "user_id"), ("traceId", "trace_id")):
        if asked in handler.query:
            where.append(f"{column} = {{{asked}:String}}")
            given[asked] = handler.query[asked]
    for asked, sign in (("fromStartTime", ">="), ("toStartTime", "<")):
        if asked in handler.query:
            where.append(f"start_time {sign} parseDateTime64BestEffort({{{asked}:String}}, 6)")
            given[asked] = handler.query[asked]
    groups = set(handler.query.get("fields", "core,basic,io").split(","))
    columns = (
        "span_id AS id, trace_id AS traceId, parent_span_id AS parentObservationId, type,"
        " formatDateTime(start_time, '%Y-%m-%dT%H:%i:%S.%fZ') AS startTime,"
        " formatDateTime(end_time, '%Y-%m-%dT%H:%i:%S.%fZ') AS endTime"
    )
    for group, added in COLUMNS.items():
        columns += f", {added}" if group in groups else ""
    chosen, page = " AND ".join(where), f"LIMIT {limit + 1} OFFSET {skip}"
    rows = clickhouse(
        f"SELECT {columns} FROM events_full FINAL WHERE {chosen} ORDER BY start_time DESC, span_id {page}",  # noqa: S608
        b"",
        **given,
    )
    whole = set(handler.query.get("expandMetadata", "").split(","))
    for row in rows:
        told = dict(zip(row.pop("names", []), row.pop("values", []), strict=True))
        if "metadata" in groups:
            found = {key.partition("observation.metadata.")[2]: value for key, value in told.items()}
            # The real one cuts what is not asked for by name.
            row["metadata"] = {
                key: value if key in whole else value[:200] for key, value in found.items() if key
            }
        if "usage" in groups:
            row["usageDetails"] = json.loads(told.get("langfuse.observation.usage_details", "{}"))
            row["costDetails"] = json.loads(told.get("langfuse.observation.cost_details", "{}"))
        if "basic" in groups:
            row["level"] = told.get("langfuse.observation.level", "DEFAULT")
            row["statusMessage"] = told.get("langfuse.observation.status_message", "")
    meta = {"cursor": str(skip + limit)} if len(rows) > limit else {}
    handler.answer(200, {"data": rows[:limit], "meta": meta})


def delete_traces(handler: Answers, data: bytes) -> None:
    """Traces go when the worker gets to it."""
    if project := project_of(handler):
        wanted = json.loads(data)["traceIds"]
        Valkey().ask("LPUSH", queue("trace-delete"), json.dumps({"project": project, "traces": wanted}))
        handler.answer(200, {"message": "Traces deleted successfully"})


def csrf(handler: Answers, _data: bytes) -> None:
    """NextAuth: what a form must carry."""
    token = secrets.token_hex(32)
    proof = hashlib.sha256(f"{token}{ENV['NEXTAUTH_SECRET']}".encode()).hexdigest()
    cookie = f"__Host-next-auth.csrf-token={token}%7C{proof}; Path=/; HttpOnly; Secure; SameSite=Lax"
    handler.answer(200, {"csrfToken": token}, cookie)


def cookies(handler: Answers) -> dict[str, str]:
    """The cookies that came along."""
    return {name: morsel.value for name, morsel in SimpleCookie(handler.headers.get("Cookie", "")).items()}


def sign_in(handler: Answers, data: bytes) -> None:
    """NextAuth: mail address and password."""
    import bcrypt

    form = {name: values[-1] for name, values in urllib.parse.parse_qs(data.decode()).items()}
    token, _, proof = cookies(handler).get("__Host-next-auth.csrf-token", "").partition("%7C")
    wanted = hashlib.sha256(f"{token}{ENV['NEXTAUTH_SECRET']}".encode()).hexdigest()
    if not token or form.get("csrfToken") != token or not hmac.compare_digest(proof, wanted):
        handler.answer(200, {"url": f"{ENV['NEXTAUTH_URL']}/api/auth/signin?csrf=true"})
        return
    with postgres() as connection:
        row = connection.execute(
            "SELECT id, password FROM users WHERE email = %s", (form.get("email", "").lower(),)
        ).fetchone()
    if not row or not row[1] or not bcrypt.checkpw(form.get("password", "").encode(), row[1].encode()):
        handler.answer(401, {"url": f"{ENV['NEXTAUTH_URL']}/api/auth/error?error=Invalid%20credentials"})
        return
    value = f"{row[0]}.{hmac.digest(ENV['NEXTAUTH_SECRET'].encode(), row[0].encode(), 'sha256').hex()}"
    cookie = f"__Secure-next-auth.session-token={value}; Path=/; HttpOnly; Secure; SameSite=Lax"
    handler.answer(200, {"url": ENV["NEXTAUTH_URL"]}, cookie)


def session(handler: Answers, _data: bytes) -> None:
    """NextAuth: who is signed in."""
    user, _, proof = cookies(handler).get("__Secure-next-auth.session-token", "").partition(".")
    wanted = hmac.digest(ENV["NEXTAUTH_SECRET"].encode(), user.encode(), "sha256").hex()
    if not user or not hmac.compare_digest(proof, wanted):
        handler.answer(200, {})
        return
    with postgres() as connection:
        row = connection.execute("SELECT name, email FROM users WHERE id = %s", (user,)).fetchone()
        of = connection.execute(
            "SELECT o.id, o.name, m.role::text FROM organization_memberships m JOIN organizations o ON o.id = m.org_id"
            " WHERE m.user_id = %s",
            (user,),
        ).fetchall()
    organizations = [{"id": each[0], "name": each[1], "role": each[2]} for each in of]
    found = {"id": user, "name": row[0], "email": row[1], "organizations": organizations} if row else None
    handler.answer(200, {"user": found} if found else {})


def sign_up(handler: Answers, _data: bytes) -> None:
    """Nobody makes an account for himself."""
    if ENV.get("AUTH_DISABLE_SIGNUP") == "true":
        handler.answer(422, {"message": "Sign up is disabled."})
    else:
        handler.answer(501, {"message": "The stand-in makes no accounts."})


class Web(Answers):
    """The web part."""

    routes: ClassVar = {
        ("GET", "/api/public/health"): health,
        ("GET", "/api/public/ready"): ready,
        ("GET", "/api/public/projects"): projects,
        ("POST", "/api/public/otel/v1/traces"): traces_in,
        ("POST", "/api/public/ingestion"): ingestion,
        ("GET", "/api/public/v2/observations"): observations,
        ("DELETE", "/api/public/traces"): delete_traces,
        ("GET", "/api/auth/csrf"): csrf,
        ("GET", "/api/auth/session"): session,
        ("POST", "/api/auth/callback/credentials"): sign_in,
        ("POST", "/api/auth/signup"): sign_up,
        ("GET", "/"): health,
    }


class Worker(Answers):
    """The worker's own address."""

    routes: ClassVar = {("GET", "/api/health"): ready}


def attributes(entries: list[dict[str, Any]]) -> dict[str, str]:
    """OTLP's attributes as text by name."""
    return {entry["key"]: str(next(iter(entry.get("value", {"": ""}).values()), "")) for entry in entries}


def hexadecimal(identifier: str, digits: int) -> str:
    """An identifier of OTLP/JSON, which protobuf's own JSON writes in base64."""
    return identifier.lower() if len(identifier) == digits else base64.b64decode(identifier).hex()


def moment(nanoseconds: str | int) -> str:
    """A time as ClickHouse reads it."""
    return datetime.fromtimestamp(int(nanoseconds) / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def rows_of(project: str, key: str, document: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of ``events_full``; the names of attributes are those of Langfuse's page on OpenTelemetry."""
    rows = []
    for resource in document.get("resourceSpans", []):
        for scope in resource.get("scopeSpans", []):
            for span in scope.get("spans", []):
                told = attributes(span.get("attributes", []))
                start = moment(span.get("startTimeUnixNano", time.time_ns()))
                rows.append(
                    {
                        "project_id": project,
                        "trace_id": hexadecimal(span["traceId"], 32),
                        "span_id": hexadecimal(span["spanId"], 16),
                        "parent_span_id": hexadecimal(span["parentSpanId"], 16)
                        if span.get("parentSpanId")
                        else "",
                        "start_time": start,
                        "end_time": moment(span.get("endTimeUnixNano", time.time_ns())),
                        "name": span.get("name", ""),
                        "type": told.get("langfuse.observation.type", "SPAN").upper(),
                        "trace_name": told.get("langfuse.trace.name", ""),
                        "user_id": told.get("langfuse.user.id") or told.get("user.id", ""),
                        "session_id": told.get("langfuse.session.id") or told.get("session.id", ""),
                        "provided_model_name": told.get("langfuse.observation.model.name")
                        or told.get("gen_ai.request.model", ""),
                        "input": told.get("langfuse.observation.input") or told.get("input.value", ""),
                        "output": told.get("langfuse.observation.output") or told.get("output.value", ""),
                        "metadata_names": list(told),
                        "metadata_values": list(told.values()),
                        "blob_storage_file_path": key,
                        "event_ts": start,
                        "is_deleted": 0,
                    }
                )
    return rows


def work() -> None:
    """Bring what waits in the queues to ClickHouse, for ever."""
    while True:
        try:
            valkey = Valkey()
            while True:
                found = valkey.ask("BRPOP", queue("otel-ingestion-queue"), queue("trace-delete"), "5")
                if found:
                    handle(found[0].rpartition(":")[2], json.loads(found[1]))
        except Exception as error:  # noqa: BLE001 - a worker goes on
            say(f"error: {error}")
            time.sleep(1)


def handle(name: str, job: dict[str, Any]) -> None:
    """One job."""
    if name == "otel-ingestion-queue":
        document = json.loads(s3("GET", "EVENT_UPLOAD", job["key"]))
        rows = rows_of(job["project"], job["key"], document)
        if rows:
            body = "\n".join(json.dumps(row) for row in rows).encode()
            clickhouse("INSERT INTO events_full FORMAT JSONEachRow", body)
        return
    traces = "[" + ",".join("'" + trace.replace("'", "") + "'" for trace in job["traces"]) + "]"
    paths = clickhouse(
        "SELECT DISTINCT blob_storage_file_path AS path FROM events_full"
        " WHERE project_id = {project:String} AND trace_id IN {traces:Array(String)}",
        project=job["project"],
        traces=traces,
    )
    for table in ("events_full", "events_core"):
        clickhouse(
            f"ALTER TABLE {table} DELETE WHERE project_id = {{project:String}} AND trace_id IN {{traces:Array(String)}}"
            " SETTINGS mutations_sync = 1",
            project=job["project"],
            traces=traces,
        )
    for row in paths:
        s3("DELETE", "EVENT_UPLOAD", row["path"])


def main() -> None:
    """Run one part."""
    part = sys.argv[1]
    if part == "migrate":
        migrate()
        return
    # Every bucket is asked for once, as the first thing: a wrong key is told at the start.
    for kind in ("EVENT_UPLOAD", "MEDIA_UPLOAD"):
        s3("GET", kind)
    check()
    if part == "web":
        initialise()
    else:
        threading.Thread(target=work, daemon=True).start()
    address = (ENV.get("HOSTNAME", "0.0.0.0"), int(ENV["PORT"]))  # noqa: S104 - upstream's own default
    server = ThreadingHTTPServer(address, Web if part == "web" else Worker)
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    say(f"Langfuse {part} {VERSION} at {address[0]}:{address[1]}; this is a stand-in of Freehold's lab")
    server.serve_forever()


if __name__ == "__main__":
    main()
