"""What makes a container itself: name, network, keys, password (lab: a stand-in of a Proxmox VE node).

The files and their wording follow pve-container (``src/PVE/LXC/Setup/Base.pm`` and ``Debian.pm``): at creation the
machine id, SSH host keys, root's password and keys; at every start the host name, hosts, resolver and network.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from freehold.lab.backend import Log
from freehold.lab.machine.commands import run
from freehold.lab.machine.guestfiles import GuestFiles

BEGIN, END = "# --- BEGIN PVE ---", "# --- END PVE ---"


@dataclass(frozen=True)
class Identity:
    """Names and resolver of a container."""

    hostname: str
    nameservers: Sequence[str]
    searchdomain: str | None = None
    timezone: str | None = None


def personalise_once(
    files: GuestFiles, hostname: str, *, ssh_public_keys: str | None, password: str | None, log: Log
) -> None:
    """Give a new container its machine id, SSH host keys, root password and root's authorized keys."""
    forget_machine_id(files)
    for kind in ("rsa", "ecdsa", "ed25519"):
        name = f"ssh_host_{kind}_key"
        log(f"Creating SSH host key '{name}' - this may take some time ...")
        private, public = make_ssh_key(kind, f"root@{hostname}")
        files.write(f"/etc/ssh/{name}", private, 0o600)
        files.write(f"/etc/ssh/{name}.pub", public + "\n")
        log(f"done: {fingerprint(public)} root@{hostname}")
    if password is not None:
        set_root_password(files, password)
    if ssh_public_keys:
        files.make_folder("/root/.ssh")
        files.chmod("/root/.ssh", 0o700)
        keys = ssh_public_keys.strip()
        files.write("/root/.ssh/authorized_keys", f"{BEGIN}\n{keys}\n{END}\n", 0o600)


def forget_machine_id(files: GuestFiles) -> None:
    """Let systemd make a machine id at the next start."""
    files.write("/etc/machine-id", "")
    files.remove("/var/lib/dbus/machine-id")
    files.link("/var/lib/dbus/machine-id", "/etc/machine-id")


def personalise_each_start(
    files: GuestFiles, identity: Identity, nets: Mapping[int, Mapping[str, str]]
) -> None:
    """Write host name, hosts, resolver, time zone and network as the configuration has them now."""
    files.write("/etc/hostname", identity.hostname + "\n")
    address = next((ip for net in nets.values() if (ip := static_address(net, "ip"))), None)
    short = identity.hostname.split(".")[0]
    full = identity.hostname
    if "." not in full and identity.searchdomain:
        full = f"{short}.{identity.searchdomain.split()[0]}"
    names = full if full == short else f"{full} {short}"
    hosts = f"{address.split('/')[0] if address else '127.0.1.1'} {names}"
    if "localhost" not in (old := files.read("/etc/hosts")):
        old = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n" + old
    files.write("/etc/hosts", with_section(old, hosts))
    resolver = [f"search {identity.searchdomain}"] if identity.searchdomain else []
    resolver += [f"nameserver {server}" for server in identity.nameservers]
    files.write("/etc/resolv.conf", with_section("", "\n".join(resolver)))
    if identity.timezone:
        zone = "UTC" if identity.timezone == "host" else identity.timezone
        files.link("/etc/localtime", f"/usr/share/zoneinfo/{zone}")
    write_interfaces(files, nets)


def write_interfaces(files: GuestFiles, nets: Mapping[int, Mapping[str, str]]) -> None:
    """Write ``/etc/network/interfaces`` for ifupdown, as pve-container does for Debian."""
    text = ["auto lo", "iface lo inet loopback", ""]
    for _, net in sorted(nets.items()):
        name = net["name"]
        text.append(f"auto {name}")
        for family, key, gateway in (("inet", "ip", "gw"), ("inet6", "ip6", "gw6")):
            value = net.get(key)
            if value is None or (family == "inet6" and value == "manual"):
                continue
            if value in ("dhcp", "auto", "manual"):
                text.append(f"iface {name} {family} {value}")
                continue
            text += [f"iface {name} {family} static", f"\taddress {value}"]
            if net.get(gateway):
                text.append(f"\tgateway {net[gateway]}")
        if not net.get("ip"):
            text.append(f"iface {name} inet manual")
        text.append("")
    files.write("/etc/network/interfaces", "\n".join(text))


def static_address(net: Mapping[str, str], key: str) -> str | None:
    """The address with prefix under ``ip`` or ``ip6``, or None for dhcp, auto, manual and absent."""
    value = net.get(key)
    if value in (None, "dhcp", "auto", "manual"):
        return None
    return str(ip_interface(value))


def with_section(text: str, section: str) -> str:
    """``text`` with Proxmox VE's marked section replaced by ``section`` (or appended)."""
    block = f"{BEGIN}\n{section}\n{END}\n"
    pattern = re.compile(rf"^{BEGIN}$.*?^{END}$\n?", re.MULTILINE | re.DOTALL)
    if pattern.search(text):
        return pattern.sub(lambda _: block, text, count=1)
    return text + ("" if not text or text.endswith("\n") else "\n") + block


def set_root_password(files: GuestFiles, password: str) -> None:
    """Put the hash of root's password into the container's shadow file."""
    hashed = run(["openssl", "passwd", "-6", "-stdin"], stdin=password + "\n").strip()
    day = int(time.time()) // 86400
    lines = [
        f"root:{hashed}:{day}:0:99999:7:::" if line.startswith("root:") else line
        for line in files.read("/etc/shadow").splitlines()
    ]
    files.write("/etc/shadow", "\n".join(lines) + "\n", 0o600)


def make_ssh_key(kind: str, comment: str) -> tuple[str, str]:
    """A new SSH key pair in OpenSSH's formats: private text, public line with its comment."""
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    if kind == "rsa":
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    elif kind == "ecdsa":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return private, f"{public} {comment}"


def fingerprint(public_key: str) -> str:
    """The SHA-256 fingerprint of a public key line, as ``ssh-keygen -l`` prints it."""
    digest = hashlib.sha256(base64.b64decode(public_key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
