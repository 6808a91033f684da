"""Filling a mirror: resumed, checked, nothing twice; what a stack needs, and what of npm and PyPI is for its hosts."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import tenacity

from freehold.errors import BadInputError
from freehold.mirror import build, fetch, npm, oci, pypi
from freehold.mirror.build import Damage
from freehold.mirror.fetch import FetchError, Wanted
from freehold.mirror.index import Index
from freehold.mirror.needs import File, Image, Modules

from .upstream_standin import Upstream

TEXT = bytes(range(256)) * 4096


def sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def quiet(_text: str, _size: int) -> None:
    """Nobody listens."""


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "wait_random_exponential", lambda **_: tenacity.wait_none())
    monkeypatch.setattr(fetch, "_CHUNK", 4096)


def tool(upstream: Upstream, text: bytes = TEXT) -> File:
    upstream.files["/tool.tgz"] = text
    return File("the tool", f"{upstream.address}/tool.tgz", sha256(TEXT))


def test_a_file_comes_to_the_place_where_roles_look_for_it(upstream: Upstream, tmp_path: Path) -> None:
    need = tool(upstream)
    done = build.build(tmp_path / "m", [need], quiet)
    assert (tmp_path / "m/files" / need.sha256 / "tool.tgz").read_bytes() == TEXT
    assert (done.fetched, done.files, done.size) == (1, 1, len(TEXT))


def test_a_second_build_asks_nobody(upstream: Upstream, tmp_path: Path) -> None:
    need = tool(upstream)
    build.build(tmp_path / "m", [need], quiet)
    upstream.asked.clear()
    assert build.build(tmp_path / "m", [need], quiet).fetched == 0
    assert upstream.asked == []


def test_a_download_that_was_cut_off_goes_on_in_the_middle(upstream: Upstream, tmp_path: Path) -> None:
    need = tool(upstream)
    upstream.faults["/tool.tgz"] = [0]
    build.build(tmp_path / "m", [need], quiet)
    assert (tmp_path / "m" / need.path).read_bytes() == TEXT
    ranges = [asked[2] for asked in upstream.asked]
    assert ranges[0] == ""
    assert ranges[-1].startswith("bytes=")
    assert ranges[-1] != "bytes=0-"


def test_a_run_that_was_killed_goes_on_in_the_middle(upstream: Upstream, tmp_path: Path) -> None:
    need = tool(upstream)
    part = tmp_path / "m" / Path(need.path).parent / ".tool.tgz.part"
    part.parent.mkdir(parents=True)
    (tmp_path / "m/.freehold-mirror").touch()
    part.write_bytes(TEXT[:1000])
    build.build(tmp_path / "m", [need], quiet)
    assert upstream.asked == [("GET", "/tool.tgz", "bytes=1000-")]


def test_a_busy_server_is_asked_again(upstream: Upstream, tmp_path: Path) -> None:
    upstream.faults["/tool.tgz"] = [503, 429]
    assert build.build(tmp_path / "m", [tool(upstream)], quiet).fetched == 1


def test_a_server_that_stays_busy_is_given_up(upstream: Upstream, tmp_path: Path) -> None:
    upstream.faults["/tool.tgz"] = [503] * fetch.ATTEMPTS
    with pytest.raises(FetchError, match="could not be fetched") as caught:
        build.build(tmp_path / "m", [tool(upstream)], quiet)
    assert "503" in str(caught.value.answer)


def test_what_has_another_checksum_never_gets_a_place(upstream: Upstream, tmp_path: Path) -> None:
    need = tool(upstream, TEXT[:-1] + b"!")
    with pytest.raises(FetchError, match="not what it should be"):
        build.build(tmp_path / "m", [need], quiet)
    assert not list((tmp_path / "m/files").rglob("*.*"))
    assert Index.read(tmp_path / "m").needs == {}


def test_one_file_that_fails_does_not_keep_the_others_away(upstream: Upstream, tmp_path: Path) -> None:
    upstream.files |= {"/a": b"a", "/b": b"b"}
    files = [
        Wanted(name, f"{upstream.address}/{name}", "sha256", sha256(name.encode()))
        for name in ("a", "gone", "b")
    ]
    with pytest.raises(FetchError, match="gone"):
        fetch.fetch_all(tmp_path, files)
    assert (tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes() == b"ab"


def test_damage_is_found_and_mended(upstream: Upstream, tmp_path: Path) -> None:
    need, root = tool(upstream), tmp_path / "m"
    build.build(root, [need], quiet)
    (root / need.path).write_bytes(TEXT[:-1] + b"!")
    damaged = build.check(root)
    assert damaged == [Damage(need.path, "has another content")]
    build.forget(root, damaged)
    assert build.build(root, [need], quiet).fetched == 1
    assert build.check(root) == []


def test_what_is_not_needed_any_more_goes_only_when_asked(upstream: Upstream, tmp_path: Path) -> None:
    need, root = tool(upstream), tmp_path / "m"
    build.build(root, [need], quiet)
    assert build.build(root, [], quiet).removed == 0
    assert build.build(root, [], quiet, prune=True).removed == 1
    assert not (root / need.path).exists()


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(BadInputError, match="no mirror"):
        build.build(tmp_path, [], quiet)


def image(upstream: Upstream) -> Image:
    """An image of two platforms, as a registry keeps it."""
    blobs = {name: name.encode() for name in ("config", "layer")}
    parts = {name: {"digest": f"sha256:{sha256(text)}", "size": len(text)} for name, text in blobs.items()}
    manifest = json.dumps({"config": parts["config"], "layers": [parts["layer"]]}).encode()
    listed = [
        {"digest": f"sha256:{'0' * 64}", "platform": {"os": "linux", "architecture": "arm64"}},
        {"digest": f"sha256:{sha256(manifest)}", "platform": {"os": "linux", "architecture": "amd64"}},
    ]
    whole = json.dumps({"manifests": listed}).encode()
    base = "/v2/langfuse/langfuse"
    upstream.files |= {f"{base}/blobs/sha256:{sha256(text)}": text for text in blobs.values()}
    upstream.files |= {f"{base}/manifests/sha256:{sha256(text)}": text for text in (whole, manifest)}
    host = upstream.address.removeprefix("http://")
    return Image("image", f"{host}/langfuse/langfuse", f"sha256:{sha256(whole)}", plain_http=True)


@pytest.mark.parametrize("token", ["", "only-for-pulling"])
def test_an_image_comes_for_one_platform_with_or_without_a_token(
    upstream: Upstream, tmp_path: Path, token: str
) -> None:
    need = image(upstream)
    upstream.token = token
    upstream.files["/token"] = json.dumps({"token": token}).encode()
    assert build.build(tmp_path / "m", [need], quiet).files == 4
    assert (tmp_path / "m/v2/langfuse/langfuse/manifests" / need.digest).is_file()


def test_an_image_that_was_changed_is_refused(upstream: Upstream, tmp_path: Path) -> None:
    need = image(upstream)
    path = f"/v2/langfuse/langfuse/manifests/{need.digest}"
    upstream.files[path] += b" "
    with pytest.raises(FetchError, match="not what it should be"):
        oci.fetch(tmp_path, need.image, need.digest, plain_http=True)


def lock(upstream: Upstream) -> str:
    def entry(name: str, /, **more: Any) -> dict[str, Any]:
        text = name.encode()
        short = name.rpartition("/")[2]
        upstream.files[f"/{name}/-/{short}-1.0.0.tgz"] = text
        digest = base64.b64encode(hashlib.sha512(text).digest()).decode()
        return {"version": "1.0.0", "integrity": f"sha512-{digest}", **more}

    packages = {
        "": {"name": "app"},
        "node_modules/@n8n/config": entry("@n8n/config"),
        "node_modules/a/node_modules/b": entry("b"),
        "node_modules/alias": entry("real", name="real"),
        "node_modules/esbuild-linux": entry("esbuild-linux", os=["linux"], cpu=["x64"], libc=["glibc"]),
        "node_modules/esbuild-musl": entry("esbuild-musl", os=["linux"], cpu=["x64"], libc=["musl"]),
        "node_modules/esbuild-darwin": entry("esbuild-darwin", os=["darwin"]),
        "node_modules/not-linux": entry("not-linux", os=["!linux"]),
        "node_modules/tests": entry("tests", dev=True),
        "node_modules/own": {"link": True, "resolved": "own"},
    }
    return json.dumps({"lockfileVersion": 3, "packages": packages})


def test_npm_packages_are_those_of_linux_and_each_has_an_entry(upstream: Upstream, tmp_path: Path) -> None:
    root = tmp_path / "m"
    build.build(root, [Modules("app", lock(upstream))], quiet, upstream=build.Upstream(npm=upstream.address))
    tarballs = sorted(path.relative_to(root / "npm").as_posix() for path in (root / "npm").rglob("*.tgz"))
    assert tarballs == [
        "@n8n/config/-/config-1.0.0.tgz",
        "b/-/b-1.0.0.tgz",
        "esbuild-linux/-/esbuild-linux-1.0.0.tgz",
        "real/-/real-1.0.0.tgz",
    ]
    entry = json.loads((root / "npm/@n8n/config" / npm.ENTRY).read_text())
    assert entry["versions"]["1.0.0"]["dist"]["tarball"] == "@n8n/config/-/config-1.0.0.tgz"


def test_packages_that_others_want_beside_them_have_entries_with_all_versions(
    upstream: Upstream, tmp_path: Path
) -> None:
    document = json.loads(lock(upstream))
    document["packages"]["node_modules/a/node_modules/b"]["peerDependencies"] = {
        "@n8n/config": "^2",
        "unknown": "1",
    }
    versions = {
        version: {
            "version": version,
            "dist": {"tarball": "https://elsewhere/x.tgz", "integrity": "sha512-AAAA"},
        }
        for version in ("1.0.0", "2.0.0")
    }
    entry = {"name": "@n8n/config", "dist-tags": {"latest": "2.0.0"}, "versions": versions}
    upstream.files["/@n8n%2Fconfig"] = json.dumps(entry).encode()
    root, need = tmp_path / "m", Modules("app", json.dumps(document))
    build.build(root, [need], quiet, upstream=build.Upstream(npm=upstream.address))
    found = json.loads((root / "npm/@n8n/config" / npm.ENTRY).read_text())["versions"]
    assert set(found) == {"1.0.0", "2.0.0"}
    assert found["2.0.0"]["dist"]["tarball"] == "@n8n/config/-/config-2.0.0.tgz"
    assert not (root / "npm/unknown").exists()
    upstream.asked.clear()
    build.build(root, [need], quiet, upstream=build.Upstream(npm=upstream.address))
    assert upstream.asked == []


def test_versions_of_two_locks_share_an_entry(tmp_path: Path) -> None:
    for version in ("1.0.0", "2.0.0"):
        npm.write_entries(tmp_path, [npm.Package("b", version, "sha512-AAAA")])
    assert set(json.loads((tmp_path / "npm/b" / npm.ENTRY).read_text())["versions"]) == {"1.0.0", "2.0.0"}


LOCK = f"""
a==1.0 \\
    --hash=sha256:{"1" * 64} \\
    --hash=sha256:{"2" * 64}
    # via something
