"""SCRAM verifiers against the example of RFC 7677, section 3."""

from __future__ import annotations

import base64
import hashlib
import hmac
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.freehold.stack.plugins.modules import postgres_databases as module

PASSWORD = "pencil"
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_FIRST = "n=user,r=rOprNGfwEbeRWgbNEkqO"
NONCE = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SERVER_FIRST = f"r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
SERVER_SIGNATURE = b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
MESSAGE = f"{CLIENT_FIRST},{SERVER_FIRST},c=biws,r={NONCE}".encode()


def test_a_verifier_accepts_the_proof_of_the_standard() -> None:
    method, parameters, keys = module.verifier(PASSWORD, SALT, 4096).split("$")
    stored, server = (base64.b64decode(key) for key in keys.split(":"))
    signature = hmac.digest(stored, MESSAGE, "sha256")
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))

    assert method == "SCRAM-SHA-256"
    assert parameters == "4096:W22ZaJ0SNY7soEsUEjb6gQ=="
    assert hashlib.sha256(client_key).digest() == stored
    assert base64.b64encode(hmac.digest(server, MESSAGE, "sha256")) == SERVER_SIGNATURE


def test_a_password_fits_its_verifier_alone() -> None:
    recorded = module.verifier(PASSWORD, SALT, 4096)

    assert module.fits(PASSWORD, recorded)
    assert not module.fits("pencils", recorded)
    assert not module.fits(PASSWORD, "")
    assert not module.fits(PASSWORD, "md5a3556571e93b0d20722ba62be61e8c2d")


def test_names_and_texts_are_quoted() -> None:
    assert module.identifier('a"b') == '"a""b"'
    assert module.literal("it's") == "'it''s'"


def test_the_superuser_takes_no_search_path_from_the_owner_of_a_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        asked.append({"database": command[command.index("-d") + 1], **options})
        answer = "[]" if "pg_extension" in options["input"] else _STATE
        return subprocess.CompletedProcess(command, 0, answer, "")

    monkeypatch.setattr(subprocess, "run", run)
    server = module._Server(SimpleNamespace(check_mode=False))
    module._apply(server, [{"name": "chat", "password": PASSWORD, "extensions": ["vector"]}])

    assert [call["database"] for call in asked if "EXTENSION" in call["input"]] == ["chat"]
    assert {call["env"]["PGOPTIONS"] for call in asked} == {"-c search_path=pg_catalog"}
    assert asked[-1]["input"] == 'CREATE EXTENSION "vector" SCHEMA public;'


_STATE = '{"roles": {"chat": ""}, "databases": {"chat": {"owner": "chat", "public": false}}}'
