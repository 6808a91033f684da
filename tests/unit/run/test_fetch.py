"""The certificate of the gateway's authority on the controller."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from freehold import ssh
from freehold.run.context import Client
from freehold.run.fetch import fetch_authority

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@pytest.fixture
def answer(client: Client, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets the gateway answer."""
    client.ensure_secrets()

    def set_answer(code: int = 0, out: str = "", error: str = "", raised: Exception | None = None) -> None:
        def run(argv: list[str], **_: Any) -> Any:
            if raised:
                raise raised
            return subprocess.CompletedProcess(argv, code, stdout=out, stderr=error)

        monkeypatch.setattr(subprocess, "run", run)

    return set_answer


def test_a_certificate_is_new_once_and_again_when_the_gateway_was_made_anew(
    client: Client, answer: Any
) -> None:
    answer(out=PEM)
    assert fetch_authority(client)
    assert not fetch_authority(client)
    answer(out=PEM.replace("MIIB", "MIIC"))
    assert fetch_authority(client)
    assert client.authority() == PEM.replace("MIIB", "MIIC")
    assert client.authority_file.stat().st_mode & 0o777 == 0o644


def test_a_gateway_that_has_none_changes_nothing(client: Client, answer: Any) -> None:
    answer(code=1, error="cat: no such file")
    assert not fetch_authority(client)
    assert client.authority() is None


def test_a_gateway_that_does_not_answer_is_an_error(client: Client, answer: Any) -> None:
    """An old certificate must not pass for the one of a gateway that was made anew."""
    answer(code=255, error="Connection refused")
    with pytest.raises(ssh.UnreachableError):
        fetch_authority(client)
    answer(raised=subprocess.TimeoutExpired("ssh", 60))
    with pytest.raises(ssh.UnreachableError):
        fetch_authority(client)