b==2.0 ; python_version < "3.12" --hash=sha256:{"3" * 64}
c==3.0 ; sys_platform == "win32" \\
    --hash=sha256:{"4" * 64}
"""


@pytest.mark.parametrize(
    ("target", "names"), [("debian-12", ["a==1.0", "b==2.0"]), ("debian-13", ["a==1.0"])]
)
def test_python_packages_are_those_of_the_hosts_python(target: str, names: list[str]) -> None:
    found = pypi.requirements(LOCK, target)
    assert [one.text.split(" ")[0] for one in found] == names
    assert found[0].hashes == {"1" * 64, "2" * 64}


@pytest.mark.parametrize(
    ("wheel", "systems"),
    [
        ("a-1.0-py3-none-any.whl", {"debian-12", "debian-13"}),
        ("a-1.0-cp311-cp311-manylinux2014_x86_64.whl", {"debian-12"}),
        ("a-1.0-cp313-cp313-manylinux_2_28_x86_64.whl", {"debian-13"}),
        ("a-1.0-cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", {"debian-12", "debian-13"}),
        ("a-1.0-cp39-abi3-manylinux_2_39_x86_64.whl", {"debian-13"}),
        ("a-1.0-cp311-cp311-musllinux_1_2_x86_64.whl", set()),
        ("a-1.0-cp311-cp311-manylinux2014_aarch64.whl", set()),
        ("a-1.0.tar.gz", set()),
    ],
)
def test_a_wheel_fits_a_system(wheel: str, systems: set[str]) -> None:
    assert {target for target in pypi.TARGETS if pypi.fits(wheel, target)} == systems
