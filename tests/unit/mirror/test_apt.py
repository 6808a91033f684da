"""Debian's archive in a mirror: its signature, its indexes, and what apt says is needed."""

from __future__ import annotations

import base64
import hashlib
import shutil
from pathlib import Path

import pytest

from freehold.mirror import apt, build
from freehold.mirror.apt import AptError, Indexes
from freehold.mirror.fetch import FetchError, Wanted
from freehold.mirror.index import Index
from freehold.mirror.needs import Packages

from .upstream_standin import Upstream

INDEX = b"Package: nobody\n"
SHA256 = hashlib.sha256(INDEX).hexdigest()
ARCHIVES = {"debian": "http://a.test/debian", "debian-security": "http://a.test/debian-security"}

SIGNED = """\
-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA512

Origin: Test
SHA256:
 ea6da182c63729c502be9a5ef1e5f8eb4beef9467b9dfd2616b971bcca6d87c4 16 main/binary-amd64/Packages.xz
-----BEGIN PGP SIGNATURE-----

iHUEARYKAB0WIQQ4GzjA2IB5nEE2A1BzWd9xVqJedgUCawIUJgAKCRBzWd9xVqJe
dmz9AQDm15BwzR2+wmAfWY9rb0j5XXR3aIZ5S8E+01seTvjVOwD/e/8yX/TKRkIW
NdJG5qutmJIt4MuVY6mUxM84Wx6irAU=
=N7mI
-----END PGP SIGNATURE-----
"""
"""An ``InRelease`` that the key of the test signed (``gpg --clearsign``)."""
KEY = (
    "mDMEawIUJhYJKwYBBAHaRw8BAQdAg2yroikZH4l7WZGmkRxhqLWH3LfbZ2kVaQEZijFQskG0KEFyY2hpdmUgb2YgYSB0ZXN0IDxh"
    "cmNoaXZlQGV4YW1wbGUudGVzdD6IkAQTFggAOBYhBDgbOMDYgHmcQTYDUHNZ33FWol52BQJrAhQmAhsDBQsJCAcCBhUKCQgLAgQW"
    "AgMBAh4BAheAAAoJEHNZ33FWol52kTMBALuSIQUFcHHcMDzWoZYVpmescusrIpyLBDuFmicR7k1HAP99dxxMXLVrv37FtOKwW6Mt"
    "fFnxqFOc7JkhMlcVDU9kDA=="
)
"""The public part of that key, which was thrown away (``gpg --export``)."""


def in_release(sha256: str = SHA256) -> bytes:
    return f"""Origin: Debian
MD5Sum:
 {"0" * 32} {len(INDEX)} main/binary-amd64/Packages.xz
SHA256:
 {sha256} {len(INDEX)} main/binary-amd64/Packages.xz
 {"1" * 64} 7 main/binary-arm64/Packages.xz
""".encode()


