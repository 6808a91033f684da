"""Module: accounts and groups of Open WebUI, and who sees which language model, in one run over its API on the host."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.freehold.stack.plugins.module_utils import accounts, api, kept, pending

DOCUMENTATION = r"""
module: openwebui_users
short_description: Makes accounts and groups of Open WebUI, and grants language models
description:
  - Runs on the host of Open WebUI, against its API, as its first administrator.
  - A new account gets its first password; a password that is there is left alone, for it is the person's own.
  - Accounts and groups that this module made and that are not wanted any more are removed, with the chats of the
    person. What others made is left alone, and so are further members of a group.
  - A language model of the list is granted to its groups, or to everybody, and to nobody else; one that is not in the list
    is left alone, unless this module granted it before.
  - When the administrator's password was rotated, the new one is given to the account first. When the mail address is
    another than that of the last run (a new domain), the account gets it too.
options:
  url: {description: Address of Open WebUI., type: str, required: true}
  admin_mail: {description: Mail address of the first administrator., type: str, required: true}
  admin_password: {description: Password of the first administrator., type: str, required: true}
  users:
    description: The accounts.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Full name., type: str, required: true}
      mail: {description: Mail address., type: str, required: true}
      password: {description: First password., type: str, required: true}
      admin: {description: Whether the user administers Open WebUI., type: bool, default: false}
      groups: {description: Groups of the user., type: list, elements: str, default: []}
      language: {description: Not used here., type: str}
  groups:
    description: The groups.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name., type: str, required: true}
      description: {description: What the group is for., type: str, default: ""}
      requests_per_minute: {description: Not used here., type: int}
      tokens_per_day: {description: Not used here., type: int}
  models:
    description: Who sees which language model.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Its name at the router., type: str, required: true}
      description: {description: What people read of it., type: str, default: ""}
      groups: {description: Groups whose people see it; everybody when left out., type: list, elements: str}
      tools: {description: "Whether it may search files, notes and chats by itself.", type: bool, default: true}
attributes:
  check_mode: {support: full, description: Says what would be made.}
  diff_mode: {support: full, description: Lists what is made.}
author: The Freehold authors
"""

EXAMPLES = r"""
- name: Make accounts and groups
  freehold.stack.openwebui_users:
    url: http://10.20.0.140:8080
    admin_mail: admin@acme.internal
    admin_password: "{{ lookup('freehold.stack.secret', 'openwebui.admin_password') }}"
    groups: [{name: staff}]
    users:
      - name: Erika Mustermann
        mail: erika@acme.internal
        password: "{{ lookup('freehold.stack.secret', 'users.erika@acme.internal') }}"
        groups: [staff]
"""

RETURN = r"""
done:
  description: What was done, in words.
  returned: always
  type: list
  elements: str
"""

MADE = Path("/var/lib/freehold/openwebui-accounts.json")
"""Ids of the accounts, groups and grants of language models that this module made, and the administrator's mail address."""

# Runs as root in Open WebUI's own environment, with its settings, and reads the new password from standard input.
_RESET = """
import os, sys
import bcrypt, psycopg
mail, earlier = sys.argv[1:]
hashed = bcrypt.hashpw(sys.stdin.read().encode(), bcrypt.gensalt()).decode()
with psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=10) as connection:
    if not connection.execute("SELECT 1 FROM auth WHERE email = %s", (mail,)).fetchone():
        connection.execute("UPDATE auth SET email = %s WHERE email = %s", (mail, earlier))
        connection.execute('UPDATE "user" SET email = %s WHERE email = %s', (mail, earlier))
    rows = connection.execute("UPDATE auth SET password = %s WHERE email = %s", (hashed, mail)).rowcount
sys.exit(0 if rows == 1 else "there is no account " + mail)
"""


