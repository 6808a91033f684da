"""Checks of the client's users and groups."""

from __future__ import annotations

from collections.abc import Iterable

from freehold.schema.problems import Problem, nearest
from freehold.schema.stack import Stack


def check(stack: Stack) -> Iterable[Problem]:
    """What is wrong with the client's users and groups."""
    groups: set[str] = set()
    for position, group in enumerate(stack.groups):
        if group.name in groups:
            yield Problem(("groups", position, "name"), "this group is declared twice", found=group.name)
        groups.add(group.name)
    mails: set[str] = set()
    for position, user in enumerate(stack.users):
        if user.mail.lower() in mails:
            yield Problem(("users", position, "mail"), "another user has this mail address", found=user.mail)
        mails.add(user.mail.lower())
        for place, name in enumerate(user.groups):
            if name not in groups:
                yield Problem(
                    ("users", position, "groups", place),
                    "unknown group",
                    found=name,
                    nearest=nearest(name, groups),
                    allowed=", ".join(sorted(groups)) or "declare it under groups first",
                )
