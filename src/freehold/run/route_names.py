"""The client's list of names that count as sensitive: ``inventory/<client>/names.yml``, encrypted as secrets are.

A list in YAML, one name a line, such as those of the client's own clients. The router gets it as the secret `SECRET`, so that it
travels and is compared as secrets are: never in plain text, never in an output.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from freehold import vault
from freehold.errors import BadInputError

if TYPE_CHECKING:
    from freehold.run.context import Client

FILE = "names.yml"
SECRET = "litellm.names"  # noqa: S105 - the name of a secret
LONGEST = 200
"""Characters of a name."""


class NamesError(BadInputError):
    """The list of names is wrong."""


def load(client: Client) -> list[str]:
    """The names, in order; none where there is no file.

    Raises:
        SecretsKeyError: The file is encrypted with another key.
        NamesError: It is no list of texts.
    """
    return read(client.directory, client.stack.client)


def read(directory: Path, client: str) -> list[str]:
    """The names in a client's folder.

    Raises:
        SecretsKeyError: The file is encrypted with another key.
        NamesError: It is no list of texts.
    """
    path = directory / FILE
    if not path.is_file():
        return []
    key = vault.find_key(client)
    if key is None:
        raise vault.SecretsKeyError(
            f"there is no key for {path}",
            doing="opening the list of names",
            where=str(path),
            remedy=f"Bring the client's key to {vault.default_key_file(client)} (mode 0600).",
        )
    try:
        names = yaml.safe_load(vault.decrypt(path.read_bytes(), key, path)) or []
    except yaml.YAMLError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        # What YAML says of it would quote a name.
        raise NamesError(
            "The list of names opens, but it is no list of names",
            where=str(path),
            remedy=f"Correct it with: ansible-vault edit {path}",
        )
    return list(names)


def add(client: Client, names: Iterable[str]) -> int:
    """Adds names; how many of them are new.

    Raises:
        NamesError: One of them is no name: too long, of several lines, or without a letter.
    """
    known = load(client)
    new = list(dict.fromkeys(" ".join(name.split()) for name in names if name.strip()))
    for number, name in enumerate(new, 1):
        if len(name) > LONGEST or sum(map(str.isalpha, name)) < 2:
            raise NamesError(
                f"Name {number} of those given is no name",
                doing="adding names; none was added",
                remedy=f"A name has two letters or more, and {LONGEST} characters at most.",
            )
    added = [name for name in new if name not in known]
    if added:
        _save(client, [*known, *added])
    return len(added)


def remove(client: Client, names: Iterable[str]) -> int:
    """Removes names; how many of them were there."""
    gone = {" ".join(name.split()) for name in names}
    known = load(client)
    kept = [name for name in known if name not in gone]
    if len(kept) < len(known):
        _save(client, kept)
    return len(known) - len(kept)


def deliver(client: Client) -> bool:
    """Bring the list to the secrets, from where the router gets it; whether it changed there."""
    policy = client.whole_layout.routing
    if policy is None or not policy.names or not policy.cloud:
        return False
    text = json.dumps(load(client), ensure_ascii=False)
    if client.secrets.has(SECRET) and client.secrets.get(SECRET) == text:
        return False
    client.secrets.set(SECRET, text)
    return True


def _save(client: Client, names: list[str]) -> None:
    key = vault.ensure_key(client.stack.client)
    text = yaml.safe_dump(names, allow_unicode=True)
    vault.write_private(client.directory / FILE, vault.encrypt(text, key))
