"""Tickets, passwords, roles, ACL, permissions (part of a stand-in of Proxmox VE, for development)."""

from __future__ import annotations

import re
import time
from typing import Any

from freehold.lab.access import REALMS, builtin_roles, hash_password
from freehold.lab.answers import PveError, bad_parameters, denied, failed
from freehold.lab.api.routes import endpoint
from freehold.lab.context import Call
from freehold.lab.formats import split_list

EMPTY_DIGEST = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
_ACL_PATHS = re.compile(
    r"/|/access|/access/groups(/[\w.\-]+)?|/access/realm(/[\w.\-]+)?|/nodes(/[\w.\-]+)?|/pool(/[\w.\-]+){0,3}"
    r"|/sdn(/(zones(/[\w.\-]+){0,3}|controllers(/[\w.\-]+)?|dns(/[\w.\-]+)?|ipams(/[\w.\-]+)?|fabrics(/[\w.\-]+)?))?"
    r"|/storage(/[\w.\-]+)?|/vms(/[1-9][0-9]{2,8})?|/mapping(/[\w.\-]+){0,2}"
)
"""``PVE::AccessControl::check_path``."""


@endpoint("GET /access")
def index(_call: Call) -> Any:
    """The directory of the calls below ``/access``."""
    names = ("users", "groups", "roles", "acl", "domains", "openid", "tfa", "ticket", "password")
    return [{"subdir": name} for name in names]


@endpoint("GET /access/ticket")
def read_ticket(_call: Call) -> Any:
    """Does nothing, as on the real node."""
    return None


@endpoint("POST /access/ticket")
def login(call: Call) -> Any:
    """Log in with a password, or renew with a ticket."""
    access = call.lab.access
    user = str(call.params["username"])
    if realm := call.get("realm"):
        user = f"{user}@{realm}"
    if not access.verify_password(user, str(call.params["password"])):
        time.sleep(call.lab.state.login_delay)
        raise PveError(401, "authentication failure")
    answer = {"username": user, "cap": access.capabilities(user)}
    if path := call.get("path"):
        access.check(user, path, *split_list(call.get("privs") or ""), any_of=True)
        return answer
    return {**answer, "ticket": access.make_ticket(user), "CSRFPreventionToken": access.make_csrf(user)}


@endpoint("PUT /access/password")
def change_password(call: Call) -> Any:
    """Change a password of realm pve."""
    target = str(call.params["userid"])
    confirmation = call.get("confirmation-password")
    if not call.root_session:
        if confirmation is None:
            raise bad_parameters({"confirmation-password": "password is required to modify user"})
        if not call.lab.access.verify_password(call.user, confirmation):
            time.sleep(call.lab.state.login_delay)
            raise PveError(401, "authentication failure")
    with call.lab.state.change() as data:
        if target not in data["users"]:
            raise failed(f"no such user ('{target}')")
        if target.endswith("@pam"):
            raise failed("the password of root@pam is that of the lab's machine")
        data["users"][target]["password"] = hash_password(str(call.params["password"]))
    return None


@endpoint("GET /access/domains")
def domains(_call: Call) -> Any:
    """The realms; without a ticket too."""
    return list(REALMS.values())


@endpoint("GET /access/domains/{realm}")
def domain(call: Call) -> Any:
    """One realm."""
    realm = str(call.params["realm"])
    if realm not in REALMS:
        raise failed(f"domain '{realm}' does not exist")
    return {key: value for key, value in REALMS[realm].items() if key != "realm"} | {"digest": EMPTY_DIGEST}


@endpoint("GET /access/tfa")
def second_factors(_call: Call) -> Any:
    """The lab has no second factors."""
    return []


@endpoint("GET /access/roles")
def roles(call: Call) -> Any:
    """All roles."""
    builtin = builtin_roles()
    return [
        {"roleid": name, "special": int(name in builtin), "privs": ",".join(sorted(privileges))}
        for name, privileges in call.lab.access.roles().items()
    ]


