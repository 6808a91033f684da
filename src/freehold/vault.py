"""Ansible Vault by ansible-core's own library, and where a client's vault key comes from.

A file that this module writes opens with ``ansible-vault view`` and the same key, and the other way round.
"""

from __future__ import annotations

import os
import secrets
import shlex
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from freehold.errors import BadInputError

KEY_FILE = "FREEHOLD_VAULT_KEY_FILE"
KEY_VALUE = "FREEHOLD_VAULT_KEY"
KEY_COMMAND = "FREEHOLD_VAULT_KEY_COMMAND"

_COMMAND_TIMEOUT = 120
"""Seconds that a key command may take: it may ask for a passphrase."""

_from_environment: str | None = None


class SecretsKeyError(BadInputError):
    """The key of a client's secrets is missing, unreadable, or not the one that they are encrypted with."""


@dataclass(frozen=True)
class VaultKey:
    """A key and where it came from."""

    value: str = field(repr=False)
    source: str
    """In words, for messages: ``the file /root/.config/freehold/keys/acme``."""
    file: Path | None = None
    """Freehold's own key file, where the key came from there."""


def default_key_file(client: str) -> Path:
    """Where the key of a client lies when the environment names no other place."""
    return platformdirs.user_config_path("freehold") / "keys" / client


def find_key(client: str) -> VaultKey | None:
    """The client's key, or nothing where none was ever made.

    Looked for in this order: the file named by ``FREEHOLD_VAULT_KEY_FILE``, the value of ``FREEHOLD_VAULT_KEY``, the
    output of ``FREEHOLD_VAULT_KEY_COMMAND``, the file of :func:`default_key_file`. The value is taken out of the
    environment when it is read, so that no child process inherits it.

    Raises:
        SecretsKeyError: The place that was named gives no key.
    """
    global _from_environment
    if path := os.environ.get(KEY_FILE):
        return _from_file(Path(path).expanduser(), f"the file {path} ({KEY_FILE})")
    _from_environment = os.environ.pop(KEY_VALUE, "").strip() or _from_environment
    if _from_environment:
        return VaultKey(_from_environment, f"the environment variable {KEY_VALUE}")
    if command := os.environ.get(KEY_COMMAND):
        return _from_command(command)
    file = default_key_file(client)
    if not file.exists():
        return None
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        raise SecretsKeyError(
            f"the key file {file} is open to other users (mode {mode:04o})",
            doing="reading the key of the secrets",
            where=str(file),
            remedy=f"chmod 600 {shlex.quote(str(file))}",
        )
    key = _from_file(file, f"the file {file}")
    return VaultKey(key.value, key.source, file)


def ensure_key(client: str) -> VaultKey:
    """The client's key; made in :func:`default_key_file` (mode 0600) where there is none.

    Raises:
        SecretsKeyError: The place that the environment names gives no key.
    """
    if key := find_key(client):
        return key
    file = default_key_file(client)
    value = secrets.token_urlsafe(32)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        write_private(file, f"{value}\n".encode(), new=True)
    except FileExistsError:  # another run made it meanwhile
        value = file.read_text(encoding="utf-8").strip()
    return VaultKey(value, f"the file {file}", file)


def _from_file(file: Path, source: str) -> VaultKey:
    try:
        value = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise _no_key(source, f"it cannot be read: {reason}") from error
    if not value:
        raise _no_key(source, "it is empty")
    return VaultKey(value, source)


def _from_command(command: str) -> VaultKey:
    source = f'the command "{command}" ({KEY_COMMAND})'
    try:
        done = subprocess.run(
            shlex.split(command), stdout=subprocess.PIPE, timeout=_COMMAND_TIMEOUT, check=True, text=True
        )
    except subprocess.TimeoutExpired as error:
        raise _no_key(source, f"it gave no answer within {_COMMAND_TIMEOUT} seconds") from error
    except subprocess.CalledProcessError as error:
        raise _no_key(source, f"it ended with exit code {error.returncode}") from error
    except (OSError, ValueError) as error:
        raise _no_key(source, f"it cannot be run: {error}") from error
    if not (value := done.stdout.strip()):
        raise _no_key(source, "it printed nothing")
    return VaultKey(value, source)


def _no_key(source: str, reason: str) -> SecretsKeyError:
    return SecretsKeyError(
        f"{source} gives no key: {reason}",
        doing="reading the key of the secrets",
        where=source,
        remedy=f"Correct it, or unset {KEY_FILE} and {KEY_COMMAND} to use the key file of Freehold.",
    )


def encrypt(text: str, key: VaultKey) -> bytes:
    """The text as an Ansible Vault file (format 1.1, AES-256)."""
    from ansible.parsing.vault import VaultLib, VaultSecret

    secret = VaultSecret(key.value.encode())
    encrypted: bytes = VaultLib([("default", secret)]).encrypt(text, secret=secret)
    return encrypted


def decrypt(content: bytes, key: VaultKey, file: Path) -> str:
    """The text of an Ansible Vault file.

    Raises:
        SecretsKeyError: It is not encrypted, damaged, or encrypted with another key.
    """
    from ansible.errors import AnsibleError
    from ansible.parsing.vault import VaultLib, VaultSecret

    if not content.startswith(b"$ANSIBLE_VAULT;"):
        raise SecretsKeyError(
            f"{file} is not encrypted",
            doing="opening the secrets",
            where=str(file),
            remedy=f"Encrypt it with the key of {key.source}: ansible-vault encrypt {shlex.quote(str(file))}",
        )
    try:
        text: bytes = VaultLib([("default", VaultSecret(key.value.encode()))]).decrypt(content)
    except AnsibleError as error:
        raise SecretsKeyError(
            f"{file} does not open with the key of {key.source}",
            doing="opening the secrets",
            where=str(file),
            answer=str(error),
            remedy=f"Give the key that it was encrypted with: {KEY_FILE}, {KEY_VALUE} or {KEY_COMMAND}. "
            "Without that key the secrets are lost.",
        ) from error
    return text.decode()


def write_private(file: Path, content: bytes, *, new: bool = False) -> None:
    """Writes a file of mode 0600 in one step: it has the old content or the new, whatever happens.

    Raises:
        FileExistsError: ``new`` was asked for, and the file exists.
    """
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if new:
            os.link(temporary, file)
        else:
            temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
