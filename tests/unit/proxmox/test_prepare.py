"""Making of a client's rights, when others do the same at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from freehold.proxmox import errors
from freehold.proxmox.answers import from_answer
from freehold.proxmox.prepare import prepare
from freehold.proxmox.privileges import Needs


class Node:
    """Root on a node where somebody else makes a thing just before we do."""

    def __init__(self, *, taken: bool) -> None:
        self.roles: dict[str, str] = {}
        self.taken = taken

    def __call__(self, method: str, path: str, params: Mapping[str, str | int]) -> Any:
        if (method, path) == ("GET", "/access/roles"):
            return [{"roleid": name, "privs": text} for name, text in self.roles.items()]
        if method == "GET":
            return []
        if (method, path) == ("POST", "/access/roles"):
            name = str(params["roleid"])
            if self.taken:
                self.roles[name] = str(params["privs"])
            if self.taken or name not in self.roles:
                text = f"create role failed: role '{name}' already exists"
                raise from_answer(500, text, None, doing="preparing the node", where="POST /access/roles")
        return {"value": "secret"}


def _needs() -> Needs:
    return Needs(
        token="freehold@pve!acme",
        pool="freehold-acme",
        nodes=("pve",),
        storages=("guests",),
        template_storages=("local",),
        bridges=("vmbr0",),
    )


def test_a_role_that_another_client_makes_in_the_meantime_is_there() -> None:
    assert prepare(Node(taken=True), _needs()).secret == "secret"


def test_a_role_that_is_refused_is_an_error() -> None:
    with pytest.raises(errors.PveError):
        prepare(Node(taken=False), _needs())
