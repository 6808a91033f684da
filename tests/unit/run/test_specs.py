"""From a host of the layout to the container that Proxmox VE should have."""

from __future__ import annotations

from freehold.proxmox.spec import BindMount
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
