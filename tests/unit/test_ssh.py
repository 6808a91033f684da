"""Paths of shared SSH connections: short enough, private, and each client's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from freehold import ssh
from freehold.errors import FreeholdError

LONGEST = 108 - 1
"""Bytes that the path of a Unix socket may have on Linux (``sun_path`` without its final zero)."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a-home-directory-with-a-rather-long-name" / "state"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


def test_a_socket_fits_whatever_the_names_of_home_and_client() -> None:
    path = ssh.control_path("a-client-with-the-longest-name-x")

    connecting = path.replace("%C", "f" * 40) + "." + "x" * 16
    assert len(connecting) <= LONGEST


def test_clients_with_the_same_addresses_share_no_connection() -> None:
    assert ssh.control_path("one") != ssh.control_path("two")


def test_a_directory_that_others_may_enter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / f"freehold-{os.getuid()}").mkdir(mode=0o755)

    with pytest.raises(FreeholdError, match="private directory"):
        ssh.control_path("one")
