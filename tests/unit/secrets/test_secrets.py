"""A client's secrets: made once, encrypted, opened with the right key alone."""

from __future__ import annotations

import multiprocessing
import os
import re
import stat
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from freehold import secrets, vault
from freehold.authority import ROOT, Scope, of_gateway, of_service
from freehold.catalog.services import Secret
from freehold.errors import BadInputError, ExitCode
from freehold.layout.network import PRIVATE
from freehold.secrets import Secrets, SecretsKeyError, UnknownSecretError, generate

PASSWORD = Secret(type="password")


@pytest.fixture(autouse=True)
def config_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keys of these tests lie apart from those of the person who runs them."""
    for name in (vault.KEY_FILE, vault.KEY_VALUE, vault.KEY_COMMAND):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(vault, "_from_environment", None)
    monkeypatch.setattr(secrets, "handed", None)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    secrets._of.cache_clear()
    return tmp_path / "config"


@pytest.fixture
def client(tmp_path: Path) -> Path:
    directory = tmp_path / "inventory" / "acme"
    directory.mkdir(parents=True)
    (directory / "stack.yml").write_text("client: acme\n")
    return directory


def opened(client: Path) -> Secrets:
    return Secrets.open(client, "acme")


def test_made_once_and_read_again(client: Path, config_home: Path) -> None:
    made = opened(client)
    added = made.ensure({"postgres.superuser": PASSWORD})
    assert added == ["freehold.fingerprint_key", "freehold.ssh_key", "postgres.superuser"]
    again = opened(client)
    assert again.all_values() == made.all_values()
    assert again.ensure({"postgres.superuser": PASSWORD}) == []
    assert stat.S_IMODE((client / "secrets.yml").stat().st_mode) == 0o600
    key = config_home / "freehold/keys/acme"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert sorted(path.name for path in client.iterdir()) == ["secrets.yml", "stack.yml"]


def test_new_services_touch_no_old_secret(client: Path) -> None:
    first = opened(client)
    first.ensure({"postgres.superuser": PASSWORD})
    before = first.all_values()
    second = opened(client)
    assert second.ensure({"postgres.superuser": PASSWORD, "postgres.backup": PASSWORD}) == ["postgres.backup"]
    after = second.all_values()
    assert {name: after[name] for name in before} == before


def test_a_stale_reader_overwrites_nothing(client: Path) -> None:
    opened(client).ensure({})
    one, other = opened(client), opened(client)
    one.ensure({"a.x": PASSWORD})
    kept = one.get("a.x")
    other.ensure({"a.x": PASSWORD, "b.x": PASSWORD})
    assert other.get("a.x") == kept
    assert opened(client).get("a.x") == kept


def _ensure(directory: Path, number: int) -> None:
    Secrets.open(directory, "acme").ensure({f"s{number}.x": PASSWORD})


def test_concurrent_processes_lose_nothing(client: Path) -> None:
    opened(client).ensure({})
    processes = [multiprocessing.Process(target=_ensure, args=(client, number)) for number in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert all(opened(client).has(f"s{number}.x") for number in range(6))


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        (Secret(type="password", length=40), r"[A-Za-z0-9]{40}"),
        (Secret(type="hex", length=33), r"[0-9a-f]{33}"),
        (Secret(type="token", length=20, prefix="sk-"), r"sk-[A-Za-z0-9]{20}"),
        (Secret(type="uuid"), r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
    ],
)
def test_kinds(kind: Secret, form: str) -> None:
    assert re.fullmatch(form, generate(kind))
    assert generate(kind) != generate(kind)


def test_a_password_has_what_applications_insist_on() -> None:
    for _ in range(200):
        text = generate(Secret(type="password", length=8))
        assert re.search("[a-z]", text)
        assert re.search("[A-Z]", text)
        assert re.search("[0-9]", text)


def test_ssh_key_is_ed25519_and_survives_the_file(client: Path) -> None:
    opened(client).ensure({})
    text = opened(client).get("freehold.ssh_key")
    assert text.endswith("\n")
    assert type(load_ssh_private_key(text.encode(), password=None)).__name__ == "Ed25519PrivateKey"


@pytest.mark.parametrize("text", ["0123", "true", "null", "a: b", "{{ x }}", "é\n ü\n", "'\"\\", " spaced "])
def test_any_text_survives(client: Path, text: str) -> None:
    opened(client).set("a.b", text)
    assert opened(client).get("a.b") == text


def test_ansible_vault_opens_the_file(client: Path, config_home: Path) -> None:
    opened(client).set("postgres.superuser", "correct horse")
    command = Path(sys.executable).with_name("ansible-vault")
    shown = subprocess.run(
        [
            command,
            "view",
            "--vault-password-file",
            config_home / "freehold/keys/acme",
            client / "secrets.yml",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "postgres:\n  superuser: correct horse\n"


def test_wrong_key_is_named_with_its_source(
    client: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(client).set("a.b", "c")
    wrong = tmp_path / "wrong"
    wrong.write_text("not the key")
    monkeypatch.setenv(vault.KEY_FILE, str(wrong))
    with pytest.raises(SecretsKeyError) as caught:
        opened(client)
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    assert str(client / "secrets.yml") in caught.value.message
    assert str(wrong) in caught.value.message
    assert "FREEHOLD_VAULT_KEY_FILE" in (caught.value.remedy or "")
    assert "not the key" not in str(caught.value.as_dict())


def test_missing_key_makes_no_new_one(client: Path, config_home: Path) -> None:
    opened(client).set("a.b", "c")
    (config_home / "freehold/keys/acme").unlink()
    with pytest.raises(SecretsKeyError, match="there is no key"):
        opened(client)
    assert not (config_home / "freehold/keys/acme").exists()


def test_key_sources(client: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "key"
    key.write_text("one key\n")
    monkeypatch.setenv(vault.KEY_FILE, str(key))
    opened(client).set("a.b", "c")
    monkeypatch.delenv(vault.KEY_FILE)
    monkeypatch.setenv(vault.KEY_COMMAND, f"cat '{key}'")
    assert opened(client).get("a.b") == "c"
    monkeypatch.setenv(vault.KEY_VALUE, "one key")
    assert opened(client).get("a.b") == "c"
    assert vault.KEY_VALUE not in os.environ
    assert opened(client).get("a.b") == "c"


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        (vault.KEY_FILE, "/nonexistent/key", "No such file"),
        (vault.KEY_FILE, "/dev/null", "empty"),
        (vault.KEY_COMMAND, "false", "exit code 1"),
        (vault.KEY_COMMAND, "true", "printed nothing"),
        (vault.KEY_COMMAND, "no-such-command-here", "cannot be run"),
        (vault.KEY_COMMAND, "'", "cannot be run"),
    ],
)
def test_bad_key_source(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SecretsKeyError, match=reason):
        vault.find_key("acme")


def test_open_key_file_is_refused(client: Path, config_home: Path) -> None:
    opened(client).set("a.b", "c")
    (config_home / "freehold/keys/acme").chmod(0o644)
    with pytest.raises(SecretsKeyError, match="open to other users"):
        opened(client)


def test_unencrypted_file_is_refused(client: Path) -> None:
    opened(client).set("a.b", "c")
    (client / "secrets.yml").write_text("a: {b: c}\n")
    with pytest.raises(SecretsKeyError, match="not encrypted") as caught:
        opened(client)
    assert "ansible-vault encrypt" in (caught.value.remedy or "")


@pytest.mark.parametrize("text", ["- a\n", "a: b\n", "a: {b: [hunter2]}\n", "a: {b: hunter2\n"])
def test_unusable_content_is_refused_without_quoting_it(client: Path, text: str) -> None:
    opened(client).set("a.b", "c")
    key = vault.find_key("acme")
    assert key
    (client / "secrets.yml").write_bytes(vault.encrypt(text, key))
    with pytest.raises(BadInputError, match="does not map services") as caught:
        opened(client)
    assert "hunter2" not in str(caught.value.as_dict())
    assert caught.value.__context__ is None


def test_rotate(client: Path) -> None:
    made = opened(client)
    made.ensure({"a.b": PASSWORD, "a.c": PASSWORD})
    before = made.all_values()
    made.rotate("a.b", PASSWORD)
    after = opened(client).all_values()
    assert after["a.b"] != before["a.b"]
    assert {**after, "a.b": ""} == {**before, "a.b": ""}
    with pytest.raises(UnknownSecretError):
        made.rotate("a.z", PASSWORD)


def test_rekey_of_freeholds_own_key(client: Path, config_home: Path) -> None:
    made = opened(client)
    made.set("a.b", "c")
    made = opened(client)
    made.rekey("another key")
    assert (config_home / "freehold/keys/acme").read_text() == "another key\n"
    assert opened(client).get("a.b") == "c"
    with pytest.raises(BadInputError):
        made.rekey(" ")


def test_rekey_of_other_files_of_the_client(client: Path) -> None:
    made = opened(client)
    made.set("a.b", "c")
    key = vault.find_key("acme")
    assert key
    other, broken = client / "names.yml", client / "broken.yml"
    other.write_bytes(vault.encrypt("- Ada\n", key))
    broken.write_text("no vault")
    with pytest.raises(SecretsKeyError):
        made.rekey("another key", other, broken)
    assert vault.decrypt(other.read_bytes(), key, other) == "- Ada\n"
    made.rekey("another key", other, client / "not-there.yml")
    new = vault.find_key("acme")
    assert new
    assert vault.decrypt(other.read_bytes(), new, other) == "- Ada\n"


def test_rekey_of_a_key_of_the_users(client: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "key"
    key.write_text("old")
    monkeypatch.setenv(vault.KEY_FILE, str(key))
    opened(client).set("a.b", "c")
    opened(client).rekey("new")
    assert key.read_text() == "old"
    with pytest.raises(SecretsKeyError):
        opened(client)
    key.write_text("new")
    assert opened(client).get("a.b") == "c"


def test_a_failed_write_keeps_the_old_file(client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(client).set("a.b", "c")
    before = (client / "secrets.yml").read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        opened(client).set("a.b", "d")
    assert (client / "secrets.yml").read_bytes() == before
    assert sorted(path.name for path in client.iterdir()) == ["secrets.yml", "stack.yml"]


def test_digest_is_keyed_by_client(client: Path, tmp_path: Path) -> None:
    one = opened(client)
    one.ensure({})
    other = Secrets.open(tmp_path, "other")
    other.ensure({})
    assert one.digest("x") == opened(client).digest("x")
    assert one.digest("x") != one.digest("y")
    assert one.digest("x") != other.digest("x")


def test_nothing_shows_a_secret(client: Path) -> None:
    made = opened(client)
    made.set("a.b", "hunter2hunter2")
    assert "hunter2" not in repr(made)
    assert vault.find_key("acme").value not in repr(vault.find_key("acme"))  # type: ignore[union-attr]
    with pytest.raises(UnknownSecretError) as caught:
        made.get("a.c")
    assert "hunter2" not in str(caught.value.as_dict())


def test_value_reads_the_folder_or_what_was_handed(client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened(client)
    made.ensure({"a.b": PASSWORD})
    assert secrets.value("a.b", client) == made.get("a.b")
    assert secrets.keyed(client)("x") == made.digest("x")
    monkeypatch.setattr(secrets, "handed", {**made.document(), "a": {"b": "handed"}})
    assert secrets.value("a.b", client) == "handed"
    assert secrets.keyed()("x") == made.digest("x")
    with pytest.raises(UnknownSecretError):
        secrets.value("a.z")


def test_importing_secrets_does_not_import_ansible() -> None:
    code = (
        "import sys, freehold.secrets; sys.exit(any(name.split('.')[0] == 'ansible' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


SCOPE = Scope("acme", "acme.internal", IPv4Network("10.20.0.0/24"), PRIVATE)
SUBJECTS = {
    "caddy.authority": of_gateway(SCOPE),
    "qdrant.tls": of_service(SCOPE, "qdrant", IPv4Address("10.20.0.75")),
}


def test_certificates_are_issued_once_and_survive_the_file(client: Path) -> None:
    made = opened(client)
    wanted = {"qdrant.tls": Secret(type="certificate"), "caddy.authority": Secret(type="authority")}
    assert not set(made.ensure(wanted)) & set(wanted)
    assert made.certify(SCOPE, SUBJECTS) == [ROOT, "caddy.authority", "qdrant.tls"]
    again = opened(client)
    assert again.all_values() == made.all_values()
    assert again.certify(SCOPE, SUBJECTS) == []


def test_one_certificate_can_be_made_anew_and_a_new_root_makes_all(client: Path) -> None:
    made = opened(client)
    made.certify(SCOPE, SUBJECTS)
    before = made.all_values()
    assert made.certify(SCOPE, SUBJECTS, anew="qdrant.tls") == ["qdrant.tls"]
    assert made.get(ROOT) == before[ROOT]
    assert made.get("qdrant.tls") != before["qdrant.tls"]
    assert made.certify(SCOPE, SUBJECTS, anew=ROOT) == [ROOT, "caddy.authority", "qdrant.tls"]


def test_what_is_issued_is_not_generated() -> None:
    with pytest.raises(ValueError, match="certificate"):
        generate(Secret(type="certificate"))


def test_the_root_is_handed_to_nobody(client: Path) -> None:
    made = opened(client)
    made.certify(SCOPE, SUBJECTS)
    assert "authority" not in made.document()["freehold"]
    assert made.document()["qdrant"]["tls"] == made.get("qdrant.tls")