@pytest.fixture
def archive(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An archive with one empty index in each suite, whose signature is taken as it is."""
    monkeypatch.setattr(apt, "_verify", lambda _, text: text)
    for folder, suite in apt.suites("trixie"):
        base = f"/{folder}/dists/{suite}"
        upstream.files[f"{base}/InRelease"] = in_release()
        upstream.files[f"{base}/main/binary-amd64/by-hash/SHA256/{SHA256}"] = INDEX
    return {folder: f"{upstream.address}/{folder}" for folder in apt.ARCHIVES}


def test_indexes_are_taken_by_hash_and_only_those_that_hosts_read(
    archive: dict[str, str], upstream: Upstream, tmp_path: Path
) -> None:
    made = apt.update(tmp_path, archive, "trixie")
    assert made.fetched == 6
    assert (
        tmp_path / "debian-security/dists/trixie-security/main/binary-amd64/Packages.xz"
    ).read_bytes() == INDEX
    assert not any("arm64" in path for _, path, _ in upstream.asked)


def test_while_nothing_is_new_only_the_signed_lists_are_asked_for(
    archive: dict[str, str], upstream: Upstream, tmp_path: Path
) -> None:
    apt.update(tmp_path, archive, "trixie")
    upstream.asked.clear()
    assert apt.update(tmp_path, archive, "trixie").fetched == 0
    assert {path.rpartition("/")[2] for _, path, _ in upstream.asked} == {"InRelease"}


def test_a_new_index_takes_the_place_of_the_old_one(
    archive: dict[str, str], upstream: Upstream, tmp_path: Path
) -> None:
    apt.update(tmp_path, archive, "trixie")
    text = b"Package: somebody"[: len(INDEX)]
    new = hashlib.sha256(text).hexdigest()
    base = "/debian/dists/trixie"
    upstream.files[f"{base}/InRelease"] = in_release(new)
    upstream.files[f"{base}/main/binary-amd64/by-hash/SHA256/{new}"] = text
    apt.update(tmp_path, archive, "trixie")
    folder = tmp_path / "debian/dists/trixie/main/binary-amd64"
    assert (folder / "Packages.xz").read_bytes() == text
    assert [path.name for path in (folder / "by-hash/SHA256").iterdir()] == [new]
    assert new.encode() in (tmp_path / "debian/dists/trixie/InRelease").read_bytes()


@pytest.mark.skipif(shutil.which("gpgv") is None, reason="there is no gpgv on this machine")
def test_what_debian_did_not_sign_is_refused(upstream: Upstream, tmp_path: Path) -> None:
    upstream.files["/debian/dists/trixie/InRelease"] = in_release()
    with pytest.raises(FetchError, match="not signed by Debian"):
        apt.update(tmp_path, {folder: f"{upstream.address}/{folder}" for folder in apt.ARCHIVES}, "trixie")
    assert not list(tmp_path.rglob("InRelease"))


@pytest.mark.skipif(shutil.which("gpgv") is None, reason="there is no gpgv on this machine")
def test_what_stands_around_the_signed_text_is_not_read(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = tmp_path / "key.gpg"
    keyring.write_bytes(base64.b64decode(KEY))
    monkeypatch.setattr(apt, "KEYRING", keyring)
    monkeypatch.setattr(apt, "suites", lambda _: [("debian", "trixie")])
    around = f"SHA256:\n {'1' * 64} 16 main/i18n/Translation-en.xz\n"
    base = "/debian/dists/trixie"
    upstream.files[f"{base}/InRelease"] = f"{around}{SIGNED}{around}".encode()
    upstream.files[f"{base}/main/binary-amd64/by-hash/SHA256/{SHA256}"] = INDEX

    made = apt.update(tmp_path / "m", {"debian": f"{upstream.address}/debian"}, "trixie")

    assert not any("Translation" in path for path in made.files)
    assert (tmp_path / "m" / base[1:] / "main/binary-amd64/Packages.xz").read_bytes() == INDEX


def test_what_apt_prints_becomes_files_of_the_mirror(tmp_path: Path) -> None:
    line = f"'copy:{tmp_path}/debian/pool/main/p/pg/pg_17-0%2bdeb13u1_amd64.deb' pg_17.deb 42 SHA256:{SHA256}"
    assert list(apt._printed(tmp_path, f"Reading lists...\n{line}\n", ARCHIVES)) == [
        Wanted(
            "debian/pool/main/p/pg/pg_17-0+deb13u1_amd64.deb",
            "http://a.test/debian/pool/main/p/pg/pg_17-0%2Bdeb13u1_amd64.deb",
            "sha256",
            SHA256,
            42,
        )
    ]


def test_a_package_without_a_checksum_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AptError, match="no SHA-256"):
        list(apt._printed(tmp_path, f"'copy:{tmp_path}/debian/pool/x.deb' x.deb 42 \n", ARCHIVES))


def test_an_index_that_is_gone_is_no_damage_and_its_needs_are_computed_anew(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "m"
    upstream.files |= {"/old": b"old", "/new": b"new", "/p.deb": b"deb"}
    state = {"name": "old"}

    def update(*_: object) -> Indexes:
        name = state["name"]
        path = root / f"debian/dists/trixie/by-hash/{name}"
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir(parents=True)
        path.write_text(name)
        return Indexes((str(path.relative_to(root)),), 1)

    package = Wanted(
        "debian/pool/p.deb", f"{upstream.address}/p.deb", "sha256", hashlib.sha256(b"deb").hexdigest(), 3
    )
    monkeypatch.setattr(apt, "upstream", lambda: ARCHIVES)
    monkeypatch.setattr(apt, "update", update)
    monkeypatch.setattr(apt, "closures", lambda _root, _name, groups, _archives: [[package] for _ in groups])
    first, second = (Packages(name, "trixie", (name,)) for name in ("postgres", "valkey"))
    build.build(root, [first, second], lambda *_: None)
    state["name"] = "new"
    build.build(root, [first], lambda *_: None)
    assert build.check(root) == []
    assert set(Index.read(root).needs) == {first.key}
