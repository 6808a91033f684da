"""Users, their tokens, groups (part of a stand-in of Proxmox VE, for development)."""

from __future__ import annotations

import uuid
from typing import Any

from freehold.lab.access import ROOT, hash_password, hash_secret
from freehold.lab.answers import bad_parameters, failed
from freehold.lab.api.routes import endpoint
from freehold.lab.context import Call
from freehold.lab.formats import split_list

_FIELDS = ("comment", "email", "firstname", "lastname", "keys")


def _user(call: Call) -> tuple[str, dict[str, Any]]:
    name = str(call.params["userid"])
    entry: dict[str, Any] | None = call.lab.state.data["users"].get(name)
    if entry is None:
        raise failed(f"no such user ('{name}')")
    return name, entry


def _shown(entry: dict[str, Any]) -> dict[str, Any]:
    answer = {key: entry[key] for key in _FIELDS if key in entry}
    answer |= {"enable": int(entry.get("enable", 1)), "expire": int(entry.get("expire", 0))}
    return answer


def _tokens(call: Call, user: str) -> dict[str, dict[str, Any]]:
    found = {}
    for token_id, token in call.lab.state.data["tokens"].items():
        owner, _, name = token_id.partition("!")
        if owner == user:
            found[name] = {key: token[key] for key in ("privsep", "expire", "comment") if key in token}
    return found


@endpoint("GET /access/users")
def users(call: Call) -> Any:
    """All users that the caller may see; always the caller itself."""
    access, data = call.lab.access, call.lab.state.data
    everything = access.has(call.user, "/access/groups", "User.Modify", "Sys.Audit", any_of=True)
    answer = []
    for name, entry in data["users"].items():
        groups = [group for group, content in data["groups"].items() if name in content["users"]]
        seen = any(
            access.has(call.user, f"/access/groups/{g}", "User.Modify", "Sys.Audit", any_of=True)
            for g in groups
        )
        if not (everything or seen or name == call.user):
            continue
        if call.get("enabled") is not None and call.flag("enabled") != bool(int(entry.get("enable", 1))):
            continue
        shown = {"userid": name, **_shown(entry)}
        realm = name.partition("@")[2]
        if realm in ("pam", "pve"):
            shown["realm-type"] = realm
        if call.flag("full"):
            shown["groups"] = ",".join(groups)
            shown["tokens"] = [
                {"tokenid": token, **info} for token, info in _tokens(call, name).items()
            ] or None
        answer.append(shown)
    return answer


@endpoint("POST /access/users")
def create_user(call: Call) -> Any:
    """A new user; its realm is not checked."""
    name = str(call.params["userid"])
    with call.lab.state.change() as data:
        if name in data["users"]:
            raise failed(f"create user failed: user '{name}' already exists")
        entry: dict[str, Any] = {
            "enable": int(call.flag("enable", default=True)),
            "expire": call.number("expire"),
        }
        entry |= {key: call.params[key] for key in _FIELDS if key in call.params}
        if password := call.get("password"):
            entry["password"] = hash_password(password)
        data["users"][name] = entry
        _join(call, name, data)


def _join(call: Call, name: str, data: dict[str, Any]) -> None:
    for group in split_list(call.get("groups") or ""):
        if group not in data["groups"]:
            raise failed(f"no such group '{group}'")
        if name not in data["groups"][group]["users"]:
            data["groups"][group]["users"].append(name)


@endpoint("GET /access/users/{userid}")
def user(call: Call) -> Any:
    """One user with groups and tokens."""
    name, entry = _user(call)
    groups = [group for group, content in call.lab.state.data["groups"].items() if name in content["users"]]
    answer: dict[str, Any] = {**_shown(entry), "groups": groups}
    if tokens := _tokens(call, name):
        answer["tokens"] = tokens
    return answer


@endpoint("PUT /access/users/{userid}")
def update_user(call: Call) -> Any:
    """Change a user."""
    with call.lab.state.change() as data:
        name, entry = _user(call)
        if call.get("enable") is not None:
            entry["enable"] = int(call.flag("enable"))
        if call.get("expire") is not None:
            entry["expire"] = call.number("expire")
        entry.update({key: call.params[key] for key in _FIELDS if key in call.params})
        if call.get("groups") is not None:
            if not call.flag("append"):
                for group in data["groups"].values():
                    group["users"] = [member for member in group["users"] if member != name]
            _join(call, name, data)


@endpoint("DELETE /access/users/{userid}")
def delete_user(call: Call) -> Any:
    """Remove a user with its tokens, memberships and ACL entries; an unknown one is no error."""
    name = str(call.params["userid"])
    if name == ROOT:
        raise failed("delete user failed: you can't delete the root user")
    with call.lab.state.change() as data:
        data["users"].pop(name, None)
        data["tokens"] = {
            key: value for key, value in data["tokens"].items() if not key.startswith(name + "!")
        }
        for group in data["groups"].values():
            group["users"] = [member for member in group["users"] if member != name]
        data["acl"] = [e for e in data["acl"] if e["ugid"] != name and not e["ugid"].startswith(name + "!")]


