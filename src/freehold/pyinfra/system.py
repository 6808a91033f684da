"""Operations on a host over SSH that do much in few commands.

pyinfra's own operations ask the host once or more for each file and each unit; a base system has dozens. These ask
once for all, and then yield one command for each thing that differs.

A file may name a *handler*. The handler is noted on the host in the same command that puts the file in place, and
the note is removed when the handler has run: a run that is killed in between is finished by the next one.
"""

# mypy: allow-subclassing-any, allow-untyped-decorators
from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address
from typing import Any

from pyinfra import host
from pyinfra.api import HiddenValue, QuoteString, StringCommand, operation

from freehold.pyinfra.facts import (
    ARCHIVES,
    ASIDE,
    FIREWALL_APPLIED,
    FIREWALL_IN_FORCE,
    MANIFEST,
    PENDING,
    ArchiveFiles,
    ControllerAddress,
    FirewallInForce,
    HostManifest,
    InstalledPackages,
    PathState,
    PathStates,
    PendingHandlers,
    SystemUsers,
    UnitState,
    UnitStates,
)

APT = "DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300"


@dataclass(frozen=True)
class File:
    """A file with its whole content.

    ``handler`` names what must run after a change, ``validate`` is a command that must succeed before the old file is
    replaced; ``%s`` in it is the path of the new file.
    """

    path: str
    content: str
    mode: str = "644"
    owner: str = "root"
    group: str = "root"
    handler: str | None = None
    validate: str | None = None

    @property
    def sha256(self) -> str:
        """Checksum of the content."""
        return hashlib.sha256(self.content.encode()).hexdigest()


@dataclass(frozen=True)
class Directory:
    """A directory; its parents are made as needed."""

    path: str
    mode: str = "755"
    owner: str = "root"
    group: str = "root"


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    path: str
    target: str
    handler: str | None = None


@dataclass(frozen=True)
class Absent:
    """A file that must not be there."""

    path: str
    handler: str | None = None


Entry = File | Directory | Link | Absent


@operation()
def tree(entries: Sequence[Entry]) -> Iterator[StringCommand]:
    """Put files, directories and links in place.

    + entries: what should be there, in the order in which it is made

    A changed file is written beside the old one, validated, and moved over it: a reader sees the old or the new one.
    """
    states = host.get_fact(PathStates, paths=[entry.path for entry in entries])
    for entry in entries:
        state = states.get(entry.path)
        match entry:
            case File() if not _is(entry, state, entry.sha256):
                yield _write(entry)
            case Directory() if not _is(entry, state, ""):
                yield _script(
                    f"make directory {entry.path}",
                    'mkdir -p "$1" && chown "$2" "$1" && chmod "$3" "$1"',
                    entry.path,
                    f"{entry.owner}:{entry.group}",
                    entry.mode,
                )
            case Link() if state != PathState("link", content=entry.target):
                yield _script(
                    f"link {entry.path} -> {entry.target}",
                    _NOTE + 'ln -sfn "$2" "$1"',
                    entry.path,
                    entry.target,
                    handler=entry.handler,
                )
            case Absent() if state is not None:
                yield _script(f"remove {entry.path}", _NOTE + 'rm -f "$1"', entry.path, handler=entry.handler)
            case _:
                host.noop(f"{entry.path} is as it should be")


def _is(entry: File | Directory, state: PathState | None, content: str) -> bool:
    kind = "file" if isinstance(entry, File) else "directory"
    return state == PathState(kind, entry.mode.lstrip("0"), entry.owner, entry.group, content)


# The note comes before the change: a handler that runs once too often does no harm, one that never runs does.
_NOTE = f'[ -z "$HANDLER" ] || {{ mkdir -p {PENDING} && : > {PENDING}/"$HANDLER"; }} && '


def _write(file: File) -> StringCommand:
    check = (file.validate or "true").replace("%s", '"$new"')
    return _script(
        f"write {file.path}",
        'set -e; umask 077; mkdir -p -m 755 "$(dirname "$1")"; '
        'new=$(mktemp "$1.XXXXXX"); trap \'rm -f "$new"\' EXIT; '
        f'cat > "$new"; {check} >&2; chown "$2" "$new"; chmod "$3" "$new"; '
        + _NOTE
        + 'mv -f "$new" "$1"; trap - EXIT',
        file.path,
        f"{file.owner}:{file.group}",
        file.mode,
        handler=file.handler,
        stdin=file.content,
    )


