"""Two hosts on two GPUs (stand-ins): who gets which, and what happens when the node counts or finds them in another order.

Behind each GPU's device node is a harmless device with a number of its own, so that it can be told whose card a container has,
whatever the name of the node is. The GPUs of this test are used by no other.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from .freehold_command import Freehold

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CLIENT = "gpulab"
FIRST, SECOND = "0000:41:00.0", "0000:42:00.0"
UUIDS = {
    FIRST: "GPU-00000000-0000-4000-8000-000000000002",
    SECOND: "GPU-00000000-0000-4000-8000-000000000003",
}
CARDS = {FIRST: "1:5", SECOND: "1:7"}
"""Numbers of the devices that stand for the cards which are at these addresses when the lab starts: zero and full."""


def _node(words: str) -> str:
    key = ["-i", "/var/lib/freehold-lab/node_key"]
    known = ["-o", "UserKnownHostsFile=/var/lib/freehold-lab/known_hosts"]
    command = ["ssh", *key, *known, "root@10.86.0.2", words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def _as_at_the_start() -> None:
    """Minor number 2 and its card at the first address, 3 and its card at the second."""
    table = {
        line.split()[1]: line.split() for line in _node("grep -v ^# /opt/freehold-lab/gpus").splitlines()
    }
    if table[FIRST][2] != UUIDS[FIRST]:
        _node(f"freehold-lab-gpus swap-slots {FIRST} {SECOND}")
    if table[FIRST][0] != "2":
        _node(f"freehold-lab-gpus swap-minors {FIRST} {SECOND}")


def _write(freehold: Freehold, *gpus: dict[str, Any]) -> None:
    node = {
        "address": "10.86.0.2",
        "ssh_key": "/var/lib/freehold-lab/node_key",
        "known_hosts": "/var/lib/freehold-lab/known_hosts",
        "driver": "administrator",
        "gpus": list(gpus),
    }
    freehold.write(
        CLIENT,
        "10.86.0.6",
        4000,
        services={"caddy": None, "valkey": None},
        models={},
        hosts={
            "caddy": {"memory": 384, "disk": 2, "gpus": [0]},
            "valkey": {"memory": 256, "disk": 2, "gpus": [1]},
        },
        nodes={"pve": node},
    )


def _has(freehold: Freehold, host: str) -> dict[str, str]:
    """The GPU device nodes in a container, with the number of the device behind each."""
    seen = freehold.ssh(CLIENT, host, "stat -c '%n %t:%T %G %a' /dev/nvidia[0-9]*").stdout
    assert all(line.endswith(" gpu 660") for line in seen.splitlines()), seen
    return {line.split()[0]: line.split()[1] for line in seen.splitlines()}


def _changes(freehold: Freehold) -> dict[str, dict[str, Any]]:
    """What a plan would change of device nodes, by host."""
    made = freehold.json("plan", CLIENT)
    return {
        change["host"].removeprefix(f"{CLIENT}-"): {
            diff["field"]: (diff["old"].split(",")[0], diff["new"].split(",")[0], diff["about"])
            for diff in change["diffs"]
        }
        for change in made["changes"]
        if change["root_steps"]
    }


@pytest.fixture(scope="module", autouse=True)
def stack(freehold: Freehold) -> Iterator[None]:
    _as_at_the_start()
    _write(freehold, {"pci": FIRST, "card": "rtx-3090"}, {"uuid": UUIDS[SECOND]})
    freehold("prepare", CLIENT)
    yield
    _as_at_the_start()


def test_each_host_has_its_own_card_and_no_other(freehold: Freehold) -> None:
    assert freehold.up(CLIENT)["passed"]
    assert _has(freehold, "caddy") == {"/dev/nvidia2": CARDS[FIRST]}
    assert _has(freehold, "valkey") == {"/dev/nvidia3": CARDS[SECOND]}
    assert freehold.up(CLIENT)["changes"] == {}


def test_what_the_node_has_is_shown(freehold: Freehold) -> None:
    rows = {row["pci"]: row for row in freehold.json("show", "gpus", CLIENT)}
    assert len(rows) == 4
    assert (rows[FIRST]["card"], rows[FIRST]["device"], rows[FIRST]["hosts"]) == (
        "rtx-3090",
        "/dev/nvidia2",
        ["caddy"],
    )
    assert (rows[SECOND]["uuid"], rows[SECOND]["hosts"]) == (UUIDS[SECOND], ["valkey"])
    assert not rows["0000:01:00.0"]["listed"]
    shown = freehold("show", "gpus", CLIENT).stdout
    assert re.search(rf"{FIRST}.*rtx-3090.*24576 MiB.*/dev/nvidia2.*caddy", shown), shown


def test_numbers_that_changed_are_in_the_plan_and_followed(freehold: Freehold) -> None:
    _node(f"freehold-lab-gpus swap-minors {FIRST} {SECOND}")
    assert _changes(freehold) == {
        "caddy": {"dev0": ("/dev/nvidia2", "/dev/nvidia3", f"GPU {FIRST} rtx-3090 {UUIDS[FIRST]}")},
        "valkey": {"dev0": ("/dev/nvidia3", "/dev/nvidia2", f"GPU {SECOND} rtx-3090 {UUIDS[SECOND]}")},
    }
    assert f"GPU {FIRST}" in freehold("plan", CLIENT).stdout
    assert {"root-steps", "start"} <= set(freehold.up(CLIENT)["changes"])
    assert _has(freehold, "caddy") == {"/dev/nvidia3": CARDS[FIRST]}, "another node, the same card"
    assert _has(freehold, "valkey") == {"/dev/nvidia2": CARDS[SECOND]}
    assert freehold.up(CLIENT)["changes"] == {}


def test_a_card_by_its_slot_and_one_by_its_uuid_cannot_become_one(freehold: Freehold) -> None:
    _node(f"freehold-lab-gpus swap-slots {FIRST} {SECOND}")
    refused = freehold("up", CLIENT, code=2)
    assert f"the one at {FIRST}" in " ".join(refused.stderr.split())
    assert _has(freehold, "caddy") == {"/dev/nvidia3": CARDS[FIRST]}, "nothing was touched"


def test_cards_that_changed_places_are_followed_by_their_uuids(freehold: Freehold) -> None:
    _write(freehold, {"uuid": UUIDS[FIRST]}, {"uuid": UUIDS[SECOND]})
    assert set(_changes(freehold)) == {"caddy", "valkey"}
    freehold.up(CLIENT)
    assert _has(freehold, "caddy") == {"/dev/nvidia2": CARDS[FIRST]}
    assert _has(freehold, "valkey") == {"/dev/nvidia3": CARDS[SECOND]}


def test_a_gpu_of_another_model_is_refused(freehold: Freehold) -> None:
    _write(freehold, {"pci": FIRST, "card": "rtx-4090"}, {"uuid": UUIDS[FIRST]})
    refused = freehold("up", CLIENT, code=2)
    assert "another card than rtx-4090" in " ".join(refused.stderr.split())


def test_down_leaves_nothing(freehold: Freehold) -> None:
    freehold("down", CLIENT, "--confirm", CLIENT)
    assert {state["state"] for state in freehold.json("status", CLIENT)} == {"missing"}
    assert f"freehold-gpu-{CLIENT}.service" not in _node("ls /etc/systemd/system")
