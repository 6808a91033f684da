"""Langfuse's accounts, its retention, and what its units and files say."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import bcrypt
import pytest

from freehold import render

from .conftest import run_module

# Stand-in of psql: answers the first question with the state of the test, and keeps every statement.
PSQL = """#!{python}
import os, pathlib, sys
folder = pathlib.Path({folder!r})
text = sys.stdin.read()
with (folder / "asked").open("a") as stream:
    stream.write(text + "\\n--\\n")
if "json_agg" in text:
    print((folder / "state").read_text())
"""

ADA = {"name": "Ada", "mail": "Ada@Acme.test", "password": "first-Pass-1", "admin": True}
BOB = {"name": "Bob O'Brien", "mail": "bob.o'brien@acme.test", "password": "first-Pass-2"}


def _hash(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


ADMIN = {
    "id": "c0",
    "name": "Administrator",
    "mail": "admin@acme.test",
    "password": _hash("secret-1"),
    "role": "OWNER",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/psql"
    program.write_text(PSQL.format(python=sys.executable, folder=str(tmp_path)))
    program.chmod(0o755)
    state(tmp_path, ADMIN)
    return tmp_path


def state(folder: Path, *users: dict[str, Any]) -> None:
    (folder / "state").write_text(json.dumps(users))


def run(folder: Path, name: str, **given: object) -> dict[str, Any]:
    """Run a module, whose list of what it made lies in the folder of the test."""
    return run_module(folder, name, given, f"module.MADE = Path({str(folder / 'etc/langfuse.json')!r})")


def users(folder: Path, *people: dict[str, Any], **changes: object) -> dict[str, Any]:
    given: dict[str, Any] = {
        "address": "10.0.0.20",
        "password_file": "/etc/langfuse/pgpass",
        "organization": "freehold",
        "admin_mail": "admin@acme.test",
        "admin_password": "secret-1",
        "users": list(people),
    }
    return run(folder, "langfuse_users", **(given | changes))


def asked(folder: Path) -> str:
    return (folder / "asked").read_text()


def test_people_get_an_account_and_a_role_but_their_passwords_go_nowhere(folder: Path) -> None:
    answer = users(folder, ADA, BOB)
    text = asked(folder)

    assert answer["done"] == ["account ada@acme.test", "account bob.o'brien@acme.test"]
    assert "'Bob O''Brien', 'bob.o''brien@acme.test', '$2b$12$" in text
    assert text.count("INSERT INTO organization_memberships") == 2
    assert "'ADMIN')" in text
    assert "'NONE')" in text
    assert "first-Pass" not in text
    assert set(json.loads((folder / "etc/langfuse.json").read_text())["users"].values()) == {
        "ada@acme.test",
        "bob.o'brien@acme.test",
    }


def test_what_is_right_stays(folder: Path) -> None:
    ada = {"id": "c1", "name": "Ada", "mail": "ada@acme.test", "password": "x", "role": "ADMIN"}
    state(folder, ADMIN, ada)

    assert users(folder, ADA)["changed"] is False
    assert asked(folder).count("--\n") == 1


def test_names_and_roles_follow_the_stack(folder: Path) -> None:
    ada = {"id": "c1", "name": "Ada Old", "mail": "ada@acme.test", "password": "x", "role": None}
    state(folder, ADMIN, ada)

    assert users(folder, ADA)["done"] == ["name of ada@acme.test", "role of ada@acme.test"]
    assert "ON CONFLICT (org_id, user_id) DO UPDATE SET role = excluded.role" in asked(folder)


def test_who_leaves_the_stack_goes_and_accounts_of_others_stay(folder: Path) -> None:
    (folder / "etc").mkdir()
    made = {"users": {"c1": "ada@acme.test"}, "admin": "admin@acme.test"}
    (folder / "etc/langfuse.json").write_text(json.dumps(made))
    ada = {"id": "c1", "name": "Ada", "mail": "ada@acme.test", "password": "x", "role": "ADMIN"}
    eve = {"id": "c2", "name": "Eve", "mail": "eve@acme.test", "password": "x", "role": "VIEWER"}
    state(folder, ADMIN, ada, eve)

    assert users(folder)["done"] == ["removal of account ada@acme.test"]
    assert "DELETE FROM users WHERE id = 'c1';" in asked(folder)
    assert "c2" not in asked(folder).partition("--\n")[2]
    assert json.loads((folder / "etc/langfuse.json").read_text())["users"] == {}


def test_the_administrators_password_is_that_of_the_stack(folder: Path) -> None:
    assert users(folder, admin_password="secret-2")["done"] == ["password of the administrator"]
    assert "WHERE id = 'c0';" in asked(folder)


def test_an_administrator_of_an_earlier_domain_goes(folder: Path) -> None:
    users(folder)
    new = ADMIN | {"id": "c9", "mail": "admin@new.test"}
    state(folder, ADMIN, new)
    answer = users(folder, admin_mail="admin@new.test")

    assert answer["done"] == ["removal of the administrator admin@acme.test"]


def test_check_mode_only_asks(folder: Path) -> None:
    answer = users(folder, ADA, _ansible_check_mode=True)

    assert answer["changed"] is True
    assert asked(folder).count("--\n") == 1
    assert not (folder / "etc").exists()


class ClickHouse(BaseHTTPRequestHandler):
    """Answers what tables there are, and keeps every statement."""

    tables: dict[str, str]
    asked: list[str]

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        assert parse_qs(urlsplit(self.path).query)["database"] == ["langfuse"]
        self.asked.append(text)
        rows = [{"name": name, "definition": value} for name, value in self.tables.items()]
        body = "\n".join(map(json.dumps, rows)).encode() if text.startswith("SELECT") else b""
        self.send_response(200 if self.headers["X-ClickHouse-Key"] == "right" else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Nothing."""


