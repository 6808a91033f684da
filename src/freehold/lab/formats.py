"""The named formats of the Proxmox VE schema as checks (part of a stand-in of Proxmox VE, for development).

Each check takes a value and raises :class:`FormatError` with the text of the real verifier. Source: ``PVE::JSONSchema``,
``PVE::LXC::Config``, ``PVE::Firewall``; the texts stand in the recorded answers under ``tests/contract/pve``. Formats that
the recordings do not show accept what the source's regular expression accepts.
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Callable

Check = Callable[[str], None]

CONTENT_TYPES = ("rootdir", "images", "vztmpl", "iso", "backup", "snippets", "import", "none")
STORAGE_ID = r"[a-z][a-z0-9\-_.]*[a-z0-9]"
PRIVILEGES = frozenset(
    [
        "Datastore.Allocate",
        "Datastore.AllocateSpace",
        "Datastore.AllocateTemplate",
        "Datastore.Audit",
        "Group.Allocate",
        "Mapping.Audit",
        "Mapping.Modify",
        "Mapping.Use",
        "Permissions.Modify",
        "Pool.Allocate",
        "Pool.Audit",
        "Realm.Allocate",
        "Realm.AllocateUser",
        "SDN.Allocate",
        "SDN.Audit",
        "SDN.Use",
        "Sys.AccessNetwork",
        "Sys.Audit",
        "Sys.Console",
        "Sys.Incoming",
        "Sys.Modify",
        "Sys.PowerMgmt",
        "Sys.Syslog",
        "User.Modify",
        "VM.Allocate",
        "VM.Audit",
        "VM.Backup",
        "VM.Clone",
        "VM.Config.CDROM",
        "VM.Config.CPU",
        "VM.Config.Cloudinit",
        "VM.Config.Disk",
        "VM.Config.HWType",
        "VM.Config.Memory",
        "VM.Config.Network",
        "VM.Config.Options",
        "VM.Console",
        "VM.GuestAgent.Audit",
        "VM.GuestAgent.FileRead",
        "VM.GuestAgent.FileSystemMgmt",
        "VM.GuestAgent.FileWrite",
        "VM.GuestAgent.Unrestricted",
        "VM.Migrate",
        "VM.PowerMgmt",
        "VM.Replicate",
        "VM.Snapshot",
        "VM.Snapshot.Rollback",
    ]
)


class FormatError(Exception):
    """The value does not have the format; the text is the verifier's, without a line break."""


def split_list(text: str) -> list[str]:
    """``PVE::Tools::split_list``: separated by comma, semicolon, blank or NUL; empty items are dropped."""
    return [part for part in re.split(r"[,;\x00\s]+", text) if part]


def _pattern(expression: str, text: str) -> Check:
    compiled = re.compile(expression)

    def check(value: str) -> None:
        if not compiled.fullmatch(value):
            raise FormatError(text.format(value=value))

    return check


