"""Module: users, databases and extensions of a PostgreSQL server on the host, in one run."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.freehold.stack.plugins.module_utils import pending

DOCUMENTATION = r"""
module: postgres_databases
short_description: Makes users, databases and extensions of PostgreSQL
description:
  - Gives each database a user of the same name as its owner, and takes the right to connect from all others.
  - Works as the system user C(postgres) over the local socket. Passwords reach the server as SCRAM-SHA-256 verifiers
    only, so that neither a process list nor a log can show them.
  - Nothing is ever dropped.
options:
  databases:
    description: The databases.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name of the database and of its user., type: str, required: true}
      password: {description: Password of the user (ASCII)., type: str, required: true}
      extensions: {description: Extensions of the database., type: list, elements: str, default: []}
      owner_service: {description: Not used here., type: str}
      address: {description: Not used here., type: str}
attributes:
  check_mode: {support: full, description: Says what would be made.}
  diff_mode: {support: full, description: Lists what is made, without verifiers.}
author: The Freehold authors
"""

EXAMPLES = r"""
- name: Make the database of Open WebUI
  freehold.stack.postgres_databases:
    databases:
      - name: openwebui
        password: "{{ lookup('freehold.stack.secret', 'openwebui.database_password') }}"
        extensions: [vector]
"""

RETURN = r"""
done:
  description: What was made, in words.
  returned: always
  type: list
  elements: str
"""

_ITERATIONS = 4096
"""PostgreSQL's own default (C(scram_iterations))."""

_OPTIONS = "-c search_path=pg_catalog"
"""The owner of a database may set a search path for it, and put functions of its own before those of the system: the
superuser would run them. What a connection asks for itself wins over the database's setting."""

_STATE = """
SELECT json_build_object(
  'roles', (SELECT json_object_agg(rolname, coalesce(rolpassword, '')) FROM pg_authid WHERE rolcanlogin),
  'databases', (SELECT json_object_agg(datname, json_build_object(
    'owner', pg_get_userbyid(datdba),
    'public', has_database_privilege('public', oid, 'CONNECT'))) FROM pg_database));
"""

_EXTENSIONS = "SELECT coalesce(json_agg(extname), '[]') FROM pg_extension;"


def verifier(password: str, salt: bytes, iterations: int) -> str:
    """A SCRAM-SHA-256 verifier as C(pg_authid.rolpassword) holds it (RFC 5803; PostgreSQL 17, 53.8)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{parts[0]}${parts[1]}:{parts[2]}"


def fits(password: str, recorded: str) -> bool:
    """Whether the recorded verifier is one of this password."""
    try:
        method, parameters, _keys = recorded.split("$")
        iterations, salt = parameters.split(":")
        return method == "SCRAM-SHA-256" and hmac.compare_digest(
            verifier(password, base64.b64decode(salt), int(iterations)), recorded
        )
    except ValueError:
        return False


def identifier(name: str) -> str:
    """A quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A quoted SQL literal (C(standard_conforming_strings) is on)."""
    return "'" + text.replace("'", "''") + "'"


class _Server:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.done: list[str] = []

    def ask(self, sql: str, database: str = "postgres") -> str:
        """Run SQL that goes in by standard input; the process list shows no statement."""
        answer = subprocess.run(
            ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"],
            input=sql,
            capture_output=True,
            text=True,
            user="postgres",
            group="postgres",
            extra_groups=[],
            cwd="/",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PGOPTIONS": _OPTIONS},
            check=False,
        )
        if answer.returncode:
            self.module.fail_json(msg=f"PostgreSQL refused: {answer.stderr.strip()}", done=self.done)
        return answer.stdout

    def make(self, words: str, sql: str, database: str = "postgres") -> None:
        """Run a change, except in check mode."""
        if not self.module.check_mode:
            pending.add(pending.FOLDER, "postgres", [])
            self.ask(sql, database)
        self.done.append(words)


def _apply(server: _Server, databases: list[dict[str, Any]]) -> None:
    state = json.loads(server.ask(_STATE))
    for wanted in databases:
        name = wanted["name"]
        quoted = identifier(name)
        _user(server, wanted, state["roles"] or {})
        known = state["databases"].get(name)
        if known is None:
            server.make(f"database {name}", f"CREATE DATABASE {quoted} OWNER {quoted};")
        elif known["owner"] != name:
            server.make(f"owner of database {name}", f"ALTER DATABASE {quoted} OWNER TO {quoted};")
        if known is None or known["public"]:
            server.make(f"access to database {name}", f"REVOKE ALL ON DATABASE {quoted} FROM PUBLIC;")
        have = [] if known is None else json.loads(server.ask(_EXTENSIONS, name))
        for extension in wanted["extensions"]:
            if extension not in have:
                server.make(
                    f"extension {extension} of {name}",
                    f"CREATE EXTENSION {identifier(extension)} SCHEMA public;",
                    name,
                )


def _user(server: _Server, wanted: dict[str, Any], roles: dict[str, str]) -> None:
    name, password = wanted["name"], wanted["password"]
    if fits(password, roles.get(name, "")):
        return
    secret = literal(verifier(password, os.urandom(16), _ITERATIONS))
    if name in roles:
        server.make(f"password of user {name}", f"ALTER ROLE {identifier(name)} PASSWORD {secret};")
    else:
        server.make(f"user {name}", f"CREATE ROLE {identifier(name)} LOGIN PASSWORD {secret};")


def main() -> None:
    """Hold the wanted databases against the server's and make what is missing."""
    module = AnsibleModule(
        argument_spec={
            "databases": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "password": {"type": "str", "required": True, "no_log": True},
                    "extensions": {"type": "list", "elements": "str", "default": []},
                    "owner_service": {"type": "str"},
                    "address": {"type": "str"},
                },
            }
        },
        supports_check_mode=True,
    )
    databases = module.params["databases"]
    if not all(database["password"].isascii() for database in databases):
        module.fail_json(msg="A password has characters outside ASCII, which SCRAM would have to normalise.")
    server = _Server(module)
    if module.check_mode and not Path("/run/postgresql/.s.PGSQL.5432").exists():
        # On a new host, an earlier task would have made and started the server.
        server.done = [f"database {database['name']}" for database in databases]
    else:
        _apply(server, databases)
    after = "".join(f"{line}\n" for line in server.done)
    module.exit_json(changed=bool(server.done), done=server.done, diff={"before": "", "after": after})


if __name__ == "__main__":
    main()