@pytest.fixture
def clickhouse() -> Iterator[tuple[str, Any]]:
    plain = "CREATE TABLE langfuse.events_full (`start_time` DateTime64(6)) ENGINE = ReplacingMergeTree ORDER BY x"
    handler = type("Own", (ClickHouse,), {"tables": {"events_full": plain, "scores": plain}, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}", handler
        made.shutdown()


def retention(folder: Path, url: str, days: int, **changes: object) -> dict[str, Any]:
    given = {"url": url, "user": "langfuse", "password": "right", "database": "langfuse", "days": days}
    return run(folder, "langfuse_retention", **(given | changes))


def test_tables_that_are_there_get_the_rule_once(folder: Path, clickhouse: tuple[str, Any]) -> None:
    url, handler = clickhouse

    assert retention(folder, url, 90)["tables"] == ["events_full", "scores"]
    assert handler.asked[1:] == [
        "ALTER TABLE events_full MODIFY TTL toDateTime(start_time) + INTERVAL 90 DAY",
        "ALTER TABLE scores MODIFY TTL toDateTime(timestamp) + INTERVAL 90 DAY",
    ]
    handler.tables["events_full"] += " TTL toDateTime(start_time) + toIntervalDay(90) SETTINGS x = 1"
    handler.tables["scores"] += " TTL toDateTime(timestamp) + toIntervalDay(30)"
    assert retention(folder, url, 90)["tables"] == ["scores"]
    assert retention(folder, url, 0)["tables"] == ["events_full", "scores"]
    assert handler.asked[-1] == "ALTER TABLE scores REMOVE TTL"


def test_a_refusal_fails_and_check_mode_changes_nothing(folder: Path, clickhouse: tuple[str, Any]) -> None:
    url, handler = clickhouse

    assert "refused the retention" in retention(folder, url, 90, password="wrong")["msg"]
    handler.asked.clear()
    assert retention(folder, url, 90, _ansible_check_mode=True)["changed"] is True
    assert len(handler.asked) == 1


def web(**changes: Any) -> str:
    config = {
        "command": ["/usr/bin/dumb-init", "--", "./web/entrypoint.sh", "/bin/sh", "-c", 'echo "$A" 100% \\n'],
        "environment": {"PATH": "/usr/bin", "QUOTED": 'a "b" $c 5%', "HOSTNAME": "image", "PORT": "1"},
        "folder": "/app",
        "user": "nextjs",
    }
    given = {"langfuse__web": {"config": config}, "langfuse_address": "10.0.0.55", "langfuse_memory": 2048}
    return render.render("langfuse/web.service.j2", given | changes)


def test_the_unit_runs_the_images_own_command_in_the_image() -> None:
    lines = web().splitlines()

    assert "RootDirectory=/opt/langfuse/web/rootfs" in lines
    assert "WorkingDirectory=/app" in lines
    wanted = '"/usr/bin/dumb-init" "--" "./web/entrypoint.sh" "/bin/sh" "-c" "echo \\"$$A\\" 100%% \\\\n"'
    assert f"ExecStart={wanted}" in lines
    assert 'Environment="QUOTED=a \\"b\\" $c 5%%"' in lines
    # what Freehold says counts, and not what the image says
    assert [line for line in lines if "PORT=" in line] == [
        "Environment=HOSTNAME=10.0.0.55 PORT=3000 HOME=/tmp TZ=UTC NODE_EXTRA_CA_CERTS=/etc/freehold-ca.crt"
    ]


def test_users_of_valkey_reach_their_own_keys() -> None:
    people = [{"name": "n8n"}, {"name": "litellm"}]
    given = {
        "valkey_databases": people,
        "valkey_unprefixed": ["litellm"],
        "valkey__digest": "0" * 64,
        "valkey__digests": {"n8n": "1" * 64, "litellm": "2" * 64},
    }
    lines = render.render("valkey/users.acl.j2", given).splitlines()

    assert lines[0] == "user default reset off"
    assert lines[2].startswith(f"user litellm reset on #{'2' * 64} ~* &* +@all -@admin")
    assert lines[3].startswith(f"user n8n reset on #{'1' * 64} ~n8n:* &n8n:* +@all -@admin")


def test_keys_of_the_storage_open_their_own_buckets() -> None:
    keys = {"access_key": "k1", "secret_key": "s1"}
    buckets = [
        {"name": "a", **keys},
        {"name": "b", **keys},
        {"name": "c", "access_key": "k2", "secret_key": "s2"},
    ]
    given = {
        "seaweedfs_admin_access_key": "adm",
        "seaweedfs_admin_secret_key": "sec",
        "seaweedfs_buckets": buckets,
    }
    found = json.loads(render.render("seaweedfs/s3.json.j2", given))["identities"]

    assert found[0]["actions"] == ["Admin"]
    assert {each["credentials"][0]["accessKey"]: set(each["actions"]) for each in found[1:]} == {
        "k1": {f"{do}:{name}" for do in ("Read", "Write", "List", "Tagging") for name in "ab"},
        "k2": {f"{do}:c" for do in ("Read", "Write", "List", "Tagging")},
    }