def _ip(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _is_ipv4(value: str) -> bool:
    return _ip(value) and ":" not in value


def _is_ipv6(value: str) -> bool:
    return _ip(value) and ":" in value


def _network(value: str, version: int) -> bool:
    address, _, prefix = value.partition("/")
    if not prefix.isdigit():
        return False
    top = 32 if version == 4 else 128
    low = 0 if version == 6 else 8
    return (_is_ipv4 if version == 4 else _is_ipv6)(address) and low <= int(prefix) <= top


def _ipv4(value: str) -> None:
    if not _is_ipv4(value):
        raise FormatError("value does not look like a valid IPv4 address")


def _ipv6(value: str) -> None:
    if not _is_ipv6(value):
        raise FormatError("value does not look like a valid IPv6 address")


def _any_ip(value: str) -> None:
    if not _ip(value):
        raise FormatError("value does not look like a valid IP address")


def _cidr(value: str) -> None:
    if not (_network(value, 4) or _network(value, 6)):
        raise FormatError("value does not look like a valid CIDR network")


def _ip_or_cidr(value: str) -> None:
    if not (_ip(value) or _network(value, 4) or _network(value, 6)):
        raise FormatError(f"value does not look like a valid IP address or CIDR network: {value}")


def _ip_or_cidr_or_alias(value: str) -> None:
    if not re.fullmatch(r"(?:dc/|guest/)?[A-Za-z][A-Za-z0-9\-_]+", value):
        _ip_or_cidr(value)


def _ipv4_config(value: str) -> None:
    if value not in ("dhcp", "manual") and not _network(value, 4):
        raise FormatError("value does not look like a valid ipv4 network configuration")


def _ipv6_config(value: str) -> None:
    if value not in ("auto", "dhcp", "manual") and not _network(value, 6):
        raise FormatError("value does not look like a valid ipv6 network configuration")


def _mac(value: str) -> None:
    if not re.fullmatch(r"[0-9a-fA-F][02468aceACE](?::[0-9a-fA-F]{2}){5}", value):
        raise FormatError("value does not look like a valid unicast MAC address")


def _vmid(value: str) -> None:
    if not re.fullmatch(r"[1-9][0-9]{2,8}", value):
        raise FormatError("value does not look like a valid VM ID")


def _dns_name(value: str) -> None:
    if not re.fullmatch(
        r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?\.)*[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?", value
    ):
        raise FormatError("value does not look like a valid DNS name")


def _nameserver(value: str) -> None:
    address, _, scope = value.partition("%")
    if value != "host" and not (_ip(address) and (not scope or _is_ipv6(address))):
        raise FormatError("value does not look like a valid IP address")


def _storage_id(value: str) -> None:
    if not re.fullmatch(STORAGE_ID, value, re.IGNORECASE):
        raise FormatError(f"storage ID '{value}' contains illegal characters")


def _volume_id(value: str) -> None:
    if not re.fullmatch(rf"{STORAGE_ID}:\S+", value, re.IGNORECASE):
        raise FormatError(f"unable to parse volume ID '{value}'\n")


def _absolute_or_volume(value: str) -> None:
    if not value.startswith("/"):
        _volume_id(value)


def _content(value: str) -> None:
    if value not in CONTENT_TYPES:
        raise FormatError(f"invalid content type '{value}'")


def _privilege(value: str) -> None:
    if value not in PRIVILEGES:
        raise FormatError(f"invalid privilege '{value}'")


def _tag(value: str) -> None:
    if not re.fullmatch(r"[a-zA-Z0-9_][a-zA-Z0-9_\-+.]*", value):
        raise FormatError("invalid characters in tag")


def _startup(value: str) -> None:
    for part in value.split(","):
        if part.strip() and not re.fullmatch(r"(?:order=)?\d+|up=\d+|down=\d+", part):
            raise FormatError("unable to parse startup options")


def _timezone(value: str) -> None:
    if value != "host" and value not in zoneinfo.available_timezones():
        raise FormatError(f"invalid time zone '{value}'")


def _device(value: str) -> None:
    if re.search(r"/\.\.?(?:/|$)", value) or not value.startswith("/dev/"):
        raise FormatError(f"{value} is not a valid device path")


def _mount_target(value: str) -> None:
    if re.search(r"/\.\.?(?:/|$)", value):
        raise FormatError(f"{value} contains illegal character sequences")


def _path(value: str) -> None:
    if not value.startswith("/"):
        raise FormatError("value is not an absolute path")


def _email(value: str) -> None:
    if not re.fullmatch(r"[\w+\-~]+(?:\.[\w+\-~]+)*@[a-zA-Z0-9\-]+(?:\.[a-zA-Z0-9\-]+)*", value):
        raise FormatError("value does not look like a valid email address")


def _ports(value: str) -> None:
    for part in value.split(","):
        for port in part.split(":"):
            if port.isdigit():
                if int(port) > 65535:
                    raise FormatError(f"invalid port '{port}'")
            elif not re.fullmatch(r"[A-Za-z][A-Za-z0-9\-]*", port):
                raise FormatError(f"invalid port '{port}'")


def _protocol(value: str) -> None:
    known = [
        "tcp",
        "udp",
        "icmp",
        "icmpv6",
        "ipv6-icmp",
        "igmp",
        "ip",
        "esp",
        "ah",
        "gre",
        "sctp",
        "udplite",
        "vrrp",
        "ospf",
        "pim",
        "ipip",
        "l2tp",
        "dccp",
    ]
    if value not in known and not (value.isdigit() and int(value) < 256):
        raise FormatError(f"unknown protocol '{value}'")


def _any(value: str) -> None:
    del value


_CONFIG_ID = r"[A-Za-z][A-Za-z0-9\-_]+"
_REALM = r"[A-Za-z][A-Za-z0-9.\-_]+"
_IFACE = r"[a-zA-Z][a-zA-Z0-9_]{1,20}(?:[:.]\d+)?"

FORMATS: dict[str, Check] = {
    "CIDR": _cidr,
    "CIDRv4": _cidr,
    "CIDRv6": _cidr,
    "IPorCIDR": _ip_or_cidr,
    "IPorCIDRorAlias": _ip_or_cidr_or_alias,
    "address": _any,
    "disk-size": _pattern(r"\d+(\.\d+)?[KMGT]?", "unable to parse size '{value}'"),
    "dns-name": _dns_name,
    "email": _email,
    "email-or-username": _any,
    "ip": _any_ip,
    "ipv4": _ipv4,
    "ipv4mask": _any,
    "ipv6": _ipv6,
    "lxc-ip-with-ll-iface": _nameserver,
    "mac-addr": _mac,
    "pve-bridge-id": _pattern(r"[-_.\w\d]+", "invalid bridge ID '{value}'"),
    "pve-configid": _pattern(_CONFIG_ID, "invalid configuration ID '{value}'"),
    "pve-ct-timezone": _timezone,
    "pve-dir-override": _any,
    "pve-fw-addr-spec": _any,
    "pve-fw-conntrack-helper": _any,
    "pve-fw-dport-spec": _ports,
    "pve-fw-sport-spec": _ports,
    "pve-fw-icmp-type-spec": _any,
    "pve-fw-protocol-spec": _protocol,
    "pve-groupid": _pattern(_REALM, "group name '{value}' contains invalid characters"),
    "pve-iface": _pattern(_IFACE, "invalid network interface name '{value}'"),
    "pve-ipv4-config": _ipv4_config,
    "pve-ipv6-config": _ipv6_config,
    "pve-lxc-dev-string": _device,
    "pve-lxc-mp-string": _mount_target,
    "pve-node": _pattern(
        r"[a-zA-Z0-9_](?:[a-zA-Z0-9\-_]*[a-zA-Z0-9])?", "value does not look like a valid node name"
    ),
    "pve-poolid": _pattern(
        r"[A-Za-z0-9.\-_]+(?:/[A-Za-z0-9.\-_]+){0,2}", "pool name '{value}' contains invalid characters"
    ),
    "pve-priv": _privilege,
    "pve-realm": _pattern(_REALM, "value does not look like a valid realm"),
    "pve-roleid": _pattern(_REALM, "role name '{value}' contains invalid characters"),
    "pve-startup-order": _startup,
    "pve-storage-content": _content,
    "pve-storage-id": _storage_id,
    "pve-storage-options": _any,
    "pve-storage-path": _path,
    "pve-tag": _tag,
    "pve-task-status-type": _pattern(
        r"ok|error|warning|unknown", "value '{value}' is not a valid task status type"
    ),
    "pve-tokenid": _pattern(
        r"[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+![A-Za-z][A-Za-z0-9.\-_]+",
        "value '{value}' does not look like a valid token ID",
    ),
    "pve-userid": _pattern(
        r"[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+", "value '{value}' does not look like a valid user name"
    ),
    "pve-vlan-id-or-range": _pattern(r"\d+(?:-\d+)?", "invalid VLAN configuration '{value}'"),
    "pve-vmid": _vmid,
    "pve-volume-id": _volume_id,
    "pve-volume-id-or-absolute-path": _absolute_or_volume,
    "pve-storage-portal-dns": _any,
    "pve-storage-server": _any,
    "pve-storage-vgname": _any,
    "pve-storage-zfs-blocksize": _any,
    "storage-pair": _any,
    "string": _any,
    "urlencoded": _any,
}
