"""Module: people's accounts in Langfuse and their part in its organisation."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.freehold.stack.plugins.module_utils import accounts, kept, pending

try:
    import bcrypt
except ImportError:
    bcrypt = None  # type: ignore[assignment, unused-ignore]

DOCUMENTATION = r"""
module: langfuse_users
short_description: Makes accounts of Langfuse
description:
  - Brings the accounts of people about, with a first password and a role in the organisation, and removes those that it made
    before and that are no longer wanted. Accounts of others are left alone.
  - Works on Langfuse's own tables in PostgreSQL (C(users), C(organization_memberships)), since the open-source edition has no API
    for accounts while signing up is off. Passwords are hashed as Langfuse hashes them (bcrypt, cost 12).
  - The host needs C(psql) and the package C(python3-bcrypt).
options:
  address: {description: Address of PostgreSQL., type: str, required: true}
  password_file: {description: "File with the password, as libpq reads it.", type: path, required: true}
  database: {description: "Database, and its user.", type: str, default: langfuse}
  organization: {description: Identifier of the organisation., type: str, required: true}
  admin_mail: {description: "Mail address of the administrator, whom Langfuse made itself.", type: str, required: true}
  admin_password: {description: The administrator's password., type: str, required: true}
  member_role:
    description: Role of people who are no administrators.
    type: str
    choices: [NONE, VIEWER, MEMBER]
    default: NONE
  users:
    description: People with an account.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Full name., type: str, required: true}
      mail: {description: Mail address., type: str, required: true}
      password: {description: First password., type: str, required: true}
      admin: {description: Whether the user administers the organisation., type: bool, default: false}
      groups: {description: Not used here., type: list, elements: str, default: []}
      language: {description: Not used here., type: str}
attributes:
  check_mode: {support: full, description: Says what would be made.}
  diff_mode: {support: full, description: "Lists what is made, without passwords."}
author: The Freehold authors
"""

EXAMPLES = r"""
- name: Make the account of Ada
  freehold.stack.langfuse_users:
    address: 10.20.0.20
    password_file: /etc/langfuse/pgpass
    organization: freehold
    admin_mail: admin@firm.example
    admin_password: "{{ lookup('freehold.stack.secret', 'langfuse.admin_password') }}"
    users:
      - name: Ada Example
        mail: ada@firm.example
        password: "{{ lookup('freehold.stack.secret', 'users.ada@firm.example') }}"
        admin: true
"""

RETURN = r"""
done:
  description: What was made, in words.
  returned: always
  type: list
  elements: str
"""

MADE = Path("/etc/freehold/langfuse.json")
"""Which accounts were made here, by their identifiers, and the administrator's mail address."""

_COST = 12
"""That of Langfuse (C(web/src/features/auth-credentials/lib/passwordHash.ts))."""

_STATE = """
SELECT coalesce(json_agg(json_build_object(
  'id', u.id, 'name', u.name, 'mail', lower(u.email), 'password', u.password, 'role', m.role::text)), '[]')
FROM users u LEFT JOIN organization_memberships m ON m.user_id = u.id AND m.org_id = {organization};
"""


def literal(text: str) -> str:
    """A quoted SQL literal (C(standard_conforming_strings) is on)."""
    return "'" + text.replace("'", "''") + "'"


def identifier() -> str:
    """An identifier in the form of Langfuse's own (cuid: a C(c) and 24 characters)."""
    return "c" + secrets.token_hex(12)


