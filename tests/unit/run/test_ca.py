"""The root certificate in the forms in which computers take it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from tests.conftest import Cli

from freehold.run import ca
from freehold.run.context import Client

Open = Callable[..., Client]


def test_each_form_is_the_same_certificate(client: Client, tmp_path: Path, cli: Cli) -> None:
    client.ensure_secrets()
    said = cli("ca", str(client.loaded.path), "--to", str(tmp_path / "out"), "--json")
    assert said.code == 0
    made = json.loads(said.out)
    root = x509.load_pem_x509_certificate(client.authority_file.read_bytes())
    assert x509.load_der_x509_certificate((tmp_path / "out/freehold-acme.cer").read_bytes()) == root
    assert x509.load_pem_x509_certificate((tmp_path / "out/freehold-acme.pem").read_bytes()) == root
    policy = json.loads((tmp_path / "out/policies.json").read_text())
    assert policy["policies"]["Certificates"]["Install"] == ["freehold-acme.cer"]
    assert len(made["sha256"].split(":")) == 32
    assert len(made["sha1"].split(":")) == 20
    assert made["until"] == f"{root.not_valid_after_utc:%Y-%m-%d}"
    for path in (tmp_path / "out").iterdir():
        assert "PRIVATE" not in path.read_text(errors="replace")


def test_the_command_says_what_to_do_with_them(client: Client, cli: Cli) -> None:
    client.ensure_secrets()
    said = cli("ca", str(client.loaded.path))
    assert said.code == 0
    assert "certutil -addstore -f Root freehold-acme.cer" in said.out
    assert (client.directory / "ca/freehold-acme.cer").is_file()


def test_before_there_is_one(client: Client) -> None:
    with pytest.raises(ca.NoRootError, match="not made yet") as caught:
        ca.export(client)
    assert caught.value.remedy == "Run: freehold up acme"


def test_a_certificate_of_the_clients_own(open_client: Open, client: Client) -> None:
    client.ensure_secrets()
    root = client.authority_file.read_text()
    opened = open_client(services={"caddy": {"certificate": "own"}})
    (opened.directory / "certificate.pem").write_text(root)
    assert ca.export(opened).files
    # Issued by another and without its root: computers know it, or the client's own administrators hand it out.
    bundle = client.secrets.get("caddy.authority")
    between = bundle.split("-----BEGIN CERTIFICATE-----")[1]
    (opened.directory / "certificate.pem").write_text("-----BEGIN CERTIFICATE-----" + between)
    with pytest.raises(ca.NoRootError, match="does not hold the root"):
        ca.export(open_client(services={"caddy": {"certificate": "own"}}))
