"""The newest standard template among names and volume ids."""

from __future__ import annotations

import pytest

from freehold.proxmox.templates import newest


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], None),
        (
            [
                "local:vztmpl/debian-13-standard_13.1-2_amd64.tar.zst",
                "local:vztmpl/debian-12-standard_12.2-1_amd64.tar.zst",
            ],
            1,
        ),
        (["debian-12-standard_12.12-1_amd64.tar.zst", "debian-12-standard_12.7-1_amd64.tar.zst"], 0),
        (["debian-12-turnkey-core_18.0-1_amd64.tar.gz"], None),
        (["debian-12-standard_12.7-1_arm64.tar.zst"], None),
    ],
)
def test_newest(names: list[str], found: int | None) -> None:
    assert newest(names, "debian-12") == (None if found is None else names[found])