class _Langfuse:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.done: list[str] = []
        self.statements: list[str] = []
        self.organization = literal(module.params["organization"])

    def ask(self, sql: str) -> str:
        """Run SQL that goes in by standard input, in one transaction; the process list shows no statement."""
        name = self.module.params["database"]
        command = ["psql", "-X", "-A", "-t", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-w", "-f", "-"]
        command += ["-h", self.module.params["address"], "-U", name, "-d", name]
        answer = subprocess.run(
            command,
            input=sql,
            capture_output=True,
            text=True,
            env={
                "PATH": os.environ["PATH"],
                "LC_ALL": "C.UTF-8",
                "PGCONNECT_TIMEOUT": "10",
                "PGPASSFILE": self.module.params["password_file"],
            },
            check=False,
            timeout=120,
        )
        if answer.returncode:
            raise OSError(answer.stderr.strip()[-1000:])
        return answer.stdout

    def make(self, words: str, *statements: str) -> None:
        """Note a change; all of them are made at once."""
        self.done.append(words)
        self.statements += statements

    def member(self, user: str, role: str) -> str:
        """The statement that gives a user a role in the organisation."""
        return (
            f"INSERT INTO organization_memberships (id, org_id, user_id, role) VALUES ({literal(identifier())},"  # noqa: S608
            f" {self.organization}, {literal(user)}, {literal(role)})"
            " ON CONFLICT (org_id, user_id) DO UPDATE SET role = excluded.role, updated_at = CURRENT_TIMESTAMP;"
        )


def hashed(password: str) -> str:
    """The hash of a password."""
    made: bytes = bcrypt.hashpw(password.encode(), bcrypt.gensalt(_COST))
    return made.decode()


def fits(password: str, known: str | None) -> bool:
    """Whether a known hash is one of this password."""
    try:
        return bool(known and bcrypt.checkpw(password.encode(), known.encode()))
    except ValueError:
        return False


def _made() -> dict[str, Any]:
    return {"users": {}, "admin": ""} | (kept.read(MADE) or {})


def _remember(made: dict[str, Any]) -> None:
    kept.write(MADE, made, folder_mode=0o755)


def _administrator(server: _Langfuse, found: dict[str, dict[str, Any]], made: dict[str, Any]) -> None:
    mail = server.module.params["admin_mail"].lower()
    known = found.get(mail)
    if known and not fits(server.module.params["admin_password"], known["password"]):
        password = literal(hashed(server.module.params["admin_password"]))
        server.make(
            "password of the administrator",
            f"UPDATE users SET password = {password}, updated_at = CURRENT_TIMESTAMP WHERE id = {literal(known['id'])};",  # noqa: S608
        )
    earlier = found.get(made["admin"])
    if made["admin"] != mail and earlier:
        server.make(
            f"removal of the administrator {made['admin']}",
            f"DELETE FROM users WHERE id = {literal(earlier['id'])};",  # noqa: S608
        )
    made["admin"] = mail


def _accounts(server: _Langfuse, found: dict[str, dict[str, Any]], made: dict[str, Any]) -> None:
    params = server.module.params
    wanted = {user["mail"].lower(): user for user in params["users"]}
    for mail, user in wanted.items():
        role = "ADMIN" if user["admin"] else params["member_role"]
        known = found.get(mail)
        if known is None:
            new = identifier()
            values = ", ".join(map(literal, (new, user["name"], mail, hashed(user["password"]))))
            server.make(
                f"account {mail}",
                f"INSERT INTO users (id, name, email, password) VALUES ({values});",  # noqa: S608
                server.member(new, role),
            )
            made["users"][new] = mail
        elif mail != params["admin_mail"].lower():
            if known["name"] != user["name"]:
                server.make(
                    f"name of {mail}",
                    f"UPDATE users SET name = {literal(user['name'])}, updated_at = CURRENT_TIMESTAMP"  # noqa: S608
                    f" WHERE id = {literal(known['id'])};",
                )
            if known["role"] != role:
                server.make(f"role of {mail}", server.member(known["id"], role))
    for mail, known in found.items():
        if mail not in wanted and known["id"] in made["users"]:
            server.make(f"removal of account {mail}", f"DELETE FROM users WHERE id = {literal(known['id'])};")  # noqa: S608
    here = {known["id"] for mail, known in found.items() if mail in wanted}
    made["users"] = {key: mail for key, mail in made["users"].items() if key in here or mail not in found}


def _apply(server: _Langfuse) -> None:
    state = json.loads(server.ask(_STATE.format(organization=server.organization)))
    found = {user["mail"]: user for user in state if user["mail"]}
    made = _made()
    before = json.dumps(made, sort_keys=True)
    _administrator(server, found, made)
    _accounts(server, found, made)
    if server.module.check_mode:
        return
    if server.statements:
        pending.add(pending.FOLDER, "langfuse", [])
        # Noted before: a run that is cut off must still know as its own what it made.
        earlier = json.loads(before)
        _remember({**made, "users": earlier["users"] | made["users"]})
        server.ask("\n".join(server.statements))
    if json.dumps(made, sort_keys=True) != before:
        _remember(made)


def main() -> None:
    """Hold the accounts against the wanted ones and make what differs."""
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "password_file": {"type": "path", "required": True, "no_log": False},
            "database": {"type": "str", "default": "langfuse"},
            "organization": {"type": "str", "required": True},
            "admin_mail": {"type": "str", "required": True},
            "admin_password": {"type": "str", "required": True, "no_log": True},
            "member_role": {"type": "str", "choices": ["NONE", "VIEWER", "MEMBER"], "default": "NONE"},
            "users": accounts.USERS,
        },
        supports_check_mode=True,
    )
    server = _Langfuse(module)
    try:
        if bcrypt is None:
            raise OSError(missing_required_lib("bcrypt"))
        _apply(server)
    except OSError as error:
        if not module.check_mode:
            module.fail_json(
                msg=f"Accounts of Langfuse could not be made: {error}\nThe log of Langfuse says whether its tables are "
                "there: journalctl -u langfuse-web",
                done=server.done,
            )
        # On a new host, an earlier task would have installed the client and made the tables.
        server.done = [f"account {user['mail']}" for user in module.params["users"]]
    after = "".join(f"{line}\n" for line in server.done)
    module.exit_json(changed=bool(server.done), done=server.done, diff={"before": "", "after": after})


if __name__ == "__main__":
    main()
