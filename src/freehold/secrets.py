"""A client's secrets: made once, by type, and kept in ``inventory/<client>/secrets.yml``, which Ansible Vault encrypts.

The file maps services to their secrets: ``{postgres: {superuser: …}, proxmox: {token: …}}``; a secret is named
``postgres.superuser``. New services add secrets and never touch old ones.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import string
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from freehold import authority, vault
from freehold.authority import Scope, Subject
from freehold.catalog.services import Secret
from freehold.errors import BadInputError
from freehold.vault import SecretsKeyError, VaultKey

__all__ = ["Secrets", "SecretsKeyError", "UnknownSecretError", "generate", "handed", "keyed", "value"]

SECRETS_FILE = "secrets.yml"
FINGERPRINT_KEY = "freehold.fingerprint_key"
SSH_KEY = "freehold.ssh_key"
SIGNING_KEY = "freehold.signing_key"
"""Signs folders for auditors (:mod:`freehold.signing`), which makes it when it signs first."""

GIVEN = "given"
"""Type of secrets that the client hands in: Freehold makes none."""

OWN = {FINGERPRINT_KEY: Secret(type="hex", length=64), SSH_KEY: Secret(type="ssh-key")}
"""What every client has, beside the root of its authority."""

_STAY = frozenset({authority.ROOT, SIGNING_KEY})
"""Secrets that no child process is handed."""

ISSUED = frozenset({"certificate", "authority"})
"""Types of secrets that the client's authority issues: see :meth:`Secrets.certify`."""

Document = dict[str, dict[str, str]]

handed: Mapping[str, Mapping[str, Any]] | None = None
"""The secrets that a parent process handed to this one: where they are set, no file is opened."""

_ALPHABET = string.ascii_letters + string.digits
_KINDS = (string.ascii_lowercase, string.ascii_uppercase, string.digits)


class UnknownSecretError(BadInputError):
    """There is no secret of this name."""

    def __init__(self, name: str, file: Path | None) -> None:
        super().__init__(
            f"there is no secret {name}",
            doing="reading the secrets",
            where=str(file) if file else None,
            remedy="`freehold up` makes the secrets of services; `freehold prepare` makes proxmox.token.",
        )


