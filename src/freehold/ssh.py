"""One SSH configuration per client: it serves ssh, pyinfra, Ansible and Testinfra alike.

Host keys are pinned in ``inventory/<client>/known_hosts``. Proxmox VE prints the fingerprints of a new container's
host keys in the log of its ``vzcreate`` task; the key that the container then shows must have that fingerprint.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
import subprocess
import textwrap
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_random_exponential

from freehold.errors import FreeholdError
from freehold.layout.types import Layout
from freehold.vault import write_private

_SCAN = 20.0
"""Seconds that one ``ssh-keyscan`` may take."""
_PINNING = threading.Lock()
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


class HostKeyError(FreeholdError):
    """A host shows a key that is not the pinned one, or none is known."""


class UnreachableError(FreeholdError):
    """A host does not answer over SSH."""


def run(
    command: Sequence[str], *, timeout: float, doing: str, text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program of OpenSSH with its output kept.

    Args:
        command: Program and arguments; none is a secret, for the process list shows them.
        timeout: Seconds after which it is ended.
        doing: What it is for, for the error.
        text: Its standard input, which may hold secrets.

    Raises:
        UnreachableError: It did not end in time.
        FreeholdError: It is not installed.
    """
    try:
        return subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(
            f"{command[0]} did not end within {timeout:.0f} s",
            doing=doing,
            where=textwrap.shorten(" ".join(command), 200),
            remedy="Look at the machine that it talks to, and run the command again.",
        ) from error
    except FileNotFoundError as error:
        raise FreeholdError(
            f"There is no {command[0]} on this machine", doing=doing, remedy="Install openssh-client."
        ) from error


def state_directory(client: str) -> Path:
    """The client's private directory on this controller (0700): key file, lock; all can be made again."""
    path = platformdirs.user_state_path("freehold") / client
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def control_path(client: str) -> str:
    """``ControlPath`` of a client's connections, with ``%C`` for the connection.

    A socket's path may have 108 bytes, and OpenSSH adds 57 of its own (``%C`` and a suffix while it connects), so it
    cannot lie in a home directory. The client is part of it: two clients may use the same private addresses.

    Raises:
        FreeholdError: The directory belongs to someone else.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    directory = Path(base if base and Path(base).is_dir() else "/tmp") / f"freehold-{os.getuid()}"  # noqa: S108 - short, private, its owner checked
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or not stat.S_ISDIR(status.st_mode):
        raise FreeholdError(
            f"{directory} is not a private directory of yours",
            doing="making a place for shared SSH connections",
            where=str(directory),
            remedy="Find out who made it, and remove it.",
        )
    return f"{directory}/{hashlib.sha256(str(state_directory(client)).encode()).hexdigest()[:8]}-%C"


@dataclass(frozen=True)
class SshAccess:
    """The files that let this controller reach the client's hosts and nodes."""

    config: Path
    key: Path
    known_hosts: Path
    pins: Path
    """``inventory/<client>/known_hosts``: what a team keeps in git."""


def configure(layout: Layout, private_key: str) -> SshAccess:
    """Write key, pinned host keys and configuration of a client into its state directory."""
    state = state_directory(layout.client)
    access = SshAccess(
        config=state / "ssh_config",
        key=state / "id_ed25519",
        known_hosts=state / "known_hosts",
        pins=Path(layout.directory) / "known_hosts",
    )
    write_private(access.key, (private_key if private_key.endswith("\n") else private_key + "\n").encode())
    write_private(access.known_hosts, "".join(_known_lines(layout, access.pins)).encode())
    write_private(access.config, render_config(layout, access, control_path(layout.client)).encode())
    return access


def _known_lines(layout: Layout, pins: Path) -> Iterable[str]:
    if pins.is_file():
        yield from (line + "\n" for line in pins.read_text(encoding="utf-8").splitlines())
    for node in layout.nodes:
        if node.address and node.host_key:
            name = node.address if node.ssh_port == 22 else f"[{node.address}]:{node.ssh_port}"
            yield f"{name} {node.host_key}\n"
        if node.known_hosts and Path(node.known_hosts).is_file():
            yield from (
                line + "\n" for line in Path(node.known_hosts).read_text(encoding="utf-8").splitlines()
            )


def render_config(layout: Layout, access: SshAccess, sockets: str) -> str:
    """The text of the client's ``ssh_config``: an alias for each host and each node that gives SSH.

    ``ControlPath`` is set because without it Testinfra opens a new connection for each assertion.
    """
    common = (
        f"  UserKnownHostsFile {access.known_hosts}\n"
        "  StrictHostKeyChecking yes\n"
        "  HashKnownHosts no\n"
        "  ControlMaster auto\n"
        f"  ControlPath {sockets}\n"
        "  ControlPersist 60\n"
        "  ConnectTimeout 10\n"
        "  ServerAliveInterval 15\n"
        "  LogLevel ERROR\n"
    )
    parts = [f"# Written by Freehold for the client {layout.client}; it is written anew by each run.\n"]
    for host in layout.hosts:
        parts.append(
            f"Host {host.name} {host.hostname}\n"
            f"  HostName {host.address}\n"
            "  User root\n"
            f"  IdentityFile {access.key}\n"
            "  IdentitiesOnly yes\n" + common
        )
    for node in layout.nodes:
        if node.address:
            identity = f"  IdentityFile {node.ssh_key}\n  IdentitiesOnly yes\n" if node.ssh_key else ""
            parts.append(
                f"Host {node.name}\n"
                f"  HostName {node.address}\n"
                f"  User {node.ssh_user}\n"
                f"  Port {node.ssh_port}\n" + identity + common
            )
    return "\n".join(parts)


