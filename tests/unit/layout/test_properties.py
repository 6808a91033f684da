"""What holds for every stack (Hypothesis)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.layout.compute import LayoutError, compute
from freehold.layout.placement import NODE_RESERVE
from freehold.layout.types import Layout
from freehold.schema.stack import Stack

ROLES = Path(__file__).parents[1] / "data" / "roles"
# A busy machine is no fault of the layout; its speed has a test of its own.
settings.register_profile("layout", deadline=None)
settings.load_profile("layout")

SETTINGS: dict[str, Any] = {"caddy": None, "postgres": None, "openwebui": None, "vllm": {"model": "/m"}}

services = st.sets(st.sampled_from(sorted(SETTINGS)), min_size=1)
overrides = st.fixed_dictionaries(
    {},
    optional={
        "vmid": st.integers(100, 999_999_999) | st.sampled_from([1010, 1020, 1040]),
        "address": (st.integers(2, 99) | st.integers(0, 255)).map(lambda last: f"10.20.0.{last}"),
        "memory": st.integers(128, 8_000),
        "cores": st.integers(1, 12),
        "node": st.sampled_from(["pve", "pve2"]),
        "gpus": st.lists(st.sampled_from([0, 1, "01:00.0", "0000:02:00.0"]), max_size=1),
    },
)
stacks = st.builds(
    lambda names, hosts, memory, cores, first, vmids: {
        "client": "acme",
        "domain": "acme.internal",
        "proxmox": {"endpoint": "https://pve:8006"},
        "network": {"subnet": "10.20.0.0/24", "first": f"10.20.0.{first}"},
        "vmids": {"first": vmids},
        "nodes": {
            "pve": {"memory": memory, "cores": cores, "gpus": [{"pci": "01:00.0"}, {"pci": "02:00.0"}]},
            "pve2": {},
        },
        "services": {name: SETTINGS[name] for name in names},
        "hosts": {name: override for name, override in hosts.items() if name in names},
    },
    services,
    st.dictionaries(st.sampled_from(sorted(SETTINGS)), overrides, max_size=2),
    st.integers(8_000, 60_000),
    st.integers(4, 40),
    st.integers(100, 196),
    st.just(1000) | st.integers(100, 999_999_900),
)


def laid_out(data: dict[str, Any]) -> Layout | None:
    try:
        return compute(Stack.model_validate(data), Path("/x"), roles=ROLES)
    except LayoutError:
        return None


@given(stacks)
def test_addresses_and_vmids_are_unique_and_in_their_place(data: dict[str, Any]) -> None:
    layout = laid_out(data)
    if layout is None:
        return
    stack = Stack.model_validate(data)
    addresses = [host.address for host in layout.hosts]
    vmids = [host.vmid for host in layout.hosts]
    assert len(set(addresses)) == len(addresses)
    assert len(set(vmids)) == len(vmids)
    subnet = stack.network.subnet
    reserved = {subnet.network_address, subnet.broadcast_address, subnet.network_address + 1}
    assert all(address in subnet and address not in reserved for address in addresses)
    for host in layout.hosts:
        override = stack.hosts.get(host.name)
        if override is None or override.vmid is None:
            assert stack.vmids.first <= host.vmid < stack.vmids.first + 100


@given(stacks)
def test_no_node_is_asked_for_more_than_it_has(data: dict[str, Any]) -> None:
    layout = laid_out(data)
    if layout is None:
        return
    for name, node in Stack.model_validate(data).nodes.items():
        here = [host for host in layout.hosts if host.node == name]
        if node.memory is not None:
            assert sum(host.memory for host in here) <= node.memory - NODE_RESERVE
        if node.cores is not None:
            assert all(host.cores <= node.cores for host in here)
    own = [device.path for host in layout.hosts for device in host.devices if device.path[-1].isdigit()]
    assert len(own) == len(set(own))


@given(stacks)
def test_what_fits_by_itself_is_not_refused(data: dict[str, Any]) -> None:
    """Without overrides and with an ample node, every choice of services has a layout."""
    ample = {**data, "hosts": {}, "nodes": {}, "network": {"subnet": "10.20.0.0/24"}}
    assert laid_out(ample) is not None


@given(stacks)
def test_same_input_same_output(data: dict[str, Any]) -> None:
    first, second = laid_out(data), laid_out(dict(reversed(data.items())))
    assert (first is None) == (second is None)
    if first and second:
        assert first.model_dump_json() == second.model_dump_json()


@given(stacks, st.sampled_from(sorted(SETTINGS)))
def test_adding_a_service_moves_no_host(data: dict[str, Any], added: str) -> None:
    before = laid_out(data)
    after = laid_out({**data, "services": {**data["services"], added: SETTINGS[added]}})
    if before is None or after is None:
        return
    for host in before.hosts:
        now = after.host(host.name)
        # Who may reach a port is the one thing that a new neighbour changes.
        assert now.model_copy(update={"rules": host.rules}) == host


@given(stacks)
def test_dependencies_start_first(data: dict[str, Any]) -> None:
    layout = laid_out(data)
    if layout is None:
        return
    order = {host.name: host.start_order for host in layout.hosts}
    position = {service.name: place for place, service in enumerate(layout.services)}
    for service in layout.services:
        for earlier in service.after:
            assert position[earlier] < position[service.name]
            assert order[earlier] < order[service.name]