def generate(kind: Secret) -> str:
    """A new secret of a kind.

    ``password`` has small letters, capitals and digits, which need no quoting anywhere and are what applications such
    as n8n insist on; ``token`` has letters and digits; ``hex`` has hexadecimal digits; ``uuid`` is a random one (version
    4); ``ssh-key`` is an ed25519 private key in OpenSSH's format.

    Raises:
        ValueError: The authority issues secrets of this kind, or the client gives them.
    """
    if kind.type in ISSUED | {GIVEN}:
        raise ValueError(f"a secret of the type {kind.type} is not generated")
    if kind.type == "uuid":
        return kind.prefix + str(uuid.uuid4())
    if kind.type == "hex":
        return kind.prefix + secrets.token_hex((kind.length + 1) // 2)[: kind.length]
    if kind.type == "ssh-key":
        return _ssh_key()
    while True:
        text = kind.prefix + "".join(secrets.choice(_ALPHABET) for _ in range(kind.length))
        if kind.type != "password" or all(set(text) & set(letters) for letters in _KINDS):
            return text


def _ssh_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return (
        Ed25519PrivateKey.generate()
        .private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        .decode()
    )


class Secrets:
    """The secrets of one client. Every change is written at once, under a lock."""

    def __init__(self, file: Path, client: str, key: VaultKey | None, document: Document) -> None:
        self.file = file
        self.client = client
        self._key = key
        self._document = document

    def __repr__(self) -> str:
        return f"Secrets({str(self.file)!r})"

    @classmethod
    def open(cls, directory: Path, client: str) -> Secrets:
        """Opens a client's secrets; without a file yet, there are none.

        Raises:
            SecretsKeyError: There is no key, or it is not the one that the file is encrypted with.
        """
        file = directory / SECRETS_FILE
        if not file.exists():
            return cls(file, client, None, {})
        with file.open("rb"):
            pass  # a file of another user is named before a key is looked for
        key = vault.find_key(client)
        if key is None:
            raise SecretsKeyError(
                f"there is no key for {file}",
                doing="opening the secrets",
                where=str(file),
                remedy=f"Bring the client's key to {vault.default_key_file(client)} (mode 0600), or name it by "
                f"{vault.KEY_FILE}, {vault.KEY_VALUE} or {vault.KEY_COMMAND}.",
            )
        return cls.load(directory, client, key)

    @classmethod
    def load(cls, directory: Path, client: str, key: VaultKey) -> Secrets:
        """Opens a client's secrets with a key.

        Raises:
            SecretsKeyError: The file is not encrypted with this key.
        """
        file = directory / SECRETS_FILE
        return cls(file, client, key, _read(file, key) if file.exists() else {})

    def has(self, name: str) -> bool:
        """Whether there is a secret of this name."""
        service, _, key = name.partition(".")
        return key in self._document.get(service, {})

    def get(self, name: str) -> str:
        """The secret of this name.

        Raises:
            UnknownSecretError: There is none.
        """
        if not self.has(name):
            raise UnknownSecretError(name, self.file)
        service, _, key = name.partition(".")
        return self._document[service][key]

    def all_values(self) -> dict[str, str]:
        """Every secret by its name."""
        return _by_name(self._document)

    def document(self) -> Document:
        """The secrets to hand to a child process (see :data:`handed`): all but the authority's root, which issues and no
        more, and the key that signs."""
        return {
            service: {key: value for key, value in entries.items() if f"{service}.{key}" not in _STAY}
            for service, entries in self._document.items()
        }

    def ensure(self, wanted: Mapping[str, Secret]) -> list[str]:
        """Makes the wanted secrets that are missing, and those that every client has; returns the names of new ones.

        What the client's authority issues is left to :meth:`certify`.

        Raises:
            SecretsKeyError: The file changed meanwhile and does not open any more.
        """
        missing = {
            name: kind
            for name, kind in (OWN | dict(wanted)).items()
            if kind.type not in ISSUED | {GIVEN} and not self.has(name)
        }
        if not missing:
            return []
        added: list[str] = []

        def add(document: Document) -> None:
            for name, kind in missing.items():
                service, _, key = name.partition(".")
                if key not in document.setdefault(service, {}):
                    document[service][key] = generate(kind)
                    added.append(name)

        self._change(add)
        return added

    def certify(self, scope: Scope, wanted: Mapping[str, Subject], anew: str = "") -> list[str]:
        """Makes the client's authority and certificates that are missing, no longer fit or end soon; names of new ones.

        Args:
            scope: What the authority vouches for.
            wanted: Whom the certificates are for, by the names of secrets.
            anew: Name of one that is made anew in any case.

        Raises:
            SecretsKeyError: The file changed meanwhile and does not open any more.
        """

        def renewals(document: Document) -> dict[str, str]:
            return authority.renewals(
                {name: value for name, value in _by_name(document).items() if name != anew}, scope, wanted
            )

        if not renewals(self._document):
            return []
        added: list[str] = []

        def renew(document: Document) -> None:
            for name, bundle in renewals(document).items():
                service, _, key = name.partition(".")
                document.setdefault(service, {})[key] = bundle
                added.append(name)

        self._change(renew)
        return added

    def set(self, name: str, value: str) -> None:
        """Keeps a secret that was made elsewhere, such as the one of an API token."""
        service, _, key = name.partition(".")
        if not service or not key:
            raise UnknownSecretError(name, self.file)
        self._change(lambda document: document.setdefault(service, {}).update({key: value}))

    def rotate(self, name: str, kind: Secret) -> None:
        """Replaces a secret by a new one.

        Raises:
            UnknownSecretError: There is none of this name.
        """
        self.get(name)
        self.set(name, generate(kind))

    def rekey(self, new_key: str, *others: Path) -> None:
        """Encrypts the file with another key, which Freehold's own key file holds from then on, where it held the old.

        Args:
            new_key: The key.
            others: More files that are encrypted with the client's key; those that are not there are passed over.

        Raises:
            BadInputError: The new key is empty.
            SecretsKeyError: Another file does not open; nothing was changed.
        """
        if not new_key.strip():
            raise BadInputError(
                "the new key is empty", doing="changing the key of the secrets", where=str(self.file)
            )
        old = self._key or vault.ensure_key(self.client)
        new = VaultKey(new_key.strip(), old.source if old.file else "the new key", old.file)
        with self._locked():
            document = _read(self.file, old) if self.file.exists() else {}
            texts = {file: vault.decrypt(file.read_bytes(), old, file) for file in others if file.is_file()}
            _write(self.file, document, new)
            for file, text in texts.items():
                vault.write_private(file, vault.encrypt(text, new))
            if new.file:
                vault.write_private(new.file, f"{new.value}\n".encode())
        self._key, self._document = new, document

    def digest(self, value: str) -> str:
        """A keyed hash of a value (HMAC-SHA-256, hexadecimal): equal values give equal digests, and no digest gives a value.

        Raises:
            UnknownSecretError: :meth:`ensure` never ran for this client.
        """
        return _digest(self.get(FINGERPRINT_KEY), value)

    def _change(self, change: Callable[[Document], None]) -> None:
        with self._locked():
            key = self._key or vault.ensure_key(self.client)
            document = _read(self.file, key) if self.file.exists() else {}
            change(document)
            _write(self.file, document, key)
        self._key, self._document = key, document

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # The folder itself is the lock: a lock file would end up in the client's repository.
        descriptor = os.open(self.file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _by_name(document: Document) -> dict[str, str]:
    return {
        f"{service}.{key}": value for service, entries in document.items() for key, value in entries.items()
    }


def value(name: str, directory: str | Path | None = None) -> str:
    """A secret by name: of those that were handed to this process, else of the client in a folder.

    Raises:
        UnknownSecretError: There is none.
        SecretsKeyError: The secrets of the folder do not open.
    """
    if handed is None and directory is not None:
        return _of(Path(directory)).get(name)
    service, _, key = name.partition(".")
    try:
        return str((handed or {})[service][key])
    except KeyError:
        raise UnknownSecretError(name, None) from None


def keyed(directory: str | Path | None = None) -> Callable[[str], str]:
    """The keyed hash of :meth:`Secrets.digest`, by the secrets that :func:`value` reads.

    Raises:
        UnknownSecretError: The client has no fingerprint key yet.
        SecretsKeyError: The secrets of the folder do not open.
    """
    fingerprint_key = value(FINGERPRINT_KEY, directory)
    return lambda text: _digest(fingerprint_key, text)


def _digest(fingerprint_key: str, text: str) -> str:
    return hmac.new(bytes.fromhex(fingerprint_key), text.encode(), hashlib.sha256).hexdigest()


@cache
def _of(directory: Path) -> Secrets:
    from freehold.schema.document import read

    stack = read(directory / "stack.yml").data
    return Secrets.open(directory, stack["client"])


class _Dumper(yaml.SafeDumper):
    """Writes a text of several lines, such as a private key, as a block."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def _write(file: Path, document: Document, key: VaultKey) -> None:
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=True, allow_unicode=True)
    vault.write_private(file, vault.encrypt(text, key))


def _read(file: Path, key: VaultKey) -> Document:
    text = vault.decrypt(file.read_bytes(), key, file)
    try:
        # Every scalar is text here: a password of digits alone must not become a number.
        document = yaml.load(text, Loader=yaml.BaseLoader) or {}  # noqa: S506 - BaseLoader makes text alone
    except yaml.YAMLError:
        document = None
    if not isinstance(document, dict) or not all(_are_texts(entries) for entries in document.values()):
        # What YAML says of it would quote a secret.
        raise BadInputError(
            f"{file} opens, but it does not map services to their secrets",
            doing="opening the secrets",
            where=str(file),
            remedy=f"Correct it with: ansible-vault edit {file}",
        )
    return document


def _are_texts(entries: Any) -> bool:
    return isinstance(entries, dict) and all(isinstance(entry, str) for entry in entries.values())
