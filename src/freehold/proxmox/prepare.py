"""What root makes once on a Proxmox VE cluster: roles, pool, user, token and their access control list.

The same steps run as ``pvesh`` on the node over SSH, or as calls of a root@pam session. What is there already is
left alone, so that a second run changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from freehold.proxmox import answers, errors
from freehold.proxmox.client import PveClient
from freehold.proxmox.privileges import Grant, Needs, grants

_COMMENT = "made by freehold prepare"
_VERBS = {"GET": "get", "POST": "create", "PUT": "set", "DELETE": "delete"}


class Root(Protocol):
    """Makes one call as root and returns the ``data`` of its answer."""

    def __call__(self, method: str, path: str, params: Mapping[str, str | int]) -> Any: ...


class Ran(BaseModel):
    """How a command on the node ended."""

    status: int
    out: str = Field(repr=False)
    error: str = ""


class Step(BaseModel):
    """One thing that is made."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    what: str
    """A sentence for the one who reads along."""
    method: Literal["POST", "PUT", "DELETE"]
    path: str
    params: dict[str, str | int] = {}

    def argv(self) -> list[str]:
        """The step as a command on the node."""
        return pvesh(self.method, self.path, self.params)


class Prepared(BaseModel):
    """What was made."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    steps: tuple[Step, ...]
    secret: str | None = Field(default=None, repr=False)
    """The token's secret; only where the token is new, since nothing ever shows it again."""


def pvesh(method: str, path: str, params: Mapping[str, str | int]) -> list[str]:
    """A call of the API as a command on the node, for root (``pvesh``, package pve-manager)."""
    argv = ["pvesh", _VERBS[method], path]
    for name, value in params.items():
        argv += [f"--{name}", str(value)]
    return [*argv, "--output-format", "json"]


def over_ssh(run: Callable[[list[str]], Ran]) -> Root:
    """Root by commands on the node.

    Args:
        run: Runs an argument list on the node as root. No argument is a secret; the output of one may be.
    """

    def call(method: str, path: str, params: Mapping[str, str | int]) -> Any:
        ran = run(pvesh(method, path, params))
        if ran.status != 0:
            raise answers.from_answer(
                500, ran.error.strip(), None, doing="preparing the node", where=f"{method} {path}"
            )
        try:
            return json.loads(ran.out) if ran.out.strip() else None
        except ValueError:
            return None

    return call


def over_session(client: PveClient) -> Root:
    """Root by a session of root@pam."""

    def call(method: str, path: str, params: Mapping[str, str | int]) -> Any:
        return client.call(method, path, params, doing="preparing the node")

    return call


def prepare(
    root: Root, needs: Needs, *, new_secret: bool = False, report: Callable[[Step], None] | None = None
) -> Prepared:
    """Make what is missing.

    Args:
        root: Who makes it.
        needs: What the client uses.
        new_secret: Give an existing token a new secret (where the old one is lost); the old one stops working.
        report: Called with each step before it is made.

    Raises:
        PveError: A call was refused.
    """
    steps: list[Step] = []
    secret: str | None = None
    for wanted in (_roles, _pool, _user):
        for step in wanted(root, needs):
            try:
                _make(root, step, steps, report)
            except errors.PveError:
                # Two clients of a node may be prepared at the same time, and roles are everybody's.
                if step in wanted(root, needs):
                    raise
    for step in _token(root, needs, new_secret=new_secret):
        answer = _make(root, step, steps, report)
        secret = (answer or {}).get("value", secret) if isinstance(answer, Mapping) else secret
    # After the token: one that is made anew has lost its entries.
    for step in _acl(root, needs):
        _make(root, step, steps, report)
    return Prepared(steps=tuple(steps), secret=secret)


def _make(root: Root, step: Step, steps: list[Step], report: Callable[[Step], None] | None) -> Any:
    if report:
        report(step)
    answer = root(step.method, step.path, step.params)
    steps.append(step)
    return answer


def _roles(root: Root, needs: Needs) -> list[Step]:
    wanted = {grant.role: set(grant.privileges) for grant in grants(needs)}
    there = {
        str(role["roleid"]): set(filter(None, str(role.get("privs") or "").split(",")))
        for role in root("GET", "/access/roles", {})
    }
    steps = []
    for role, privileges in sorted(wanted.items()):
        text = ",".join(sorted(privileges))
        if role not in there:
            params: dict[str, str | int] = {"roleid": role, "privs": text}
            steps.append(
                Step(what=f"role {role}: {text}", method="POST", path="/access/roles", params=params)
            )
        elif there[role] != privileges:
            steps.append(
                Step(
                    what=f"role {role}: {text}",
                    method="PUT",
                    path=f"/access/roles/{role}",
                    params={"privs": text},
                )
            )
    return steps


def _pool(root: Root, needs: Needs) -> list[Step]:
    if needs.pool in {pool["poolid"] for pool in root("GET", "/pools", {})}:
        return []
    params: dict[str, str | int] = {"poolid": needs.pool, "comment": _COMMENT}
    return [Step(what=f"pool {needs.pool}", method="POST", path="/pools", params=params)]


def _user(root: Root, needs: Needs) -> list[Step]:
    if needs.user in {user["userid"] for user in root("GET", "/access/users", {})}:
        return []
    params: dict[str, str | int] = {"userid": needs.user, "comment": _COMMENT}
    return [
        Step(
            what=f"user {needs.user}, without a password", method="POST", path="/access/users", params=params
        )
    ]


def _token(root: Root, needs: Needs, *, new_secret: bool) -> list[Step]:
    name = needs.token.partition("!")[2]
    base = f"/access/users/{needs.user}/token"
    exists = name in {token["tokenid"] for token in root("GET", base, {})}
    if exists and not new_secret:
        return []
    steps = []
    if exists:
        # In place (`regenerate`) only since Proxmox VE 9.2, so the token is made anew on all.
        steps.append(Step(what=f"old token {needs.token} removed", method="DELETE", path=f"{base}/{name}"))
    params: dict[str, str | int] = {"privsep": 1, "comment": _COMMENT}
    what = f"token {needs.token}, with rights of its own only"
    return [*steps, Step(what=what, method="POST", path=f"{base}/{name}", params=params)]


def _acl(root: Root, needs: Needs) -> list[Step]:
    there = {
        (entry["path"], entry["type"], entry["ugid"], entry["roleid"], int(entry.get("propagate", 1)))
        for entry in root("GET", "/access/acl", {})
    }
    return [
        _grant_step(grant, needs)
        for grant in grants(needs)
        if not {_entry(grant, "user", needs.user), _entry(grant, "token", needs.token)} <= there
    ]


def _entry(grant: Grant, kind: str, who: str) -> tuple[str, str, str, str, int]:
    return (grant.path, kind, who, grant.role, int(grant.propagate))


def _grant_step(grant: Grant, needs: Needs) -> Step:
    # A token with privilege separation holds what both it and its user hold.
    params: dict[str, str | int] = {
        "path": grant.path,
        "roles": grant.role,
        "users": needs.user,
        "tokens": needs.token,
        "propagate": int(grant.propagate),
    }
    return Step(
        what=f"{grant.role} on {grant.path}: to {grant.why}", method="PUT", path="/access/acl", params=params
    )
