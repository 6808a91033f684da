"""Which template a host is made from."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.run import templates

CONTENT = [
    "debian-12-standard_12.7-1_amd64.tar.zst",
    "debian-12-standard_12.12-1_amd64.tar.zst",
    "debian-12-standard_12.13-1_arm64.tar.zst",
    "debian-12-turnkey-core_18.1-1_amd64.tar.gz",
    "debian-13-standard_13.1-2_amd64.tar.zst",
]


class Api:
    """A stand-in of a node that holds and offers templates."""

    def __init__(self, holds: list[str], offers: list[str]) -> None:
        self.holds, self.offers = holds, offers
        self.sent: list[tuple[str, str, Any]] = []

    def get(self, path: str, params: Any = None, *, doing: str) -> Any:
        if path.endswith("/aplinfo"):
            return [{"template": name} for name in self.offers]
        return [{"volid": f"local:vztmpl/{name}"} for name in self.holds]

    def call(self, method: str, path: str, params: Any, *, doing: str) -> str:
        self.sent.append((method, path, params))
        return "UPID:pve"

    def wait(self, upid: str, *, doing: str) -> None:
        assert upid == "UPID:pve"


def test_the_newest_of_the_node_is_taken() -> None:
    api: Any = Api(CONTENT, [])
    found = templates.find(api, "pve", "local", "debian-12")
    assert found == "local:vztmpl/debian-12-standard_12.12-1_amd64.tar.zst"
    assert templates.find(api, "pve", "local", "debian-11") is None


def test_what_is_not_there_is_downloaded_by_the_node() -> None:
    api: Any = Api([], CONTENT)
    assert templates.download(api, "pve", "local", "debian-13") == f"local:vztmpl/{CONTENT[-1]}"
    assert api.sent == [("POST", "/nodes/pve/aplinfo", {"storage": "local", "template": CONTENT[-1]})]


def test_what_is_nowhere_is_an_error_and_nothing_is_sent() -> None:
    api: Any = Api([], CONTENT)
    with pytest.raises(templates.TemplateMissingError) as caught:
        templates.download(api, "pve", "local", "debian-11")
    assert "pveam update" in (caught.value.remedy or "")
    assert api.sent == []


def test_with_a_mirror_the_node_fetches_it_there() -> None:
    api: Any = Api([], CONTENT)
    url = f"http://mirror.acme.internal/files/abc/{CONTENT[1]}"
    found = templates.download(api, "pve", "local", "debian-12", {"url": url, "sha256": "abc"})
    assert found == f"local:vztmpl/{CONTENT[1]}"
    assert api.sent == [
        (
            "POST",
            "/nodes/pve/storage/local/download-url",
            {
                "content": "vztmpl",
                "filename": CONTENT[1],
                "url": url,
                "checksum": "abc",
                "checksum-algorithm": "sha256",
            },
        )
    ]
