"""What is newer, and how a checksum gets into the lock without a comment being lost."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold.catalog.versions import Artifact
from freehold.errors import BadInputError, FreeholdError
from freehold.mirror.fetch import FetchError
from freehold.upstream import lock, newer

from .upstream_standin import Upstream

LOCK = """# The lock.
qdrant:
  version: 1.19.0  # tested
  source: release
  url: {url}/qdrant/v1.19.0/qdrant.tar.gz
  licence: Apache-2.0
  upstream: https://qdrant.tech

# The last one.
valkey:
  version: "8.1"
  source: debian
  suite: trixie
  packages: [valkey-server]
  licence: BSD-3-Clause
  upstream: https://valkey.io
"""


def entry(**fields: Any) -> Artifact:
    return Artifact.model_validate({"version": "1.19.0", "licence": "MIT", "upstream": "https://x", **fields})


@pytest.mark.parametrize(
    ("found", "locked", "newer_"),
    [
        ("1.19.0", "1.19.0", False),
        ("v1.19.0", "1.19.0", False),
        ("1.19.1", "1.19.0", True),
        ("1.9.9", "1.19.0", False),
        ("17.12", "17", False),
        ("18.1", "17", True),
        ("2.53.3-1", "2.53.3", False),
        ("1.20.0", "1.19.0+stand-in", True),
        ("1.19.0", "1.19.0+stand-in", False),
    ],
)
def test_newer(found: str, locked: str, newer_: bool) -> None:
    assert newer.is_newer(found, locked) is newer_


def test_a_release_at_github_says_what_is_latest(upstream: Upstream) -> None:
    upstream.files["/repos/qdrant/qdrant/releases/latest"] = json.dumps({"tag_name": "v1.20.0"}).encode()
    qdrant = entry(
        source="release", url="https://github.com/qdrant/qdrant/releases/download/v1.19.0/q.tar.gz"
    )
    elsewhere = entry(source="release", url="https://dl.example.org/q.tar.gz", releases="qdrant/qdrant")
    answers = newer.check({"qdrant": qdrant, "elsewhere": elsewhere}, github=upstream.address)
    assert [(one.name, one.newest, one.newer) for one in answers] == [
        ("elsewhere", "1.20.0", True),
        ("qdrant", "1.20.0", True),
    ]


def test_the_newest_tag_of_an_image_is_a_version(upstream: Upstream) -> None:
    tags = {"tags": ["latest", "4.9.0", "4.50.0", "4.50.0-rc.1", "sha-abc", "5"]}
    upstream.files["/v2/langfuse/langfuse/tags/list"] = json.dumps(tags).encode()
    host = upstream.address.removeprefix("http://")
    image = entry(source="oci", version="4.16.0", image=f"{host}/langfuse/langfuse", plain_http=True)
    assert newer.check({"langfuse": image})[0].newest == "4.50.0"


def test_who_does_not_answer_is_named_and_the_others_are_heard(upstream: Upstream) -> None:
    upstream.files["/repos/a/a/releases/latest"] = json.dumps({"tag_name": "v1.19.0"}).encode()
    lock = {
        "a": entry(source="release", url="https://github.com/a/a/releases/download/v1/a.tgz"),
        "gone": entry(source="release", url="https://github.com/gone/gone/releases/download/v1/a.tgz"),
        "silent": entry(source="release", url="https://dl.example.org/a.tgz"),
        "closed": entry(source="oci", image="127.0.0.1:1/x/y", plain_http=True),
    }
    answers = {one.name: one for one in newer.check(lock, github=upstream.address)}
    assert (answers["a"].newest, answers["a"].newer) == ("1.19.0", False)
    assert answers["gone"].problem == "127.0.0.1 answers HTTP 404"
    assert "look at its page" in str(answers["silent"].problem)
    assert "does not answer" in str(answers["closed"].problem)
    assert json.dumps([one.as_dict() for one in answers.values()])


@pytest.fixture
def file(tmp_path: Path, upstream: Upstream) -> Path:
    path = tmp_path / "versions.yml"
    path.write_text(LOCK.replace("{url}", upstream.address))
    upstream.files["/qdrant/v1.19.0/qdrant.tar.gz"] = b"old"
    upstream.files["/qdrant/v1.20.0/qdrant.tar.gz"] = b"new"
    return path


def read(file: Path, name: str) -> Artifact:
    return Artifact.model_validate(yaml.safe_load(file.read_text())[name])


def test_a_checksum_is_written_and_every_other_line_stays(file: Path) -> None:
    before = file.read_text().splitlines()
    lock.lock("qdrant", read(file, "qdrant"), file)
    after = file.read_text().splitlines()
    digest = hashlib.sha256(b"old").hexdigest()
    assert [line for line in after if line not in before] == [f"  sha256: {digest}"]
    assert [line for line in after if line in before] == before
    assert read(file, "qdrant").sha256 == digest


def test_another_version_brings_its_address_and_checksum(file: Path, upstream: Upstream) -> None:
    lock.lock("qdrant", read(file, "qdrant"), file, version="1.20.0")
    found = read(file, "qdrant")
    assert found.version == "1.20.0"
    assert found.url == f"{upstream.address}/qdrant/v1.20.0/qdrant.tar.gz"
    assert found.sha256 == hashlib.sha256(b"new").hexdigest()
    assert "# The last one." in file.read_text()


def test_a_file_that_is_not_there_changes_nothing(file: Path) -> None:
    before = file.read_text()
    with pytest.raises(FetchError, match="could not be read"):
        lock.lock("qdrant", read(file, "qdrant"), file, version="1.21.0")
    assert file.read_text() == before


def test_a_client_gets_a_lock_of_its_own(file: Path, tmp_path: Path) -> None:
    own = tmp_path / "acme/versions.yml"
    own.parent.mkdir()
    lock.lock("qdrant", read(file, "qdrant"), own)
    assert yaml.safe_load(own.read_text()) == {"qdrant": {"sha256": hashlib.sha256(b"old").hexdigest()}}


def test_the_digest_of_an_image_is_that_of_its_tag(tmp_path: Path, upstream: Upstream) -> None:
    upstream.files["/v2/langfuse/langfuse/manifests/4.50.0"] = b"{}"
    host = upstream.address.removeprefix("http://")
    image = entry(source="oci", version="4.50.0", image=f"{host}/langfuse/langfuse", plain_http=True)
    values = lock.lock("langfuse", image, tmp_path / "versions.yml")
    assert values == {"digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"source": "debian", "packages": ["x"]}, "signature"),
        ({"source": "pypi", "package": "x", "lock": "x/files/requirements.txt"}, "requirements.in"),
        ({"source": "npm", "package": "x", "lock": "x/files/package-lock.json"}, "package.json"),
    ],
)
def test_what_is_pinned_elsewhere_says_where(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(lock.NotLockableError) as caught:
        lock.lock("x", entry(**fields), tmp_path / "versions.yml")
    assert words in str(caught.value.remedy)


def test_an_entry_in_one_line_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "versions.yml"
    file.write_text("qdrant: {version: 1.19.0}\n")
    with pytest.raises(BadInputError, match="line by line"):
        lock.write(file, "qdrant", {"sha256": "0" * 64})
    assert file.read_text() == "qdrant: {version: 1.19.0}\n"


def test_an_address_without_the_version_must_be_given(tmp_path: Path) -> None:
    tool = entry(source="release", url="https://dl.example.org/tool.tgz")
    with pytest.raises(FreeholdError) as caught:
        lock.lock("tool", tool, tmp_path / "versions.yml", version="2.0.0")
    assert "--url" in str(caught.value.remedy)