def _script(
    shown: str, text: str, *arguments: str, handler: str | None = None, stdin: str | None = None
) -> StringCommand:
    """A shell script with arguments, which pyinfra shows as ``shown``."""
    raw = f"HANDLER={handler or ''} {shlex.join(['sh', '-c', text, 'freehold', *arguments])}"
    extra = {} if stdin is None else {"_stdin": stdin}
    return StringCommand(HiddenValue(raw, shown), **extra)


@operation()
def handlers(commands: Mapping[str, str]) -> Iterator[StringCommand]:
    """Run the handlers that changed files have asked for, and forget them.

    + commands: shell command by name of the handler, in the order in which they run
    """
    pending = host.get_fact(PendingHandlers)
    for name, command in commands.items():
        if name in pending:
            yield StringCommand("sh", "-c", QuoteString(f"{{ {command}; }} && rm -f {PENDING}/{name}"))


@operation()
def only_own_archives(handler: str) -> Iterator[StringCommand]:
    """Put every list of package archives aside whose file name does not begin with ``freehold``.

    + handler: what must run after a change
    """
    for path in host.get_fact(ArchiveFiles):
        if not path.endswith(ASIDE) and not _is_own(path):
            yield _script(f"put {path} aside", _NOTE + 'mv -f "$1" "$2"', path, path + ASIDE, handler=handler)


@operation()
def no_own_archives(handler: str) -> Iterator[StringCommand]:
    """Bring the lists of package archives back that were put aside, and remove ours.

    + handler: what must run after a change
    """
    there = host.get_fact(ArchiveFiles)
    for path in (path for path in there if path.endswith(ASIDE)):
        before = path.removesuffix(ASIDE)
        yield _script(f"put {before} back", _NOTE + 'mv -f "$1" "$2"', path, before, handler=handler)
    own = f"{ARCHIVES}/freehold.sources"
    if own in there and any(not _is_own(path) for path in there):
        yield _script(f"remove {own}", _NOTE + 'rm -f "$1"', own, handler=handler)


def _is_own(path: str) -> bool:
    return path.rsplit("/", 1)[-1].startswith("freehold")


@operation()
def packages(names: Sequence[str], timeout: int = 900) -> Iterator[StringCommand]:
    """Install Debian packages; package lists are read only when something is missing.

    + names: packages
    + timeout: seconds for reading the lists and for the installation, each
    """
    installed = host.get_fact(InstalledPackages, packages=list(names))
    interrupted = InstalledPackages.INTERRUPTED in installed
    if interrupted:
        # apt waits until nobody else is at work, which dpkg alone does not
        yield StringCommand(
            f"{APT} check >/dev/null 2>&1; DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold --configure -a",
            _timeout=timeout,
        )
    missing = [name for name in names if name not in installed]
    if not missing:
        if not interrupted:
            host.noop("all packages are installed")
        return
    yield StringCommand(f"{APT} -o Acquire::Retries=3 update", _timeout=timeout)
    yield StringCommand(
        f"{APT} install --no-install-recommends -y", *map(QuoteString, missing), _timeout=timeout
    )


@operation()
def system_users(names: Sequence[str] = ()) -> Iterator[StringCommand]:
    """Make system users who are not there yet, as Debian's packages would make them (``adduser --system --group``).

    + names: users; who exists stays as they are
    """
    there = host.get_fact(SystemUsers, names=list(names)) if names else set()
    missing = [name for name in names if name not in there]
    if not missing:
        host.noop("all users are there")
    for name in missing:
        yield StringCommand(
            "useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin",
            QuoteString(name),
        )


