"""Hashes for the web configuration of Prometheus and its exporters."""

from __future__ import annotations

import bcrypt
import pytest

from freehold.webauth import bcrypt_hash


@pytest.mark.parametrize("password", ["a" * 20, "Zq7" * 13, "x" * 72])
def test_a_hash_fits_its_password_and_no_other(password: str) -> None:
    made = bcrypt_hash(password).encode()

    assert bcrypt.checkpw(password.encode(), made)
    assert not bcrypt.checkpw(f"b{password[1:]}".encode(), made)


def test_a_second_run_makes_the_same_hash() -> None:
    assert bcrypt_hash("p" * 40) == bcrypt_hash("p" * 40)
    assert bcrypt_hash("p" * 40)[:29] != bcrypt_hash("q" * 40)[:29]


@pytest.mark.parametrize("password", ["short", "x" * 73])
def test_what_a_person_may_have_chosen_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="20 to 72"):
        bcrypt_hash(password)
