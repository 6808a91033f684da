"""A signed folder: what was changed is found, and other tools than Freehold read it."""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from freehold import secrets, signing, vault
from freehold.catalog.services import Secret
from freehold.errors import BadInputError
from freehold.secrets import SIGNING_KEY, Secrets
from freehold.signing import ManifestError, sign_manifest, verify_manifest


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Secrets:
    monkeypatch.setenv(vault.KEY_VALUE, "a key for this test alone")
    monkeypatch.setattr(vault, "_from_environment", None)
    monkeypatch.setattr(secrets, "handed", None)
    client = tmp_path / "acme"
    client.mkdir()
    return Secrets.open(client, "acme")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pack"
    (made / "proofs").mkdir(parents=True)
    (made / "evidence.json").write_text('{"client": "acme"}\n')
    (made / "proofs" / "proof of Ä.xml").write_text("<testsuites/>\n")
    return made


def test_a_signed_folder_is_what_was_signed(folder: Path, opened: Secrets) -> None:
    made = sign_manifest(folder, opened)
    assert verify_manifest(folder) == signing.Verified(files=2, fingerprint=made, known=False)
    own = (opened.file.parent / signing.PUBLIC_KEY).read_bytes()
    assert verify_manifest(folder, own).known
    assert verify_manifest(folder, f"SHA256:{made.upper()}").known
    assert sign_manifest(folder, opened) == made, "the key stays"
    assert all(stat.S_IMODE((folder / name).stat().st_mode) == 0o600 for name in signing._OWN)


def test_what_an_earlier_key_signed_can_be_checked(folder: Path, opened: Secrets, tmp_path: Path) -> None:
    first = sign_manifest(folder, opened)
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    opened.rotate(SIGNING_KEY, Secret(type="ssh-key"))
    second = sign_manifest(folder, opened)
    now = opened.file.parent / signing.PUBLIC_KEY
    kept = now.with_name(f"signing-key-{first[:16]}.pem")

    assert first != second
    assert verify_manifest(folder, now.read_bytes()).known
    assert verify_manifest(old, kept.read_bytes()).known
    assert stat.S_IMODE(kept.stat().st_mode) == 0o644
    with pytest.raises(ManifestError):
        verify_manifest(old, now.read_bytes())


def test_other_tools_read_it(folder: Path, opened: Secrets, tmp_path: Path) -> None:
    made = sign_manifest(folder, opened)
    subprocess.run(["sha256sum", "--check", "--strict", signing.SUMS], cwd=folder, check=True)
    check = (
        "openssl pkeyutl -verify -rawin -pubin -inkey signing-key.pem -in SHA256SUMS -sigfile SHA256SUMS.sig"
    )
    assert check in (signing.__doc__ or "")
    subprocess.run(check.split(), cwd=folder, check=True)
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", signing.PUBLIC_KEY, "-outform", "DER"],
        cwd=folder,
        check=True,
        capture_output=True,
    ).stdout
    assert (
        subprocess.run(["sha256sum"], input=der, capture_output=True, check=True).stdout[:64].decode() == made
    )
    (folder / "evidence.json").write_text("{}")
    sign_manifest(folder, opened)
    (folder / signing.SUMS).write_bytes((folder / signing.SUMS).read_bytes().replace(b"0", b"1"))
    assert subprocess.run(check.split(), cwd=folder, check=False).returncode != 0


def _resummed(folder: Path) -> None:
    """What somebody does who changes a file and its checksum, and has no key."""
    (folder / "evidence.json").write_text("{}")
    lines = [
        f"{signing._digest(folder / line[66:])}  {line[66:]}"
        for line in (folder / signing.SUMS).read_text().splitlines()
    ]
    (folder / signing.SUMS).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (lambda folder: (folder / "evidence.json").write_text("{}"), "evidence.json: changed"),
        (lambda folder: (folder / "evidence.json").unlink(), "evidence.json: missing"),
        (lambda folder: (folder / "more.txt").write_text("x"), "more.txt: not among the signed files"),
        (_resummed, "the signature is not one of SHA256SUMS"),
        (lambda folder: (folder / signing.SIGNATURE).write_bytes(bytes(64)), "the signature is not one of"),
    ],
)
def test_tampering_is_found(
    folder: Path, opened: Secrets, tamper: Callable[[Path], object], said: str
) -> None:
    sign_manifest(folder, opened)
    tamper(folder)
    with pytest.raises(ManifestError) as caught:
        verify_manifest(folder)
    assert said in str(caught.value.answer)


def test_another_key_is_found_where_one_is_known(folder: Path, opened: Secrets, tmp_path: Path) -> None:
    known = sign_manifest(folder, opened)
    other = tmp_path / "other"
    other.mkdir()
    sign_manifest(folder, Secrets.open(other, "other"))
    assert not verify_manifest(folder).known
    with pytest.raises(ManifestError):
        verify_manifest(folder, known)


def test_links_and_what_is_no_signed_folder_are_refused(
    folder: Path, opened: Secrets, tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match="no signed folder"):
        verify_manifest(folder)
    sign_manifest(folder, opened)
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(BadInputError, match="cannot be signed"):
        verify_manifest(folder)


def test_no_child_process_is_handed_the_key(folder: Path, opened: Secrets) -> None:
    sign_manifest(folder, opened)
    assert opened.has(SIGNING_KEY)
    assert "signing_key" not in opened.document()["freehold"]
    assert "ssh_key" in opened.document()["freehold"]
