"""Signed folders: a checksum of each file, and one signature over all checksums.

Written in forms that other tools read, so that nobody needs Freehold to check them: ``SHA256SUMS`` is what ``sha256sum
--check`` takes, ``SHA256SUMS.sig`` a plain Ed25519 signature of it (RFC 8032), and ``signing-key.pem`` the public key:

    sha256sum --check SHA256SUMS
    openssl pkeyutl -verify -rawin -pubin -inkey signing-key.pem -in SHA256SUMS -sigfile SHA256SUMS.sig

A signature says that the holder of the client's secrets made the folder and that nobody changed it since. Anybody can make
another key, so the key's fingerprint is what an auditor keeps from the first time on.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from freehold.catalog.services import Secret
from freehold.errors import BadInputError, FreeholdError
from freehold.secrets import SIGNING_KEY, Secrets
from freehold.vault import write_private

SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
PUBLIC_KEY = "signing-key.pem"
"""In a signed folder, and in the client's own folder, where it is what others are held against."""

_OWN = frozenset({SUMS, SIGNATURE, PUBLIC_KEY})
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


class ManifestError(FreeholdError):
    """A folder is not what was signed; the answer names each file that differs."""


@dataclass(frozen=True)
class Verified:
    """A folder that is what was signed."""

    files: int
    fingerprint: str
    """Of the key that signed it."""
    known: bool
    """Whether that key was compared with one that the caller trusts."""


def sign_manifest(folder: Path, secrets: Secrets) -> str:
    """Sign every file of a folder and of those below it; what an earlier signature left is written anew.

    The client's key is made where there is none, and its public half is kept beside ``secrets.yml``; that of an earlier key stays
    there as ``signing-key-<fingerprint>.pem``, so that what it signed can be checked.

    Returns:
        The key's fingerprint: SHA-256 of its DER form, in hexadecimal.

    Raises:
        SecretsKeyError: The client's secrets do not open.
        BadInputError: The folder holds what cannot be listed: links, devices, or names with line breaks.
    """
    private, public = _own_key(secrets)
    listed = "".join(f"{_digest(folder / name)}  {name}\n" for name in _names(folder)).encode()
    write_private(folder / SUMS, listed)
    write_private(folder / SIGNATURE, private.sign(listed))
    write_private(folder / PUBLIC_KEY, public)
    kept = secrets.file.parent / PUBLIC_KEY
    if not kept.is_file() or kept.read_bytes() != public:
        if kept.is_file():
            _publish(kept.with_stem(f"{kept.stem}-{_name(kept.read_bytes())}"), kept.read_bytes())
        _publish(kept, public)
    return fingerprint(public)


def _publish(path: Path, public: bytes) -> None:
    write_private(path, public)
    path.chmod(0o644)


def _name(public: bytes) -> str:
    """The beginning of a key's fingerprint; of what is no key, that of its content."""
    try:
        return fingerprint(public)[:16]
    except BadInputError:
        return hashlib.sha256(public).hexdigest()[:16]


def verify_manifest(folder: Path, trusted: bytes | str | None = None) -> Verified:
    """Check that a folder is what was signed: no file changed, none missing, none added.

    Args:
        folder: The folder.
        trusted: The public key (PEM) or the fingerprint that it must be signed with; the folder's own key when left out,
            which proves that nothing broke and not who signed it.

    Raises:
        ManifestError: It is not what was signed, or signed with another key.
        BadInputError: It is no signed folder.
    """
    missing = [name for name in sorted(_OWN) if not (folder / name).is_file()]
    if missing:
        raise BadInputError(
            f"{folder} is no signed folder: {', '.join(missing)} is not there",
            doing="checking a signature",
            where=str(folder),
            remedy="Name a folder that `freehold evidence` or `freehold audit export` has written.",
        )
    public, listed = (folder / PUBLIC_KEY).read_bytes(), (folder / SUMS).read_bytes()
    found = fingerprint(public)
    if trusted is not None:
        wanted = (
            fingerprint(trusted) if isinstance(trusted, bytes) else trusted.removeprefix("SHA256:").lower()
        )
        if found != wanted:
            raise _not_signed(folder, f"it is signed with the key {found}, not with {wanted}")
    try:
        _public_key(public).verify((folder / SIGNATURE).read_bytes(), listed)
    except InvalidSignature:
        raise _not_signed(folder, f"the signature is not one of {SUMS} by this key") from None
    sums = _listed(listed, folder)
    there = set(_names(folder))
    wrong = [f"{name}: missing" for name in sorted(sums.keys() - there)]
    wrong += [f"{name}: not among the signed files" for name in sorted(there - sums.keys())]
    wrong += [
        f"{name}: changed" for name in sorted(there & sums.keys()) if _digest(folder / name) != sums[name]
    ]
    if wrong:
        raise _not_signed(folder, "\n".join(wrong))
    return Verified(files=len(sums), fingerprint=found, known=trusted is not None)


def own_fingerprint(secrets: Secrets) -> str:
    """Fingerprint of the client's key, which is made where there is none.

    Raises:
        SecretsKeyError: The client's secrets do not open.
    """
    return fingerprint(_own_key(secrets)[1])


def fingerprint(public: bytes) -> str:
    """SHA-256 of a public key's DER form, as ``openssl pkey -pubin -outform DER | sha256sum`` gives it.

    Raises:
        BadInputError: It is no Ed25519 key in PEM.
    """
    der = _public_key(public).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def _own_key(secrets: Secrets) -> tuple[Ed25519PrivateKey, bytes]:
    """The client's key and its public half as PEM."""
    secrets.ensure({SIGNING_KEY: Secret(type="ssh-key")})
    private = serialization.load_ssh_private_key(secrets.get(SIGNING_KEY).encode(), password=None)
    assert isinstance(private, Ed25519PrivateKey)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public


def _public_key(public: bytes) -> Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(public)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise BadInputError(
            f"{PUBLIC_KEY} holds no Ed25519 public key",
            doing="checking a signature",
            remedy="Take the client's own: inventory/<client>/signing-key.pem",
        )
    return key


def _names(folder: Path) -> list[str]:
    """All files below a folder but those of the signature, in order."""
    names = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        if path.is_symlink() or not path.is_file() or "\\" in name or not name.isprintable():
            raise BadInputError(
                f"{path} cannot be signed: it is no plain file with a plain name",
                doing="listing the files of a signed folder",
                where=str(path),
                remedy="Remove it, or put its content there as a file.",
            )
        if name not in _OWN:
            names.append(name)
    return names


def _listed(content: bytes, folder: Path) -> dict[str, str]:
    sums = {}
    for line in content.decode("utf-8", "replace").removesuffix("\n").split("\n") if content else ():
        match = _LINE.fullmatch(line)
        if match is None:
            raise _not_signed(folder, f"{SUMS} has a line that is none of sha256sum: {line[:80]}")
        sums[match[2]] = match[1]
    return sums


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _not_signed(folder: Path, answer: str) -> ManifestError:
    return ManifestError(
        f"{folder} is not what was signed",
        doing="checking a signature",
        where=str(folder),
        answer=answer,
        remedy="Do not rely on it: take another copy, or write it anew.",
    )
