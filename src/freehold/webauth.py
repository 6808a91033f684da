"""Password hashes for the ``basic_auth_users`` of Prometheus and its exporters.

Their web configuration takes bcrypt hashes alone:
https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
"""

from __future__ import annotations

import hashlib
import hmac

import bcrypt

_COST = 8
"""Rounds as a power of two. The passwords are random, so that no guessing has to be slowed down."""


def bcrypt_hash(password: str) -> str:
    """The bcrypt hash of a random password, the same at every call, so that a second run changes nothing.

    The salt is derived from the password. That would help whoever guesses passwords of people; it says nothing about
    a random one of 32 characters.

    Raises:
        ValueError: The password is shorter than 20 characters, or longer than the 72 bytes that bcrypt looks at.
    """
    secret = password.encode()
    if not 20 <= len(secret) <= 72:
        raise ValueError(
            f"a password of {len(secret)} bytes: bcrypt hashes are made of random ones of 20 to 72"
        )
    salt = hmac.digest(secret, b"freehold basic auth", hashlib.sha256)[:16]
    return bcrypt.hashpw(secret, _salt(salt)).decode()


def _salt(raw: bytes) -> bytes:
    """``$2b$<cost>$`` and 16 bytes in bcrypt's own alphabet."""
    return f"$2b${_COST:02}$".encode() + _base64(raw)


_ALPHABET = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def _base64(raw: bytes) -> bytes:
    bits = "".join(f"{byte:08b}" for byte in raw).ljust(22 * 6, "0")
    return bytes(_ALPHABET[int(bits[start : start + 6], 2)] for start in range(0, 22 * 6, 6))