class _OpenWebUI:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.token = ""
        self.done: list[str] = []

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the API; see C(/docs) of Open WebUI in its development mode, and its routers."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return api.ask(method, self.module.params["url"] + path, body, headers).json()

    def make(self, words: str, method: str, path: str, body: Any = None) -> Any:
        """A change, except in check mode."""
        self.done.append(words)
        if self.module.check_mode:
            return {}
        pending.add(pending.FOLDER, "openwebui", [])
        return self.ask(method, path, body)

    def sign_in(self, earlier: str) -> None:
        """Become the administrator, whose mail address was ``earlier`` at the last run."""
        login = {"email": self.module.params["admin_mail"], "password": self.module.params["admin_password"]}
        try:
            self.token = self.ask("POST", "/api/v1/auths/signin", login)["token"]
        except api.RefusedError as refused:
            if refused.status not in (400, 401):
                raise
            self.done.append("address or password of the administrator")
            if self.module.check_mode:
                return
            pending.add(pending.FOLDER, "openwebui", [])
            self._set_password(earlier)
            self.token = self.ask("POST", "/api/v1/auths/signin", login)["token"]

    def _set_password(self, earlier: str) -> None:
        settings = dict(
            line.split("=", 1)
            for line in Path("/etc/openwebui/secrets.env").read_text(encoding="utf-8").splitlines()
            if "=" in line and not line.startswith("#")
        )
        answer = subprocess.run(
            ["/opt/openwebui/bin/python", "-c", _RESET, self.module.params["admin_mail"], earlier],
            input=self.module.params["admin_password"],
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"], "DATABASE_URL": settings["DATABASE_URL"]},
            check=False,
            timeout=60,
        )
        if answer.returncode:
            self.module.fail_json(
                msg="The administrator's password could not be set: " + answer.stderr.strip()[-500:]
            )

    def users(self) -> dict[str, dict[str, Any]]:
        """All accounts by mail address."""
        found: dict[str, dict[str, Any]] = {}
        page = 1
        while True:
            answer = self.ask("GET", f"/api/v1/users/?page={page}&order_by=created_at&direction=asc")
            found |= {user["email"].lower(): user for user in answer["users"]}
            if len(found) >= answer["total"] or not answer["users"]:
                return found
            page += 1