@operation()
def units(
    running: Sequence[str] = (), masked: Sequence[str] = (), enabled: Sequence[str] = ()
) -> Iterator[StringCommand]:
    """Enable, start and mask systemd units.

    + running: units that are enabled and started
    + masked: units that must never start
    + enabled: units that are enabled if the host has them; one that somebody masked stays masked
    """
    wanted = [*running, *masked, *enabled]
    unknown = dict.fromkeys(wanted, UnitState("not-found", "inactive", ""))
    states = unknown | host.get_fact(UnitStates, units=wanted)
    to_mask = [name for name in masked if states[name].file != "masked"]
    if to_mask:
        yield StringCommand("systemctl", "mask", "--now", *map(QuoteString, to_mask), "2>&1")
    to_enable = [
        name
        for name in (*running, *enabled)
        if states[name].file not in ("enabled", "static", "masked")
        and (name in running or states[name].load == "loaded")
    ]
    if to_enable:
        yield StringCommand("systemctl", "enable", *map(QuoteString, to_enable), "2>&1")
    to_start = [name for name in running if states[name].active != "active"]
    if to_start:
        yield StringCommand("systemctl", "start", *map(QuoteString, to_start))


@operation()
def keep_reachable(sources: Sequence[IPv4Network]) -> Iterator[StringCommand]:
    """Fail before a firewall would lock this controller out.

    + sources: networks from which the firewall will allow SSH
    """
    address = host.get_fact(ControllerAddress)
    if address and not any(ip_address(address) in network for network in sources):
        listed = ", ".join(str(network) for network in sources) or "none"
        yield fail(
            f"The firewall would lock this controller out: it comes from {address}, and SSH is allowed from {listed}. "
            "Add its network to network.admins in the stack file."
        )
    else:
        host.noop("the firewall lets this controller in")


@operation()
def firewall() -> Iterator[StringCommand]:
    """Make the rules in force those of ``/etc/nftables.conf``, also where somebody changed them by hand."""
    if host.get_fact(FirewallInForce):
        host.noop("the firewall is in force")
        return
    yield StringCommand(
        f"nft -f /etc/nftables.conf && mkdir -p /var/lib/freehold && {FIREWALL_IN_FORCE} > {FIREWALL_APPLIED}"
    )


@operation()
def manifest(section: Mapping[str, Any]) -> Iterator[StringCommand]:
    """Note in the host's manifest what the base deploy put there; the services' own sections stay as they are.

    + section: ``digest``, ``files`` (checksum by path) and ``units`` (state by unit)
    """
    there = host.get_fact(HostManifest).get("manifest", {})
    if there.get("base") == section:
        host.noop("the manifest is up to date")
        return
    command = shlex.join(["python3", "-c", _WRITE_MANIFEST])
    yield StringCommand(HiddenValue(command, f"write {MANIFEST}"), _stdin=json.dumps(section, sort_keys=True))


_WRITE_MANIFEST = f"""
import json, os, sys
path = {MANIFEST!r}
try:
    with open(path) as handle:
        manifest = json.load(handle)
except (OSError, ValueError):
    manifest = {{}}
manifest["base"] = json.load(sys.stdin)
os.umask(0o077)
with open(path + ".new", "w") as handle:
    json.dump(manifest, handle, indent=1, sort_keys=True)
    handle.write("\\n")
os.replace(path + ".new", path)
"""


def section(entries: Sequence[Entry], running: Sequence[str], packages: Sequence[str]) -> dict[str, Any]:
    """The section of a manifest that says what :func:`tree`, :func:`units` and :func:`packages` were given."""
    files = {entry.path: entry.sha256 for entry in entries if isinstance(entry, File)}
    units = dict.fromkeys(sorted(running), "active")
    text = json.dumps([files, units, sorted(packages), [repr(entry) for entry in entries]], sort_keys=True)
    return {"digest": hashlib.sha256(text.encode()).hexdigest(), "files": files, "units": units}


def fail(message: str) -> StringCommand:
    """A command that fails on the host with ``message``, so that this host stops and the others go on."""
    return StringCommand("echo", QuoteString(message), ">&2;", "exit 1")


def plain(text: str) -> str:
    """``text`` as it may stand inside a quoted string of nftables or systemd (at most 100 characters)."""
    return re.sub(r"[^A-Za-z0-9 ,.:/_()+-]", "", text)[:100]
