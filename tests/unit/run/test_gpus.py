"""GPUs of the stack beside those of the nodes: what is resolved, what is said, and what is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from freehold import ssh
from freehold.errors import FreeholdError
from freehold.proxmox.diff import compare
from freehold.proxmox.observe import ObservedGuest
from freehold.run import gpus, specs
from freehold.run.context import Client
from freehold.run.finding import Finding

from .conftest import Open

ONE, TWO = "0000:01:00.0", "0000:02:00.0"
UUIDS = {ONE: "GPU-00000000-0000-4000-8000-000000000001", TWO: "GPU-00000000-0000-4000-8000-000000000002"}


def told(
    minors: dict[str, str],
    *,
    driver: str = "nvidia",
    uuids: dict[str, str] = UUIDS,
    chip: str = "0x2684",
    memory: int = 24564,
    smi: str = "",
) -> str:
    """What the probe prints on a node with these minor numbers by address."""
    lines = ["== devices", *(f"{pci}|0x10de|{chip}|{driver}|13|-1|||" for pci in minors), "== version"]
    if driver == "nvidia":
        lines.append("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.105.08  Mon Oct 1")
        for pci, minor in minors.items():
            lines += [f"== information {pci}", f"GPU UUID: {uuids[pci]}", f"Device Minor: {minor}"]
        lines.append("== smi")
        lines += [f"0000{pci}, {uuids[pci]}, NVIDIA GeForce RTX 4090, {memory}, 580.105.08" for pci in minors]
        lines += [smi] if smi else []
    return "\n".join([*lines, "== end", ""])


Told = Callable[..., Client]


@pytest.fixture
def client_of(open_client: Open, monkeypatch: pytest.MonkeyPatch) -> Told:
    """``client_of(output, gpus=..., hosts=...)``: a client whose node prints that; ``None`` as output: nodes without SSH."""

    def make(output: str | None, gpus_: list[dict[str, Any]], hosts: dict[str, Any], **node: Any) -> Client:
        def run(argv: list[str], *, timeout: float, doing: str) -> subprocess.CompletedProcess[str]:
            assert "== devices" in argv[-1]
            return subprocess.CompletedProcess(argv, 0 if output else 255, stdout=output, stderr="No route")

        monkeypatch.setattr(ssh, "run", run)
        reach = {} if output is None else {"address": "192.0.2.5", "driver": "administrator"}
        client = open_client(nodes={"pve": {"gpus": gpus_, **reach, **node}}, hosts=hosts)
        client.__dict__["api"] = _Api()
        return client

    return make


class _Api:
    """A stand-in of the API: two RTX 4090, and an NVIDIA audio device that is none."""

    def get(self, path: str, *, doing: str) -> list[dict[str, Any]]:
        assert path == "/nodes/pve/hardware/pci"
        gpu = {"class": "0x030000", "vendor": "0x10de", "device": "0x2684", "iommugroup": -1}
        return [{"id": TWO, **gpu}, {"id": ONE, **gpu}, {"id": "0000:01:00.1", **gpu, "class": "0x040300"}]


def paths(client: Client, host: str) -> list[str]:
    return [device.path for device in client.layout.host(host).devices if device.gpu]


def said(client: Client) -> list[Finding]:
    gpus.look(client)
    return list(gpus.findings(client, "pve"))


BOTH = {"caddy": {"gpus": [0]}, "postgres": {"gpus": [1]}}
BY_PCI = [{"pci": "01:00.0", "card": "rtx-4090"}, {"pci": "02:00.0", "card": "rtx-4090"}]
BY_UUID = [{"uuid": UUIDS[ONE]}, {"uuid": UUIDS[TWO]}]


@pytest.mark.parametrize("declared", [BY_PCI, BY_UUID])
def test_hosts_get_the_nodes_that_their_gpus_really_have(
    client_of: Told, declared: list[dict[str, Any]]
) -> None:
    client = client_of(told({ONE: "1", TWO: "0"}), declared, BOTH)
    assert paths(client, "caddy") == ["/dev/nvidia0"], "a guess, until the node was asked"
    gpus.look(client)
    assert paths(client, "caddy") == ["/dev/nvidia1"]
    assert paths(client, "postgres") == ["/dev/nvidia0"]
    (gpu,) = client.layout.host("caddy").gpus
    assert (gpu.pci, gpu.uuid, gpu.card, gpu.memory) == (ONE, UUIDS[ONE], "rtx-4090", 24564)
    assert client.layout.nodes[0].gpus == (ONE, TWO)
    assert client.whole_layout.host("caddy") == client.layout.host("caddy")


def test_cards_that_changed_places_are_followed_by_uuid(client_of: Told) -> None:
    moved = told({ONE: "0", TWO: "1"}, uuids={ONE: UUIDS[TWO], TWO: UUIDS[ONE]})
    client = client_of(moved, BY_UUID, BOTH)
    gpus.look(client)
    assert paths(client, "caddy") == ["/dev/nvidia1"]
    assert client.layout.host("caddy").gpus[0].pci == TWO


def test_a_node_is_asked_once(client_of: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_of(told({ONE: "0", TWO: "1"}), BY_PCI, BOTH)
    gpus.look(client)
    monkeypatch.setattr(ssh, "run", lambda *_, **__: pytest.fail("asked again"))
    gpus.look(client)


def test_a_swap_of_numbers_is_a_change_that_names_the_gpu(client_of: Told) -> None:
    client = client_of(told({ONE: "1", TWO: "0"}), BY_PCI, BOTH)
    before = specs.container(client.layout, client.layout.host("caddy"), "local:x", "")
    config = {f"dev{n}": f"{d.path},gid={d.gid},mode={d.mode}" for n, d in enumerate(before.devices)}
    gpus.look(client)
    spec = specs.container(client.layout, client.layout.host("caddy"), "local:x", "")
    guest = ObservedGuest(
        node="pve",
        vmid=spec.vmid,
        name=spec.hostname,
        running=True,
        config=config,
        current=config,
        digest="d",
    )
    found = compare(spec, guest)
    (diff,) = (diff for diff in found.root.diffs if diff.field.startswith("dev"))
    assert (diff.field, diff.old, diff.new) == (
        "dev0",
        "/dev/nvidia0,gid=2107,mode=0660",
        "/dev/nvidia1,gid=2107,mode=0660",
    )
    assert diff.about == f"GPU {ONE} rtx-4090 {UUIDS[ONE]}"
    assert found.needs_restart


def test_without_ssh_nvidia_s_nodes_are_in_the_order_of_addresses(client_of: Told) -> None:
    client = client_of(None, [{"pci": "02:00.0"}, {"pci": "01:00.0"}], BOTH)
    gpus.look(client)
    assert paths(client, "caddy") == ["/dev/nvidia1"], "the second address, though first in the stack"
    assert paths(client, "postgres") == ["/dev/nvidia0"]


def test_without_ssh_a_number_of_the_stack_counts(client_of: Told) -> None:
    client = client_of(None, [{"pci": "01:00.0", "minor": 5}, {"pci": "02:00.0"}], BOTH)
    gpus.look(client)
    assert paths(client, "caddy") == ["/dev/nvidia5"]


def test_a_node_that_does_not_answer(client_of: Told) -> None:
    with pytest.raises(FreeholdError, match="did not say which GPUs it has") as caught:
        gpus.look(client_of("", BY_PCI, BOTH))
    assert caught.value.answer == "No route"
    assert "freehold check acme" in str(caught.value.remedy)


def test_what_is_right_is_said_with_who_has_it(client_of: Told) -> None:
    first, second = said(client_of(told({ONE: "0", TWO: "1"}), BY_PCI, {"caddy": {"gpus": [0]}}))
    assert first == Finding(
        "GPU 01:00.0", "ok", "NVIDIA GeForce RTX 4090, 24564 MiB, driver 580.105.08, /dev/nvidia0, for caddy"
    )
    assert second.status == "ok"
    assert second.detail.endswith("/dev/nvidia1")


@pytest.mark.parametrize(
    ("output", "declared", "detail", "remedy"),
    [
        (told({TWO: "0"}), [{"pci": "01:00.0"}], f"no GPU at 01:00.0; it has {TWO} (NVIDIA", "lspci"),
        (told({TWO: "0"}), [{"uuid": UUIDS[ONE]}], "no GPU with the UUID GPU-00000000", "freehold show gpus acme"),
        (None, [{"uuid": UUIDS[ONE]}], "Without SSH to node pve", "nodes.pve.address"),
        (told({ONE: "0"}, driver="vfio-pci"), [{"pci": "01:00.0"}], "it is bound to vfio-pci", "update-initramfs"),
        (told({ONE: "0"}, driver="nouveau"), [{"pci": "01:00.0"}], "it is bound to nouveau", "blacklist"),
        (told({ONE: "0"}, driver=""), [{"pci": "01:00.0"}], "no driver is bound to it", "nodes.pve.driver: managed"),
        (told({ONE: "0"}, chip="0x2204"), [{"pci": "01:00.0", "card": "rtx-4090"}], "another card than rtx-4090", "card: rtx-3090"),
        (told({ONE: "0"}, chip="0xffff"), [{"pci": "01:00.0", "card": "rtx-4090"}], "(10de:ffff)", "leave card out"),
        (told({ONE: "0"}), [{"pci": "01:00.0", "memory": 81559}], "has 24564 MiB of VRAM; the stack says 81559", "memory"),
        (told({ONE: "0"}), [{"pci": "01:00.0", "uuid": UUIDS[TWO]}], "is another card than the stack says", "UUID alone"),
        (told({ONE: "1"}), [{"pci": "01:00.0", "minor": 0}], "is /dev/nvidia1, and the stack says minor: 0", "Leave minor out"),
        (told({ONE: ""}), [{"pci": "01:00.0"}], "has no device node though nvidia is bound to it", "dmesg"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(
    client_of: Told, output: str | None, declared: list[dict[str, Any]], detail: str, remedy: str
) -> None:
    (finding,) = said(client_of(output, declared, {"caddy": {"gpus": [0]}}))
    assert finding.status == "problem"
    assert detail in finding.detail
    assert remedy in finding.remedy


def test_one_card_by_two_names_is_refused(client_of: Told) -> None:
    """As after two cards changed places, one named by its slot and the other by its UUID."""
    moved = told({ONE: "0", TWO: "1"}, uuids={ONE: UUIDS[TWO], TWO: UUIDS[ONE]})
    first, second = said(client_of(moved, [{"pci": "01:00.0"}, {"uuid": UUIDS[TWO]}], BOTH))
    assert (first.status, second.status) == ("ok", "problem")
    assert f"the one at {ONE}" in second.detail


@pytest.mark.parametrize("driver", ["vfio-pci", "nouveau", ""])
def test_a_gpu_that_nobody_gets_may_serve_others(client_of: Told, driver: str) -> None:
    (finding,) = said(client_of(told({ONE: "0"}, driver=driver), [{"pci": "01:00.0"}], {}))
    assert finding.status == "ok"


@pytest.mark.parametrize("driver", ["nouveau", ""])
def test_a_driver_that_freehold_installs_is_not_missed_before(client_of: Told, driver: str) -> None:
    output = told({ONE: "0"}, driver=driver)
    client = client_of(output, [{"pci": "01:00.0"}], {"caddy": {"gpus": [0]}}, driver="managed")
    (finding,) = said(client)
    assert finding.status == "ok"
    assert gpus.waiting(client) == [f"{ONE} of caddy"]


def test_a_driver_brings_the_number_of_the_device_node(
    client_of: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(told({ONE: "", TWO: ""}, driver=""), BY_PCI, BOTH, driver="managed")
    gpus.look(client)
    with pytest.raises(gpus.NoGpuError) as caught:
        gpus.settle(client)
    assert set(str(caught.value.answer).split("\n")) == {f"{ONE} of caddy", f"{TWO} of postgres"}
    answer = subprocess.CompletedProcess([], 0, stdout=told({ONE: "1", TWO: "0"}), stderr="")
    monkeypatch.setattr(ssh, "run", lambda *_, **__: answer)
    gpus.settle(client)
    assert paths(client, "caddy") == ["/dev/nvidia1"]
    monkeypatch.setattr(ssh, "run", lambda *_, **__: pytest.fail("asked though nothing is missing"))
    gpus.settle(client)


def test_a_gpu_that_fell_off_is_a_problem(client_of: Told) -> None:
    lost = "Unable to determine the device handle for gpu 0000:3B:00.0: Unknown Error"
    *_, finding = said(client_of(told({ONE: "0"}, smi=lost), [{"pci": "01:00.0"}], {"caddy": {"gpus": [0]}}))
    assert (finding.about, finding.status) == ("nvidia-smi on pve", "problem")
    assert lost in finding.detail
    assert "xid" in finding.remedy


@pytest.mark.parametrize(("driver", "status"), [("administrator", "problem"), ("managed", "warning")])
def test_a_library_that_does_not_fit_wants_a_reboot(client_of: Told, driver: str, status: str) -> None:
    text = "Failed to initialize NVML: Driver/library version mismatch"
    output = told({ONE: "0"}, smi=text)
    *_, finding = said(client_of(output, [{"pci": "01:00.0"}], {"caddy": {"gpus": [0]}}, driver=driver))
    assert finding.status == status
    assert "reboot" in finding.remedy


def test_rows_show_all_gpus_and_who_has_them(client_of: Told) -> None:
    shares = {"caddy": {"gpus": [{"gpu": 0, "share": 0.4}]}, "postgres": {"gpus": [{"gpu": 0, "share": 0.6}]}}
    first, second = gpus.rows(client_of(told({ONE: "0", TWO: "1"}), BY_PCI[:1], shares))
    assert (first.listed, sorted(first.hosts)) == (True, ["caddy (40%)", "postgres (60%)"])
    assert (second.listed, second.hosts) == (False, ())
    assert second.as_dict()["pci"] == TWO
