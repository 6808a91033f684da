"""Secrets that people set and the passwords that they hand over."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
import yaml
from tests.conftest import Cli

from freehold import secrets, vault
from freehold.run.context import Client
from freehold.run.users import UnknownUserError, account

STACK = {
    "client": "acme",
    "domain": "acme.internal",
    "proxmox": {"endpoint": "https://pve.test:8006", "storage": "guests"},
    "network": {"subnet": "10.86.0.0/24", "gateway": "10.86.0.1"},
    "services": {"openwebui": None},
    "users": [
        {"name": "Ada Example", "mail": "ada@acme.internal", "groups": ["staff"], "admin": True},
        {"name": "Ben O'Brien", "mail": "ben.o'brien@acme.internal"},
    ],
    "groups": [{"name": "staff"}],
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The stack file of a client whose secrets were made."""
    for name in (vault.KEY_FILE, vault.KEY_VALUE, vault.KEY_COMMAND):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(vault, "_from_environment", None)
    monkeypatch.setattr(secrets, "handed", None)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "inventory/acme"
    folder.mkdir(parents=True)
    (folder / "stack.yml").write_text(yaml.safe_dump(STACK))
    Client.open(folder / "stack.yml").ensure_secrets()
    return str(folder / "stack.yml")


def _type(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def _kept(file: str, name: str) -> str:
    return Client.open(file).secrets.get(name)


def test_a_secret_comes_from_standard_input(file: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    _type(monkeypatch, "p@ss: w0rd\n")
    said = cli("secrets", "set", file, "openwebui.oidc_client_secret")
    assert said.code == 0
    assert "w0rd" not in said.out + said.err
    assert _kept(file, "openwebui.oidc_client_secret") == "p@ss: w0rd"


def test_a_secret_of_several_lines_stays_whole(file: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    _type(monkeypatch, "-----BEGIN X-----\nabc\n-----END X-----\n")
    assert cli("secrets", "set", file, "openwebui.key").code == 0
    assert _kept(file, "openwebui.key") == "-----BEGIN X-----\nabc\n-----END X-----\n"


def test_the_value_is_no_argument(file: str, cli: Cli) -> None:
    assert cli("secrets", "set", file, "openwebui.oidc_client_secret", "value").code == 2


@pytest.mark.parametrize(
    "name", ["nobody.secret", "openwebui", "freehold.ssh_key", "proxmox.token", "users.x@y.z"]
)
def test_names_that_nobody_reads_are_refused(
    file: str, cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    _type(monkeypatch, "value\n")
    before = Client.open(file).secrets.all_values()
    assert cli("secrets", "set", file, name).code == 2
    assert Client.open(file).secrets.all_values() == before


def test_nothing_is_no_secret(file: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    _type(monkeypatch, "\n")
    assert cli("secrets", "set", file, "openwebui.oidc_client_secret").code == 2


def test_people_and_their_applications_are_listed_without_passwords(file: str, cli: Cli) -> None:
    said = cli("users", "show", file)
    assert "Ada Example" in said.out
    assert "Chat" in said.out
    passwords = [_kept(file, f"users.{user['mail']}") for user in STACK["users"]]  # type: ignore[index]
    people = json.loads(cli("users", "show", file, "--json").out)
    for password in passwords:
        assert password not in said.out + json.dumps(people)
    assert people[0]["applications"]["Chat"] == "https://chat.acme.internal"
    assert people[0]["admin"] is True


def test_one_person_is_shown_with_what_is_handed_over(file: str, cli: Cli) -> None:
    for mail in ("ada@acme.internal", "ben.o'brien@acme.internal"):
        said = cli("users", "show", file, mail)
        assert _kept(file, f"users.{mail}") in said.out
        assert "https://chat.acme.internal" in said.out


def test_an_unknown_person_is_an_error_with_a_hint(file: str) -> None:
    with pytest.raises(UnknownUserError, match=r"did you mean ada@acme\.internal"):
        account(Client.open(file), "ida@acme.internal")
