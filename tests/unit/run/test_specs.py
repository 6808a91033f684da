"""From a host of the layout to the container that Proxmox VE should have."""

from __future__ import annotations

from ipaddress import IPv4Network

from freehold.layout.types import OutgoingRule
from freehold.proxmox.spec import BindMount, FirewallRule
from freehold.run import specs

from .conftest import Open


def test_a_host_becomes_its_container(open_client: Open) -> None:
    client = open_client(
        network={"subnet": "10.86.0.0/24", "gateway": "10.86.0.1", "vlan": 20, "dns": ["9.9.9.9"]},
        nodes={"pve": {"gpus": [{"pci": "0000:01:00.0"}]}},
        hosts={"caddy": {"gpus": [0], "mounts": {"/models": "/tank/models"}, "swap": 0}},
    )
    layout = client.layout
    host = layout.host("caddy")
    spec = specs.container(layout, host, "local:vztmpl/x.tar.zst", "ssh-ed25519 AAAA one")
    assert (spec.vmid, spec.hostname, spec.node, spec.pool) == (1010, "acme-caddy", "pve", "freehold-acme")
    assert spec.tags == ("freehold", "client-acme")
    assert spec.features["nesting"] == "1"
    (interface,) = spec.interfaces
    assert (interface.address, interface.gateway) == ("10.86.0.110/24", "10.86.0.1")
    assert (interface.vlan, interface.firewall, interface.bridge) == (20, True, "vmbr0")
    assert (spec.nameservers, spec.searchdomain) == (("9.9.9.9",), "acme.internal")
    assert spec.mounts == (BindMount(path="/models", source="/tank/models"),)
    assert {device.gid for device in spec.devices} == {2107}
    assert "/dev/nvidia0" in {device.path for device in spec.devices}
    assert spec.swap == 0
    assert spec.ssh_public_keys == "ssh-ed25519 AAAA one"


def test_containers_with_data_are_protected_and_others_are_not(open_client: Open) -> None:
    layout = open_client().layout
    made = {host.name: specs.container(layout, host, "t", "k") for host in layout.hosts}
    assert made["postgres"].volumes
    assert made["postgres"].protection
    assert {spec.protection == bool(spec.volumes) for spec in made.values()} == {True}


def test_without_name_servers_the_node_s_own_are_kept(open_client: Open) -> None:
    layout = open_client().layout
    spec = specs.container(layout, layout.hosts[0], "t", "k")
    assert spec.nameservers == ()
    assert spec.searchdomain is None


def test_proxmox_lets_in_what_the_container_lets_in(open_client: Open) -> None:
    layout = open_client().layout
    for host in layout.hosts:
        firewall = specs.container(layout, host, "t", "k").firewall
        assert firewall
        incoming = [rule for rule in firewall.rules if rule.direction == "in" and rule.protocol != "icmp"]
        assert [rule.ports for rule in incoming] == [str(rule.port) for rule in host.rules]
        assert [rule.peers for rule in incoming] == [tuple(map(str, rule.sources)) for rule in host.rules]


def test_a_host_that_may_reach_nothing_but_its_services_is_closed_outside_too(open_client: Open) -> None:
    layout = open_client().layout
    to = OutgoingRule(
        destinations=(IPv4Network("10.0.0.9"),), port=1024, last=65535, protocol="tcp", comment="cluster"
    )
    host = layout.hosts[0]
    closed = specs.container(layout, host.model_copy(update={"outgoing": (to,)}), "t", "k").firewall
    assert closed
    assert closed.policy_out == "DROP"
    assert closed.rules[-1] == FirewallRule(
        direction="out", protocol="tcp", ports="1024:65535", peers=("10.0.0.9/32",), comment="cluster"
    )
    open_ = specs.container(layout, host.model_copy(update={"outgoing": None}), "t", "k").firewall
    assert open_
    assert open_.policy_out == "ACCEPT"


def test_where_the_stack_does_without_the_flag_no_rules_are_written(open_client: Open) -> None:
    layout = open_client(network={"subnet": "10.86.0.0/24", "gateway": "10.86.0.1", "firewall": False}).layout
    assert {specs.container(layout, host, "t", "k").firewall for host in layout.hosts} == {None}