@endpoint("GET /access/users/{userid}/token")
def tokens(call: Call) -> Any:
    """The tokens of a user."""
    name, _ = _user(call)
    return [{"tokenid": token, **info} for token, info in _tokens(call, name).items()]


def _token(call: Call) -> tuple[str, dict[str, Any]]:
    name, token = str(call.params["userid"]), str(call.params["tokenid"])
    _user(call)
    entry: dict[str, Any] | None = call.lab.state.data["tokens"].get(f"{name}!{token}")
    if entry is None:
        raise failed(f"no such token '{token}' for user '{name}'")
    return f"{name}!{token}", entry


@endpoint("GET /access/users/{userid}/token/{tokenid}")
def token(call: Call) -> Any:
    """One token, without its secret."""
    _, entry = _token(call)
    return {key: entry[key] for key in ("privsep", "expire", "comment") if key in entry}


@endpoint("POST /access/users/{userid}/token/{tokenid}")
def create_token(call: Call) -> Any:
    """A new token; the answer is the only place where its secret stands."""
    user_name, name = str(call.params["userid"]), str(call.params["tokenid"])
    with call.lab.state.change() as data:
        _user(call)
        token_id = f"{user_name}!{name}"
        if token_id in data["tokens"]:
            raise bad_parameters({"tokenid": "Token already exists."})
        secret = str(uuid.uuid4())
        info: dict[str, Any] = {"privsep": call.get("privsep") or 1}
        info |= {key: call.params[key] for key in ("comment", "expire") if key in call.params}
        stored = {
            "privsep": int(info["privsep"]),
            "expire": call.number("expire"),
            "hash": hash_secret(secret),
        }
        if comment := call.get("comment"):
            stored["comment"] = comment
        data["tokens"][token_id] = stored
    return {"full-tokenid": token_id, "value": secret, "info": info}


@endpoint("PUT /access/users/{userid}/token/{tokenid}")
def update_token(call: Call) -> Any:
    """Change a token, or give it a new secret."""
    with call.lab.state.change():
        token_id, entry = _token(call)
        answer: dict[str, Any] = {}
        if call.get("privsep") is not None:
            entry["privsep"] = int(call.flag("privsep"))
            answer["privsep"] = str(entry["privsep"])
        if call.get("expire") is not None:
            entry["expire"] = call.number("expire")
        if call.get("comment") is not None:
            entry["comment"] = call.get("comment")
        for key in split_list(call.get("delete") or ""):
            entry.pop(key, None)
        if call.flag("regenerate"):
            secret = str(uuid.uuid4())
            entry["hash"] = hash_secret(secret)
            answer |= {"value": secret, "full-tokenid": token_id}
        return {**{key: entry[key] for key in ("privsep", "expire", "comment") if key in entry}, **answer}


@endpoint("DELETE /access/users/{userid}/token/{tokenid}")
def delete_token(call: Call) -> Any:
    """Remove a token with its ACL entries."""
    with call.lab.state.change() as data:
        token_id, _ = _token(call)
        del data["tokens"][token_id]
        data["acl"] = [entry for entry in data["acl"] if entry["ugid"] != token_id]


@endpoint("GET /access/groups")
def groups(call: Call) -> Any:
    """The groups that the caller may see."""
    answer = []
    for name, group in call.lab.state.data["groups"].items():
        if call.lab.access.has(
            call.user, f"/access/groups/{name}", "User.Modify", "Sys.Audit", "Group.Allocate", any_of=True
        ):
            comment = {"comment": group["comment"]} if group.get("comment") else {}
            answer.append({"groupid": name, "users": ",".join(group["users"]), **comment})
    return answer


@endpoint("POST /access/groups")
def create_group(call: Call) -> Any:
    """A new group."""
    name = str(call.params["groupid"])
    with call.lab.state.change() as data:
        if name in data["groups"]:
            raise failed(f"create group failed: group '{name}' already exists")
        data["groups"][name] = {"users": [], "comment": call.get("comment")}


def _group(call: Call, doing: str) -> dict[str, Any]:
    name = str(call.params["groupid"])
    entry: dict[str, Any] | None = call.lab.state.data["groups"].get(name)
    if entry is None:
        raise failed(f"{doing}group '{name}' does not exist")
    return entry


@endpoint("GET /access/groups/{groupid}")
def group(call: Call) -> Any:
    """One group."""
    entry = _group(call, "")
    return {"members": entry["users"], **({"comment": entry["comment"]} if entry.get("comment") else {})}


@endpoint("PUT /access/groups/{groupid}")
def update_group(call: Call) -> Any:
    """Change the comment of a group."""
    with call.lab.state.change():
        entry = _group(call, "update group failed: ")
        if call.get("comment") is not None:
            entry["comment"] = call.get("comment")


@endpoint("DELETE /access/groups/{groupid}")
def delete_group(call: Call) -> Any:
    """Remove a group with its ACL entries."""
    name = str(call.params["groupid"])
    with call.lab.state.change() as data:
        _group(call, "delete group failed: ")
        del data["groups"][name]
        data["acl"] = [e for e in data["acl"] if not (e["type"] == "group" and e["ugid"] == name)]
