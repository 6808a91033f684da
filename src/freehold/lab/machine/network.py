"""The lab's own bridge with NAT (lab: a stand-in of a Proxmox VE node, for development).

Containers reach each other on the bridge, the resolver and tcp 80 and 443 outside, and the lab's file server on the
bridge's address. They reach nothing else of the machine that hosts the lab. Bridges of VLANs have no address and no way
out; the host would still answer on them, to any of its addresses, if no rule kept it from that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_network
from pathlib import Path

from freehold.errors import BadInputError
from freehold.lab.backend import BackendError
from freehold.lab.machine.commands import run

ALIAS = "freehold lab"
IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
MIRROR_PORT = 8080
CLOUD_PORT = 8447
"""Where the stand-in of cloud providers answers."""
SUBNET = IPv4Network("10.86.0.0/24")

RULES = """
table inet {table} {{}}
delete table inet {table}
table inet {table} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat
    ip saddr {subnet} ip daddr != {subnet} masquerade
  }}
  chain forward {{
    type filter hook forward priority filter
    iifname "{bridge}v*" oifname != "{bridge}v*" drop
    iifname != "{bridge}v*" oifname "{bridge}v*" drop
    iifname != "{bridge}" oifname != "{bridge}" accept
    iifname "{bridge}" oifname "{bridge}" accept
    tcp flags syn tcp option maxseg size set rt mtu
    ct state established,related accept
    oifname "{bridge}" drop
    ip daddr 169.254.0.0/16 reject
    meta l4proto {{ tcp, udp }} th dport 53 accept
    tcp dport {{ 80, 443 }} accept
    reject
  }}
  chain input {{
    type filter hook input priority filter
    iifname "{bridge}v*" drop
    iifname != "{bridge}" accept
    ct state established,related accept
    meta l4proto {{ icmp, ipv6-icmp }} accept
    tcp dport {{ {mirror}, {cloud} }} accept
    reject
  }}
}}
"""


@dataclass(frozen=True)
class LabNetwork:
    """Bridge, addresses and the names of host-side interfaces; ``vmbr0`` of the API is ``bridge`` here."""

    bridge: str = "fhlab0"
    subnet: IPv4Network = SUBNET
    veth: str = "fhv"

    @property
    def gateway(self) -> IPv4Address:
        """The bridge's own address."""
        return self.subnet[1]

    @property
    def node_address(self) -> IPv4Address:
        """The address of the node's container."""
        return self.subnet[2]

    def veth_name(self, vmid: int, index: int) -> str:
        """The host side of a container's network interface (15 characters at most)."""
        return f"{self.veth}{vmid}i{index}"

    def container_name(self, guest: int | str) -> str:
        """The name of a container for LXC, unlike that of any other lab's on this machine."""
        return f"{self.bridge}-{guest}"

    def ensure(self) -> bool:
        """Make the bridge, its address, forwarding and the packet rules; what is there stays.

        Returns whether the host's IPv4 forwarding had to be switched on.

        Raises:
            BadInputError: The bridge's name or subnet is taken by something else of this machine.
        """
        links = {link["ifname"]: link for link in json.loads(run(["ip", "-j", "link", "show"]))}
        if self.bridge in links and links[self.bridge].get("ifalias") != ALIAS:
            raise BadInputError(
                f"an interface named {self.bridge} exists and is not the lab's",
                remedy="Remove it, or start the lab with another --bridge.",
            )
        for route in json.loads(run(["ip", "-j", "-4", "route", "show"])):
            taken = route["dst"] != "default" and ip_network(route["dst"], strict=False)
            if taken and route.get("dev") != self.bridge and taken.overlaps(self.subnet):
                raise BadInputError(
                    f"the lab's subnet {self.subnet} overlaps with {route['dst']} on {route.get('dev')}",
                    remedy="Start the lab with another --subnet.",
                )
        if self.bridge not in links:
            run(["ip", "link", "add", "name", self.bridge, "type", "bridge"])
            run(["ip", "link", "set", self.bridge, "alias", ALIAS])
        run(["ip", "addr", "replace", f"{self.gateway}/{self.subnet.prefixlen}", "dev", self.bridge])
        run(["ip", "link", "set", self.bridge, "up"])
        switched_on = IP_FORWARD.read_text().strip() != "1"
        if switched_on:
            IP_FORWARD.write_text("1\n")
        rules = RULES.format(
            table=self.bridge, bridge=self.bridge, subnet=self.subnet, mirror=MIRROR_PORT, cloud=CLOUD_PORT
        )
        run(["nft", "-f", "-"], stdin=rules)
        return switched_on

    def remove(self) -> None:
        """Remove the bridges and the rules; gone already is fine."""
        for link in Path("/sys/class/net").iterdir():
            if (
                re.fullmatch(rf"{self.bridge}(v\d+)?", link.name)
                and (link / "ifalias").read_text().strip() == ALIAS
            ):
                run(["ip", "link", "del", link.name])
        try:
            run(["nft", "delete", "table", "inet", self.bridge])
        except BackendError as error:
            if "No such file" not in str(error):
                raise

    def bridge_for(self, net: Mapping[str, str]) -> str:
        """The bridge of the host for a ``net[n]`` setting.

        A VLAN tag gives a bridge of its own, without uplink, as Proxmox VE makes ``vmbr0v30`` on a bridge that is
        not VLAN-aware (pve-common ``src/PVE/Network.pm``): interfaces of one VLAN reach each other and nothing else.

        Raises:
            BackendError: The API knows no such bridge.
        """
        if net.get("bridge") not in (None, "vmbr0"):
            raise BackendError(f"bridge '{net['bridge']}' does not exist")
        if "tag" not in net:
            return self.bridge
        name = f"{self.bridge}v{net['tag']}"
        if not Path(f"/sys/class/net/{name}").exists():
            run(["ip", "link", "add", "name", name, "type", "bridge"])
            run(["ip", "link", "set", name, "alias", ALIAS])
        run(["ip", "link", "set", name, "up"])
        return name


def host_nameservers() -> list[str]:
    """The host's resolvers that a container can reach too (not on loopback)."""
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        if not path.exists():
            continue
        words = [line.split() for line in path.read_text().splitlines()]
        servers = [w[1] for w in words if len(w) > 1 and w[0] == "nameserver"]
        if usable := [s for s in servers if not s.startswith("127.") and s != "::1"]:
            return usable
    raise BadInputError(
        "this machine's resolver listens on loopback only, where containers cannot reach it",
        where="/etc/resolv.conf",
        remedy="Add a nameserver that containers can reach to /etc/resolv.conf, then start the lab again.",
    )
