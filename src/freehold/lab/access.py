"""Users, tokens, tickets and permissions of the lab (part of a stand-in of Proxmox VE, for development).

A port of what ``PVE::AccessControl`` and ``PVE::RPCEnvironment`` do with ``user.cfg``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from freehold.lab.answers import BareError, PveError, denied, failed
from freehold.lab.state import LabState

ROOT = "root@pam"
TICKET_LIFE = 7200
"""Seconds; ``$ticket_lifetime`` of ``PVE::AccessControl``."""

REALMS = {
    "pam": {"realm": "pam", "type": "pam", "comment": "Linux PAM standard authentication"},
    "pve": {"realm": "pve", "type": "pve", "comment": "Proxmox VE authentication server"},
}
_DEFAULT_PATHS = ("/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms")
_CAPABILITIES = {
    "vms": (("/vms",), r"VM\.|Permissions\.Modify"),
    "access": (("/access/groups",), r"(User|Group)\.|Permissions\.Modify"),
    "storage": (("/storage",), r"Datastore\.|Permissions\.Modify"),
    "nodes": (("/nodes",), r"Sys\.|Permissions\.Modify"),
    "sdn": (("/sdn",), r"SDN\.|Permissions\.Modify"),
    "dc": (("/",), r"Sys\.Audit|Sys\.Modify|SDN\."),
    "mapping": (("/mapping",), r"Mapping\.|Permissions\.Modify"),
}


@cache
def builtin_roles() -> dict[str, list[str]]:
    """The roles that every Proxmox VE has, with their privileges."""
    text = resources.files("freehold.lab").joinpath("pve-roles.json").read_text(encoding="utf-8")
    loaded: dict[str, list[str]] = json.loads(text)
    return loaded


def normalise_path(path: str) -> str | None:
    """``PVE::AccessControl::normalize_path``: ``None`` when it holds what no path may hold."""
    path = re.sub(r"/+", "/", "/" + path).rstrip("/") or "/"
    return path if re.fullmatch(r"[A-Za-z0-9.\-_/]+", path) else None


def owner_of(user: str) -> str:
    """The user of a token, the user itself otherwise."""
    return user.split("!", 1)[0]


def hash_password(password: str) -> str:
    """A salted hash of a password of realm pve."""
    salt = secrets.token_bytes(16)
    return salt.hex() + "$" + _scrypt(password, salt)


def _scrypt(password: str, salt: bytes) -> str:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**12, r=8, p=1).hex()


def hash_secret(secret: str) -> str:
    """The hash of a token's secret; it is random and long, so one round is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Access:
    """Who calls, and what the caller may do."""

    def __init__(self, state: LabState) -> None:
        self.state = state

    # who

    def user_active(self, user: str) -> bool:
        """Whether the user exists, is enabled and has not expired."""
        entry = self.state.data["users"].get(user)
        return bool(entry and int(entry.get("enable", 1)) and not _past(entry.get("expire", 0)))

    def verify_password(self, user: str, password: str) -> bool:
        """Whether the password, or a ticket of the user or of root@pam in its place, is right."""
        if password.startswith("PVE:"):
            return self.ticket_user(password) in (user, ROOT) and self.user_active(user)
        if not self.user_active(user):
            return False
        if user == ROOT:
            return hmac.compare_digest(password.encode(), self.state.root_password.encode())
        stored = self.state.data["users"][user].get("password", "")
        salt, _, digest = stored.partition("$")
        return bool(digest) and hmac.compare_digest(_scrypt(password, bytes.fromhex(salt)), digest)

    def _sign(self, text: str) -> str:
        digest = hmac.new(self.state.secret, text.encode(), hashlib.sha256).digest()
        return base64.b64encode(digest).decode().rstrip("=")

    def make_ticket(self, user: str, now: float | None = None) -> str:
        """A ticket of the form of the real one; what it is signed with differs."""
        plain = f"PVE:{user}:{int(now or time.time()):08X}"
        return f"{plain}::{self._sign(plain)}"

    def ticket_user(self, ticket: str) -> str | None:
        """The user of a valid ticket that has not expired."""
        match = re.fullmatch(r"(PVE:([^:\s]+):([0-9A-F]{8}))::(\S+)", ticket)
        if not match or not hmac.compare_digest(self._sign(match[1]), match[4]):
            return None
        age = time.time() - int(match[3], 16)
        return match[2] if -300 < age < TICKET_LIFE else None

    def make_csrf(self, user: str) -> str:
        """The token that a session sends with every call that changes something."""
        stamp = f"{int(time.time()):08X}"
        return f"{stamp}:{self._sign(f'{stamp}:{user}')}"

    def csrf_valid(self, user: str, token: str) -> bool:
        """Whether ``CSRFPreventionToken`` is one of the user's, not older than a ticket."""
        match = re.fullmatch(r"([0-9A-F]{8}):(\S+)", token)
        if not match or not hmac.compare_digest(self._sign(f"{match[1]}:{user}"), match[2]):
            return False
        return -300 < time.time() - int(match[1], 16) < TICKET_LIFE

    def verify_ticket(self, ticket: str) -> str:
        """The user of a ticket.

        Raises:
            BareError: 401 when it is forged or too old, or when the user may not log in any more.
        """
        user = self.ticket_user(ticket)
        if user is None or not self.user_active(user):
            raise BareError(401, "Authentication failed!")
        return user

    def verify_token(self, credential: str) -> str:
        """The token id of ``USER@REALM!ID=SECRET``.

        Raises:
            BareError: 401 for whatever is wrong with it.
        """
        token_id, _, secret = credential.partition("=")
        entry = self.state.data["tokens"].get(token_id)
        if (
            not entry
            or not hmac.compare_digest(hash_secret(secret), entry["hash"])
            or _past(entry.get("expire", 0))
            or not self.user_active(owner_of(token_id))
        ):
            raise BareError(401, "Authentication failed!")
        return token_id

    # what

    def roles(self) -> dict[str, list[str]]:
        """All roles with their privileges."""
        return {**builtin_roles(), **self.state.data["roles"]}

    def _roles_at(self, user: str, path: str) -> dict[str, int]:
        """Roles of a user or token on a path, with whether each propagates (``PVE::AccessControl::roles``)."""
        kind = "token" if "!" in user else "user"
        groups = {name for name, group in self.state.data["groups"].items() if user in group["users"]}
        levels: dict[str, list[dict[str, Any]]] = {}
        for entry in self.state.data["acl"]:
            level = entry["path"]
            if level == path or level == "/" or path.startswith(level + "/"):
                levels.setdefault(level, []).append(entry)
        found: dict[str, int] = {}
        for level in sorted(levels, key=lambda name: (name != "/", name.count("/"))):
            entries = [e for e in levels[level] if level == path or e["propagate"]]
            own = [e for e in entries if e["type"] == kind and e["ugid"] == user]
            mine = own or [e for e in entries if e["type"] == "group" and e["ugid"] in groups]
            if mine:
                found = {e["roleid"]: int(e["propagate"]) for e in mine}
                if "NoAccess" in found:
                    found = {"NoAccess": found["NoAccess"]}
        return found

    def permissions(self, user: str, path: str) -> dict[str, int]:
        """Privileges of a user or token on a path; the value says whether it propagates."""
        if user == ROOT:
            return dict.fromkeys(builtin_roles()["Administrator"], 1)
        if not path:
            return {}
        token = self.state.data["tokens"].get(user) if "!" in user else None
        if "!" in user:
            if token is None:
                return {}
            of_user = self.permissions(owner_of(user), path)
            if not int(token["privsep"]):
                return of_user
        roles = self._roles_at(user, path)
        if "NoAccess" not in roles:
            for pool, content in self.state.data["pools"].items():
                members = [f"/vms/{vmid}" for vmid in content["vms"]] + [
                    f"/storage/{s}" for s in content["storage"]
                ]
                if path in members:
                    for role in self._roles_at(user, f"/pool/{pool}"):
                        roles.setdefault(role, 1)
        known = self.roles()
        own = {name: flag for role, flag in sorted(roles.items()) for name in known.get(role, [])}
        if token is None:
            return own
        return {name: flag and of_user[name] for name, flag in own.items() if name in of_user}

    def effective(self, user: str, path: str | None = None) -> dict[str, dict[str, int]]:
        """What ``GET /access/permissions`` tells."""
        if path is not None:
            paths: Iterable[str] = [path]
        else:
            paths = {*_DEFAULT_PATHS, *(entry["path"] for entry in self.state.data["acl"])}
            for pool, content in self.state.data["pools"].items():
                paths = {*paths, f"/pool/{pool}"}
                paths |= {f"/vms/{vmid}" for vmid in content["vms"]} | {
                    f"/storage/{s}" for s in content["storage"]
                }
        result = {p: self.permissions(user, p) for p in paths}
        return {p: granted for p, granted in result.items() if granted}

    def capabilities(self, user: str) -> dict[str, dict[str, int]]:
        """``cap`` of a ticket: what the web interface shows to the user."""
        return {
            name: {
                privilege: 1
                for path in paths
                for privilege in self.permissions(user, path)
                if re.match(expression, privilege)
            }
            for name, (paths, expression) in _CAPABILITIES.items()
        }

    def has(self, user: str, path: str, *privileges: str, any_of: bool = False) -> bool:
        """Whether the user has all (or any) of the privileges on a path."""
        granted = self.permissions(user, normalise_path(path) or "")
        return (any if any_of else all)(privilege in granted for privilege in privileges)

    def check(self, user: str, path: str, *privileges: str, any_of: bool = False) -> None:
        """Raises:
        PveError: 403 that names the path and the missing privilege, or all of them where any is enough.
        """
        shown = normalise_path(path) or ""
        granted = self.permissions(user, shown)
        if any_of:
            if not any(privilege in granted for privilege in privileges):
                raise denied(f"{shown}, {'|'.join(privileges)}")
            return
        for privilege in privileges:
            if privilege not in granted:
                raise denied(f"{shown}, {privilege}")

    def check_guest(self, user: str, vmid: int, pool: str | None, *privileges: str) -> None:
        """``check_vm_perm``: on the guest, or on the pool that it is going to be in."""
        if pool and self.has(user, f"/pool/{pool}", *privileges):
            return
        self.check(user, f"/vms/{vmid}", *privileges)

    def check_declared(
        self, user: str, permissions: Mapping[str, Any] | None, params: Mapping[str, Any]
    ) -> None:
        """``check_api2_permissions``: what the schema of a call demands.

        Raises:
            PveError: 403.
        """
        if user == ROOT:
            return
        if not permissions:
            raise denied()
        if permissions.get("user") in ("all", "world"):
            return
        self._check_node(user, permissions["check"], params)

    def _check_node(self, user: str, check: Sequence[Any], params: Mapping[str, Any]) -> None:
        kind, rest = check[0], list(check[1:])
        if kind == "and":
            for part in rest:
                self._check_node(user, part, params)
        elif kind == "or":
            if not any(self._passes(user, part, params) for part in rest):
                raise denied()
        elif kind == "perm":
            path, privileges, *pairs = rest
            options = dict(zip(pairs[::2], pairs[1::2], strict=True))
            if (needed := options.get("require_param")) and params.get(needed) is None:
                raise denied()
            self.check(user, _fill(path, params), *privileges, any_of=bool(options.get("any")))
        elif kind == "perm-modify":
            self.check_modify(user, _fill(rest[0], params))
        elif kind == "userid-param":
            self._check_userid(user, rest[0], params)
        elif kind == "userid-group":
            self._check_userid_group(user, rest, params)
        else:  # pragma: no cover - the contract test loads every check of the schema
            raise failed(f"unknown permission test '{kind}'")

    def _passes(self, user: str, check: Sequence[Any], params: Mapping[str, Any]) -> bool:
        try:
            self._check_node(user, check, params)
        except PveError:
            return False
        return True

    def _check_userid(self, user: str, what: str, params: Mapping[str, Any]) -> None:
        target = str(params.get("userid", ""))
        if what == "self":
            if user != target:
                raise denied()
            return
        self.check(user, f"/access/realm/{target.partition('@')[2]}", what)

    def _check_userid_group(self, user: str, rest: Sequence[Any], params: Mapping[str, Any]) -> None:
        privileges = rest[0]
        if self.has(user, "/access/groups", *privileges, any_of=True):
            return
        target = str(params.get("userid", ""))
        names = [n for n, group in self.state.data["groups"].items() if target in group["users"]]
        if "groups_param" in rest and params.get("groups"):
            names = re.split(r"[,;\s]+", str(params["groups"]))
        if any(self.has(user, f"/access/groups/{name}", *privileges, any_of=True) for name in names):
            return
        raise denied()

    def check_modify(self, user: str, path: str) -> None:
        """``check_perm_modify``: who may change the rights on a path."""
        privileges = ["Permissions.Modify"]
        for prefix, privilege in (
            ("/storage", "Datastore.Allocate"),
            ("/vms", "VM.Allocate"),
            ("/pool", "Pool.Allocate"),
        ):
            if path.startswith(prefix):
                privileges.append(privilege)
        self.check(user, path, *privileges, any_of=True)


def _fill(template: str, params: Mapping[str, Any]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: str(params.get(match[1], "")), template)


def _past(expire: object) -> bool:
    return bool(int(str(expire or 0))) and int(str(expire)) < time.time()
