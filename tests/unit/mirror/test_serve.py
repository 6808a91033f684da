"""The mirror's server: files with ranges, npm's entries, image manifests; nothing outside the mirror, nothing written."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from freehold.mirror import npm
from freehold.mirror.serve import server

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "mirror"
    for path, text in {
        "files/abc/tool.tar.gz": "0123456789",
        "pypi/index.html": "<a href='x'>x</a>",
        "debian/dists/trixie/InRelease": "signed",
        f"v2/langfuse/langfuse/manifests/{DIGEST}": json.dumps(
            {"mediaType": "application/vnd.oci.image.index.v1+json"}
        ),
        f"v2/langfuse/langfuse/blobs/{DIGEST}": "layer",
        "files/abc/.tool.tar.gz.part": "half",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (tmp_path / "secret").write_text("not yours")
    npm.write_entries(root, [npm.Package("@n8n/config", "2.39.1", "sha512-AAAA")])
    return root


@pytest.fixture
def address(root: Path) -> Iterator[str]:
    with server(root, "127.0.0.1", 0) as running:
        threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_a_file_comes_whole_with_its_length(address: str) -> None:
    answer = requests.get(f"{address}/files/abc/tool.tar.gz", timeout=5)
    assert (answer.status_code, answer.text, answer.headers["Content-Length"]) == (200, "0123456789", "10")


@pytest.mark.parametrize(
    ("asked", "status", "text"),
    [("bytes=4-", 206, "456789"), ("bytes=2-3", 206, "23"), ("bytes=10-", 416, "")],
)
def test_a_download_goes_on_where_it_stopped(address: str, asked: str, status: int, text: str) -> None:
    answer = requests.get(f"{address}/files/abc/tool.tar.gz", headers={"Range": asked}, timeout=5)
    assert (answer.status_code, answer.text) == (status, text)


def test_what_has_not_changed_is_not_sent_again(address: str) -> None:
    url = f"{address}/debian/dists/trixie/InRelease"
    since = requests.get(url, timeout=5).headers["Last-Modified"]
    answer = requests.get(url, headers={"If-Modified-Since": since}, timeout=5)
    assert (answer.status_code, answer.content) == (304, b"")


def test_many_requests_share_a_connection(address: str) -> None:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=5)
    for method, path, status in [
        ("HEAD", "/files/abc/tool.tar.gz", 200),
        ("GET", "/none", 404),
        ("GET", "/pypi/", 200),
    ]:
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status


@pytest.mark.parametrize(
    "path",
    [
        "/../secret",
        "/%2e%2e/secret",
        "/files/..%2f..%2f..%2fsecret",
        "/files/abc/.tool.tar.gz.part",
        "/files/",
        "/",
    ],
)
def test_nothing_else_is_given(address: str, path: str) -> None:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=5)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 404
    assert b"not yours" not in answer.read()


@pytest.mark.parametrize(
    ("asked", "status"),
    [("*", 404), ("none", 404), ("http://[/", 400), (f"/files/{'x' * 300}", 404), (f"/{'x/' * 2500}", 404)],
)
def test_what_is_no_address_is_answered_and_leaves_no_traceback(
    address: str, capfd: pytest.CaptureFixture[str], asked: str, status: int
) -> None:
    """Anybody on the network could fill the log of its owner."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=5)
    connection.putrequest("GET", asked, skip_host=True)
    connection.endheaders()
    assert connection.getresponse().status == status
    assert "Traceback" not in capfd.readouterr().err


def test_a_client_that_goes_away_leaves_no_traceback(
    address: str, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (root / "files/abc/big").write_bytes(bytes(32 << 20))
    with requests.get(f"{address}/files/abc/big", stream=True, timeout=5) as answer:
        next(answer.iter_content(1024))
    assert requests.get(f"{address}/files/abc/tool.tar.gz", timeout=5).status_code == 200
    assert "Traceback" not in capfd.readouterr().err


def test_nothing_is_written(address: str) -> None:
    assert requests.put(f"{address}/files/abc/tool.tar.gz", data="x", timeout=5).status_code == 501


@pytest.mark.parametrize("name", ["@n8n/config", "@n8n%2fconfig"])
def test_an_npm_entry_names_tarballs_at_the_address_that_was_asked(address: str, name: str) -> None:
    entry = requests.get(f"{address}/npm/{name}", timeout=5).json()
    assert entry["versions"]["2.39.1"]["dist"]["tarball"] == f"{address}/npm/@n8n/config/-/config-2.39.1.tgz"


def test_an_image_comes_with_the_media_type_of_its_manifest(address: str) -> None:
    assert requests.get(f"{address}/v2/", timeout=5).json() == {}
    manifest = requests.get(f"{address}/v2/langfuse/langfuse/manifests/{DIGEST}", timeout=5)
    assert manifest.headers["Content-Type"] == "application/vnd.oci.image.index.v1+json"
    assert manifest.headers["Docker-Content-Digest"] == DIGEST
    assert requests.get(f"{address}/v2/langfuse/langfuse/blobs/{DIGEST}", timeout=5).text == "layer"