@endpoint("GET /access/roles/{roleid}")
def role(call: Call) -> Any:
    """The privileges of one role."""
    name = str(call.params["roleid"])
    privileges = call.lab.access.roles().get(name)
    if privileges is None:
        raise failed(f"role '{name}' does not exist")
    return dict.fromkeys(privileges, 1)


@endpoint("POST /access/roles")
def create_role(call: Call) -> Any:
    """A new role."""
    name = str(call.params["roleid"])
    with call.lab.state.change() as data:
        if name in call.lab.access.roles():
            raise failed(f"create role failed: role '{name}' already exists")
        data["roles"][name] = sorted(set(split_list(call.get("privs") or "")))


@endpoint("PUT /access/roles/{roleid}")
def update_role(call: Call) -> Any:
    """Other privileges for a role."""
    name = str(call.params["roleid"])
    with call.lab.state.change() as data:
        if name in builtin_roles():
            raise failed(f"auto-generated role '{name}' cannot be modified")
        if name not in data["roles"]:
            raise failed(f"update role failed: role '{name}' does not exist")
        kept = data["roles"][name] if call.flag("append") else []
        data["roles"][name] = sorted({*kept, *split_list(call.get("privs") or "")})


@endpoint("DELETE /access/roles/{roleid}")
def delete_role(call: Call) -> Any:
    """Remove a role with its ACL entries."""
    name = str(call.params["roleid"])
    with call.lab.state.change() as data:
        if name in builtin_roles():
            raise failed(f"auto-generated role '{name}' cannot be deleted")
        if name not in data["roles"]:
            raise failed(f"delete role failed: role '{name}' does not exist")
        del data["roles"][name]
        data["acl"] = [entry for entry in data["acl"] if entry["roleid"] != name]


@endpoint("GET /access/acl")
def acl(call: Call) -> Any:
    """The ACL entries on paths where the caller may change rights."""
    access = call.lab.access
    entries = call.lab.state.data["acl"]
    if access.has(call.user, "/access", "Sys.Audit"):
        return entries
    return [entry for entry in entries if access.has(call.user, entry["path"], "Permissions.Modify")]


@endpoint("PUT /access/acl")
def update_acl(call: Call) -> Any:
    """Add or remove ACL entries."""
    names = {kind: split_list(call.get(kind + "s") or "") for kind in ("user", "group", "token")}
    if all(call.get(kind + "s") is None for kind in names):
        text = "either 'users', 'groups' or 'tokens' is required."
        raise bad_parameters({"users": text, "groups": text, "tokens": text})
    path = str(call.params["path"])
    if not _ACL_PATHS.fullmatch(path):
        raise bad_parameters({"path": f"invalid ACL path '{path}'"})
    propagate, delete = int(call.flag("propagate", default=True)), call.flag("delete")
    with call.lab.state.change() as data:
        known = {"user": data["users"], "group": data["groups"], "token": data["tokens"]}
        for role_name in split_list(str(call.params["roles"])):
            if role_name not in call.lab.access.roles():
                raise failed(f"ACL update failed: role '{role_name}' does not exist")
            for kind, members in names.items():
                for name in members:
                    if not delete and name not in known[kind]:
                        raise failed(f"ACL update failed: {_missing(kind, name)} does not exist")
                    key = {"path": path, "type": kind, "ugid": name, "roleid": role_name}
                    data["acl"] = [entry for entry in data["acl"] if not key.items() <= entry.items()]
                    if not delete:
                        data["acl"].append({**key, "propagate": propagate})


def _missing(kind: str, name: str) -> str:
    if kind == "token":
        user, _, token = name.partition("!")
        return f"no such token '{token}' for user '{user}'"
    return f"{kind} '{name}'"


@endpoint("GET /access/permissions")
def permissions(call: Call) -> Any:
    """What a user or a token may do."""
    access = call.lab.access
    target = call.get("userid") or call.user
    if target != call.user and not target.startswith(call.user + "!"):
        if "!" in call.user and target == call.user.split("!")[0]:
            raise denied("/access, Sys.Audit")
        access.check(call.user, "/access", "Sys.Audit")
    return access.effective(target, call.get("path"))
