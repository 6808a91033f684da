"""What the client hands in: secrets that services read and Freehold does not make, and authorities of providers."""

from __future__ import annotations

from freehold.errors import BadInputError
from freehold.layout import certificate
from freehold.layout.routing import ROUTER
from freehold.run import route_names
from freehold.run.context import Client
from freehold.secrets import GIVEN


class MissingSecretError(BadInputError):
    """A secret that the client must give is not there."""

    def __init__(self, client: str, names: list[str]) -> None:
        super().__init__(
            f"The stack needs a secret that only you have: {', '.join(names)}",
            doing="looking for secrets; nothing was touched",
            where=names[0],
            remedy="\n".join(f"Run: {command(client, name)}" for name in names),
        )


def command(client: str, name: str) -> str:
    """The command that keeps a secret of the client's."""
    return f"freehold secrets set {client} {name}"


def missing(client: Client) -> list[str]:
    """Names of the secrets that services of the layout read, that Freehold does not make, and that nobody has given."""
    made = {name for name, kind in client.secret_kinds().items() if kind.type != GIVEN}
    read = {name for service in client.layout.services for name in service.secrets}
    # The list of names comes of its own file, with the next run.
    return sorted(name for name in read - made - {route_names.SECRET} if not client.secrets.has(name))


def missing_authorities(client: Client) -> str | None:
    """The file with authorities of providers where the stack names one and it holds no certificate."""
    file = (client.stack.services.get(ROUTER) or {}).get("authorities_file")
    return str(file) if file and not certificate.chain(client.directory, str(file)) else None


def require(client: Client) -> None:
    """Stop unless all are there.

    Raises:
        MissingSecretError: With each that is missing, and the command that keeps it.
        BadInputError: The file with authorities of providers is not there.
    """
    if names := missing(client):
        raise MissingSecretError(client.stack.client, names)
    if file := missing_authorities(client):
        raise BadInputError(
            f"There is no certificate (PEM) in the file that services.{ROUTER}.authorities_file names",
            doing="looking for authorities of providers; nothing was touched",
            where=str(client.directory / file),
            remedy="Put the certificate of the provider's authority there.",
        )
