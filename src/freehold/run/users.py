"""The client's people: in which applications each has an account, and the first password to hand over."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from freehold.errors import BadInputError
from freehold.layout.types import Layout
from freehold.run.context import Client
from freehold.schema.problems import nearest
from freehold.schema.stack import User


class UnknownUserError(BadInputError):
    """The stack has no such user."""


@dataclass(frozen=True)
class Account:
    """One person."""

    name: str
    mail: str
    groups: tuple[str, ...]
    admin: bool
    applications: dict[str, str]
    """Addresses of the applications that get an account for this person from the stack, by title."""
    password: str | None = None
    """The first password; only where one person was asked for."""

    def as_dict(self) -> dict[str, Any]:
        """The account as plain data; without a password where none was asked for."""
        return {key: value for key, value in asdict(self).items() if key != "password" or value is not None}


def accounts(client: Client) -> list[Account]:
    """All people of the stack, without passwords."""
    return [_account(client.layout, user) for user in client.stack.users]


def account(client: Client, mail: str) -> Account:
    """One person, with the first password.

    Raises:
        UnknownUserError: The stack has no user with this mail address.
        UnknownSecretError: No run has made the password yet.
    """
    users = {user.mail.lower(): user for user in client.stack.users}
    if mail.lower() not in users:
        close = nearest(mail.lower(), users)
        raise UnknownUserError(
            f"The stack has no user {mail}" + (f"; did you mean {users[close].mail}?" if close else ""),
            where=f"{client.loaded.path}: users",
            remedy=f"People of this client: freehold users show {client.stack.client}",
        )
    user = users[mail.lower()]
    password = client.secrets.get(f"users.{user.mail}")
    return _account(client.layout, user, password)


def _account(layout: Layout, user: User, password: str | None = None) -> Account:
    # An application that makes accounts of the stack's people is one whose role reads their first passwords.
    takers = {service.name for service in layout.services if f"users.{user.mail}" in service.secrets}
    return Account(
        name=user.name,
        mail=user.mail,
        groups=user.groups,
        admin=user.admin,
        applications={
            route.title: f"https://{route.fqdn}" for route in layout.routes if route.service in takers
        },
        password=password,
    )