def fingerprints(task_log: Iterable[str]) -> set[str]:
    """SHA-256 fingerprints of host keys in the log of a ``vzcreate`` task."""
    return {match for line in task_log for match in _FINGERPRINT.findall(line)}


def fingerprint(key: str) -> str:
    """SHA-256 fingerprint of a public key in its base64 form, as OpenSSH prints it."""
    digest = hashlib.sha256(base64.b64decode(key)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def pinned(pins: Path, address: str) -> bool:
    """Whether a key of ``address`` is pinned."""
    if not pins.is_file():
        return False
    return any(line.split(" ", 1)[0] == address for line in pins.read_text(encoding="utf-8").splitlines())


def unpin(pins: Path, address: str) -> None:
    """Forget the keys of ``address``, because its container was removed."""
    if pinned(pins, address):
        lines = pins.read_text(encoding="utf-8").splitlines()
        _write_pins(pins, [line for line in lines if line.split(" ", 1)[0] != address])


def _write_pins(pins: Path, lines: list[str]) -> None:
    write_private(pins, "".join(line + "\n" for line in sorted(set(lines))).encode())


def pin(pins: Path, host: str, address: str, trusted: set[str], *, deadline: int = 60) -> None:
    """Pin the host key that ``address`` shows, if its fingerprint is one of ``trusted``.

    Args:
        pins: The client's ``known_hosts``.
        host: Name of the host, for messages.
        address: Address of the host.
        trusted: Fingerprints that Proxmox VE printed when it made the container.
        deadline: Seconds to wait for the host's SSH server.

    Raises:
        UnreachableError: The host does not answer in time.
        HostKeyError: None of the keys shown has a trusted fingerprint.
    """
    # ed25519 first: with an RSA key pinned, paramiko asks for the signature that OpenSSH 10 no longer makes
    shown = sorted(_scan(host, address, deadline), key=lambda key: key[0] != "ssh-ed25519")
    for kind, key in shown:
        if fingerprint(key) in trusted:
            with _PINNING:
                lines = pins.read_text(encoding="utf-8").splitlines() if pins.is_file() else []
                kept = [line for line in lines if line.split(" ", 1)[0] != address]
                _write_pins(pins, [*kept, f"{address} {kind} {key}"])
            return
    raise HostKeyError(
        f"{host} shows an SSH host key that Proxmox VE did not print when it made the container",
        doing=f"pinning the host key of {address}",
        answer="shown: " + ", ".join(fingerprint(key) for _, key in shown),
        where=str(pins),
        remedy="Another machine may answer at this address. Find out which; then remove it or give the host another address.",
    )


def wait_until_answering(host: str, address: str, *, deadline: int = 60) -> None:
    """Wait until the SSH server of a host that was just started shows a key; which one is OpenSSH's business.

    Raises:
        UnreachableError: The host does not answer within ``deadline`` seconds.
    """
    _scan(host, address, deadline, kinds="ed25519")


def disconnect(access: SshAccess, host: str) -> None:
    """End the shared connection to a host, if there is one: it leads into a container that was since restarted."""
    run(["ssh", "-F", str(access.config), "-O", "exit", host], timeout=10, doing=f"disconnecting from {host}")


def _scan(
    host: str, address: str, deadline: int, *, kinds: str = "ed25519,ecdsa,rsa"
) -> list[tuple[str, str]]:
    def keys() -> list[tuple[str, str]]:
        try:
            scan = run(
                ["ssh-keyscan", "-T", "3", "-t", kinds, address],
                timeout=_SCAN,
                doing=f"asking {host} for its host key",
            )
        except UnreachableError:
            return []
        lines = [line.split() for line in scan.stdout.splitlines() if line and not line.startswith("#")]
        return [(kind, key) for _, kind, key in lines]

    try:
        return Retrying(
            retry=retry_if_result(lambda found: not found),
            stop=stop_after_delay(deadline),
            wait=wait_random_exponential(multiplier=0.2, max=2),
        )(keys)
    except RetryError as error:
        raise UnreachableError(
            f"{host} does not answer over SSH at {address}",
            doing=f"waiting {deadline} s for its SSH server",
            where=address,
            remedy="See the console of the container in the Proxmox VE web interface; check bridge, VLAN and gateway in the stack file.",
        ) from error
