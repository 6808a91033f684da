"""Property strings: what the node writes is read, and written the same way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.proxmox import propstrings


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (
            "net0",
            "name=eth0,bridge=vmbr0,firewall=1,gw=192.0.2.1,hwaddr=BC:24:11:33:43:84,ip=192.0.2.10/24,tag=20",
        ),
        ("rootfs", "guests:100/vm-100-disk-0.raw,size=2G"),
        ("mp0", "/srv/share,mp=/share,ro=1"),
        ("dev0", "/dev/dri/renderD128,gid=104,mode=0666"),
        ("features", "keyctl=1,nesting=1"),
    ],
)
def test_recorded_strings_survive(option: str, text: str) -> None:
    properties = propstrings.parse(option, text)
    assert propstrings.parse(option, propstrings.render(option, properties)) == properties


def test_the_default_key_may_be_bare_or_named() -> None:
    assert propstrings.parse("mp3", "guests:1,mp=/a") == propstrings.parse("mp3", "volume=guests:1,mp=/a")
    assert propstrings.parse("startup", "3") == {"order": "3"}


@pytest.mark.parametrize(
    ("option", "text"), [("net0", "eth0"), ("net0", "name=a,name=b"), ("features", "nesting")]
)
def test_what_the_node_refuses_is_refused(option: str, text: str) -> None:
    with pytest.raises(ValueError, match=option):
        propstrings.parse(option, text)


WORD = st.text("abcdefgh0123456789.-_/:", min_size=1, max_size=8)


@given(st.dictionaries(WORD, WORD, max_size=5))
def test_render_then_parse_is_the_same(properties: dict[str, str]) -> None:
    assert propstrings.parse("net0", propstrings.render("net0", properties)) == properties


@pytest.mark.parametrize("source", ["/srv/a,mp=/etc", "/srv/a\nlxc.hook.pre-start: /srv/x"])
def test_no_value_becomes_a_property_of_its_own(source: str) -> None:
    with pytest.raises(ValueError, match="mp0: volume"):
        propstrings.render("mp0", {"volume": source, "mp": "/a"})


def test_numbers_are_sorted_as_numbers_and_lookalikes_left_out() -> None:
    options = dict.fromkeys(["mp10", "mp2", "mp0", "memory", "net0", "mp"], "x")
    assert list(propstrings.numbered(options, "mp")) == ["mp0", "mp2", "mp10"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("0T", 0), ("2G", 2 << 30), ("512M", 512 << 20), ("0.5G", 512 << 20), ("1048576", 1 << 20)],
)
def test_sizes(text: str, size: int) -> None:
    assert propstrings.size_bytes(text) == size


def test_a_word_is_no_size() -> None:
    with pytest.raises(ValueError, match="lots"):
        propstrings.size_bytes("lots")