def _groups(
    server: _OpenWebUI, wanted: list[dict[str, Any]], made: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Bring the groups about; all wanted groups by name."""
    found = {group["name"]: group for group in server.ask("GET", "/api/v1/groups/")}
    for group in wanted:
        known = found.get(group["name"])
        form = {"name": group["name"], "description": group["description"]}
        if known is None:
            new = server.make(f"group {group['name']}", "POST", "/api/v1/groups/create", form)
            found[group["name"]] = new
            _keep(server, made, "groups", new)
        elif known["description"] != group["description"]:
            others = {key: known.get(key) for key in ("permissions", "data", "parent_group_id")}
            server.make(
                f"description of group {group['name']}",
                "POST",
                f"/api/v1/groups/id/{known['id']}/update",
                others | form,
            )
    names = {group["name"] for group in wanted}
    for name, group in found.items():
        if name not in names and group.get("id") in made["groups"]:
            server.make(f"removal of group {name}", "DELETE", f"/api/v1/groups/id/{group['id']}/delete")
            made["groups"].remove(group["id"])
    return {name: found[name] for name in names}


def _accounts(
    server: _OpenWebUI,
    wanted: list[dict[str, Any]],
    groups: dict[str, dict[str, Any]],
    made: dict[str, Any],
) -> None:
    found = server.users()
    for user in wanted:
        mail = user["mail"].lower()
        role = "admin" if user["admin"] else "user"
        known = found.get(mail)
        if known is None:
            form = {"name": user["name"], "email": mail, "password": user["password"], "role": role}
            known = {**server.make(f"account {mail}", "POST", "/api/v1/auths/add", form), "group_ids": []}
            _keep(server, made, "users", known)
        elif (known["name"], known["role"]) != (user["name"], role) and mail != server.module.params[
            "admin_mail"
        ]:
            form = {"name": user["name"], "role": role}
            server.make(f"name and role of {mail}", "POST", f"/api/v1/users/{known['id']}/update", form)
        for name, group in groups.items():
            _membership(server, mail, known, group, name, name in user["groups"])
    mails = {user["mail"].lower() for user in wanted}
    for mail, known in found.items():
        if mail not in mails and known["id"] in made["users"]:
            server.make(f"removal of account {mail}", "DELETE", f"/api/v1/users/{known['id']}")
            made["users"].remove(known["id"])


def _membership(
    server: _OpenWebUI, mail: str, user: dict[str, Any], group: dict[str, Any], name: str, wanted: bool
) -> None:
    if wanted == (group.get("id", "new") in user["group_ids"]):
        return
    verb = "add" if wanted else "remove"
    path = f"/api/v1/groups/id/{group.get('id')}/users/{verb}"
    server.make(f"{verb} {mail} to group {name}", "POST", path, {"user_ids": [user.get("id")]})


def _grants(wanted: list[str] | None, groups: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    """Who sees a language model, as Open WebUI keeps it (C(models/access_grants.py)); C(*) is everybody with an account."""
    if wanted is None:
        return [{"principal_type": "user", "principal_id": "*", "permission": "read"}]
    ids = sorted(groups[name].get("id", f"new {name}") for name in wanted)
    return [{"principal_type": "group", "principal_id": each, "permission": "read"} for each in ids]


def _models(
    server: _OpenWebUI, wanted: list[dict[str, Any]], groups: dict[str, dict[str, Any]], made: dict[str, Any]
) -> None:
    """Grant the language models to their groups. Open WebUI has an entry for one as soon as something is said of it."""
    if not wanted and not made["models"]:
        return
    found = {model["id"]: model for model in server.ask("GET", "/api/v1/models/base")}
    for model in wanted:
        name = model["name"]
        known = found.get(name)
        meta = dict((known or {}).get("meta") or {})
        meta["description"] = model["description"] or None
        meta["capabilities"] = (meta.get("capabilities") or {}) | {"builtin_tools": model["tools"]}
        grants = _grants(model["groups"], groups)
        form = {
            "id": name,
            "name": name,
            "params": {},
            **(known or {}),
            "meta": meta,
            "access_grants": grants,
        }
        if known is None:
            new = server.make(f"language model {name}", "POST", "/api/v1/models/create", form)
            _keep(server, made, "models", new)
        elif (known.get("meta") or {}) != meta or _seen(known) != _seen(form):
            server.make(f"who sees language model {name}", "POST", "/api/v1/models/model/update", form)
    names = {model["name"] for model in wanted}
    for name in [name for name in made["models"] if name not in names]:
        if name in found:
            server.make(
                f"removal of language model {name}", "POST", "/api/v1/models/model/delete", {"id": name}
            )
        if not server.module.check_mode:
            made["models"].remove(name)


def _seen(model: dict[str, Any]) -> set[tuple[str, ...]]:
    keys = ("principal_type", "principal_id", "permission")
    return {tuple(grant[key] for key in keys) for grant in model["access_grants"]}


def _made() -> dict[str, Any]:
    return {"users": [], "groups": [], "models": [], "admin": ""} | (kept.read(MADE) or {})


def _keep(server: _OpenWebUI, made: dict[str, Any], kind: str, new: dict[str, Any]) -> None:
    """Remember at once what was made: a run that is cut off later must still know it as ours."""
    if not server.module.check_mode:
        made[kind].append(new["id"])
        _remember(made)


def _remember(made: dict[str, Any]) -> None:
    kept.write(MADE, made, folder_mode=0o755)


def _apply(server: _OpenWebUI) -> None:
    module = server.module
    made = _made()
    server.sign_in(made["admin"])
    if module.check_mode and not server.token:
        return
    if made["admin"] != module.params["admin_mail"] and not module.check_mode:
        made["admin"] = module.params["admin_mail"]
        _remember(made)
    try:
        groups = _groups(server, module.params["groups"], made)
        _accounts(server, module.params["users"], groups, made)
        _models(server, module.params["models"], groups, made)
    finally:
        # Also what was made before a failure is ours.
        if server.done and not module.check_mode:
            _remember(made)


def main() -> None:
    """Hold accounts and groups against the wanted ones and make what differs."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "admin_mail": {"type": "str", "required": True},
            "admin_password": {"type": "str", "required": True, "no_log": True},
            "users": accounts.USERS,
            "groups": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "description": {"type": "str", "default": ""},
                    "requests_per_minute": {"type": "int"},
                    "tokens_per_day": {"type": "int"},
                },
            },
            "models": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "description": {"type": "str", "default": ""},
                    "groups": {"type": "list", "elements": "str"},
                    "tools": {"type": "bool", "default": True},
                },
            },
        },
        supports_check_mode=True,
    )
    server = _OpenWebUI(module)
    try:
        _apply(server)
    except api.RefusedError as refused:
        module.fail_json(msg=f"Open WebUI refused: {refused}", done=server.done)
    except OSError as error:
        if not module.check_mode:
            module.fail_json(
                msg=f"Open WebUI at {module.params['url']} does not answer: {error}", done=server.done
            )
        # On a new host, an earlier task would have started it.
        server.done = [f"account {user['mail']}" for user in module.params["users"]]
    after = "".join(f"{line}\n" for line in server.done)
    module.exit_json(changed=bool(server.done), done=server.done, diff={"before": "", "after": after})


if __name__ == "__main__":
    main()
