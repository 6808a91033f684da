"""A client's mirror: every file with a checksum is fetched there, at the place where a mirror keeps it."""

from __future__ import annotations

from freehold.catalog.versions import Artifact, mirrored
from freehold.mirror.needs import File

MIRROR = "http://mirror.acme.internal"
SHA256 = "1" * 64
WEIGHTS = {"name": "model.safetensors", "url": "https://hub/model.safetensors?download=1", "sha256": SHA256}


def test_a_setting_with_files_names_the_mirror() -> None:
    there = f"{MIRROR}/files/{SHA256}/model.safetensors"
    assert mirrored({"files": [WEIGHTS], "device": "cpu"}, MIRROR) == {
        "files": [WEIGHTS | {"url": there}],
        "device": "cpu",
    }


def test_what_has_no_checksum_and_what_is_at_the_mirror_already_stays() -> None:
    without = {"url": "https://chat.acme.internal", "sha256": ""}
    there = {"url": f"{MIRROR}/files/{SHA256}/x", "sha256": SHA256}
    assert mirrored([without, there, "https://else"], MIRROR) == [without, there, "https://else"]


def test_a_mirror_is_filled_where_roles_are_sent() -> None:
    entry = Artifact(
        version="1",
        source="release",
        licence="MIT",
        upstream="https://x",
        url="https://x/a/tool.tgz",
        sha256=SHA256,
    )
    need = File("tool", str(entry.url), SHA256)
    assert entry.for_role(f"{MIRROR}/")["url"] == f"{MIRROR}/{need.path}"
