"""Facts and operations of the NVIDIA driver: on a node over SSH as root, and its user space in containers.

One file, NVIDIA's own ``.run``, serves both (``docs/decisions/nvidia-driver.md``). Options: ``nvidia-installer -A``.
"""

# mypy: allow-subclassing-any, allow-untyped-decorators
from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence

from pyinfra import host
from pyinfra.api import FactBase, HiddenValue, QuoteString, StringCommand, operation
from typing_extensions import override

from freehold.catalog.drivers import number
from freehold.nvidia import CACHE, LIBRARIES, MARKER, PROBE, UNFINISHED, NodeDriver, Release, troubles
from freehold.pyinfra.facts import PENDING
from freehold.pyinfra.system import APT, fail

WAY_OUT = "/usr/local/libexec/freehold-way-out"
"""Program of a container that says through which proxy it reaches an address, or ``DIRECT`` (``deploys/base.py``)."""
_INSTALLATION = 2400
"""Seconds for fetching 400 MB, and for building modules for one kernel."""
_LOG = "/var/log/nvidia-installer.log"
_WORK = f"{CACHE}/work"
"""Where installers unpack themselves: on the disk, and in a directory of root's alone, for what lies there is run as root."""

NODE_OPTIONS = "--silent --dkms --no-x-check --no-install-compat32-libs --no-rebuild-initramfs --allow-installation-with-running-driver"
"""On a node. A driver that runs stays loaded until the node is rebooted; what the installer would ask is answered by what was
looked at before."""
GUEST_OPTIONS = (
    "--silent --no-kernel-modules --no-kernel-module-source --no-dkms --skip-module-load --skip-depmod --no-rebuild-initramfs"
    " --no-nouveau-check --no-x-check --no-nvidia-modprobe --no-systemd --no-install-compat32-libs --no-distro-scripts"
    " --no-check-for-alternate-installs --no-backup --allow-installation-with-running-driver"
)
"""In a container: user space alone. Modules and device nodes are the node's."""

# Runs on hosts, whose Python may be older than the controller's. What was cut off goes on where it stopped.
_FETCH = """
import hashlib, http.client, os, sys, time, urllib.error, urllib.request
url, checksum, path = sys.argv[1:4]
part = path + ".part"
def digest(name):
    found = hashlib.sha256()
    with open(name, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()
if os.path.exists(path) and digest(path) == checksum:
    sys.exit()
for attempt in range(5):
    done = os.path.getsize(part) if os.path.exists(part) else 0
    request = urllib.request.Request(url, headers={"Range": "bytes=%d-" % done} if done else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            done = done if answer.status == 206 else 0
            whole = done + int(answer.headers.get("Content-Length") or 0)
            with open(part, "ab" if done else "wb") as stream:
                for block in iter(lambda: answer.read(1 << 20), b""):
                    stream.write(block)
        if os.path.getsize(part) < whole:
            raise OSError("the connection ended after %d of %d bytes" % (os.path.getsize(part), whole))
    except urllib.error.HTTPError as error:
        if error.code != 416:
            sys.exit("%s answers HTTP %d" % (url, error.code))
    except (OSError, http.client.HTTPException) as error:
        if attempt == 4:
            sys.exit("%s cannot be read: %s" % (url, error))
        time.sleep(2 << attempt)
        continue
    found = digest(part)
    if found == checksum:
        os.chmod(part, 0o600)
        os.replace(part, path)
        sys.exit()
    os.unlink(part)
    if not done:
        sys.exit("%s is not what the lock names: its SHA-256 is %s, and must be %s" % (url, found, checksum))
"""


class DriverState(FactBase[NodeDriver]):
    """What a node has of the NVIDIA driver, in one command."""

    @staticmethod
    @override
    def default() -> NodeDriver:
        return NodeDriver("", "")

    @override
    def command(self) -> StringCommand:
        return StringCommand("sh", "-c", QuoteString(PROBE))

    @override
    def process(self, output: list[str]) -> NodeDriver:
        return NodeDriver.parse("\n".join(output))


class UserSpace(FactBase[dict[str, list[str]]]):
    """The user space of the driver in a container: ``version``, ``library`` files and Debian ``package`` names."""

    default = dict

    @override
    def command(self) -> StringCommand:
        script = (
            f"[ ! -s {MARKER} ] || echo version $(cat {MARKER}); "
            f"for f in {LIBRARIES}/libcuda.so.*.*; do [ ! -f $f ] || echo library ${{f##*/libcuda.so.}}; done; "
            "dpkg-query -W -f '${db:Status-Status} ${Package}\\n' 'nvidia-*' 'libnvidia-*' 'libcuda1*' 2>/dev/null"
            " | sed -n '/container/d; s/^\\(half-\\)\\{0,1\\}installed /package /p' || true"
        )
        return StringCommand("sh", "-c", QuoteString(script))

    @override
    def process(self, output: list[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for line in output:
            key, _, value = line.partition(" ")
            found.setdefault(key, []).append(value)
        return found


def _fetch(release: Release, path: str) -> HiddenValue:
    """The program that fetches a file, shown by what it fetches."""
    command = shlex.join(["python3", "-c", _FETCH, release.url, release.sha256, path])
    return HiddenValue(command, f"fetch {release.url} ({release.sha256}) to {path}")


def _check(release: Release, path: str) -> str:
    """Fails unless a file that was fetched in an earlier run is still what the lock names; the next run fetches it again then."""
    line = shlex.quote(f"{release.sha256}  {path}")
    return f"{{ echo {line} | sha256sum -c - > {_LOG} 2>&1 || {{ rm -f {path}.json; false; }}; }}"


def _run(path: str) -> str:
    """Runs an installer, which unpacks itself into a directory with a name that can be foretold."""
    return f"rm -rf {_WORK} && mkdir -m 700 {_WORK} && TMPDIR={_WORK} sh {path}"


@operation()
def possible(release: Release, client: str, cards: Sequence[str], replace: bool) -> Iterator[StringCommand]:
    """Fail with a reason before anything is changed, where the driver could not be installed or used.

    + release: what the client's lock names
    + client: name of the client
    + cards: PCI addresses of the GPUs that it wants
    + replace: whether another version that is installed makes way
    """
    state = host.get_fact(DriverState)
    installs = replace or state.settled is None
    blocking = [
        each
        for each in troubles(state, release, client=client, cards=cards, installs=installs)
        if each.blocks
    ]
    if blocking:
        yield fail(" ".join(f"{each.detail}. {each.remedy}" for each in blocking))
    else:
        host.noop("nothing stands in the way of the driver")


@operation()
def build_tools() -> Iterator[StringCommand]:
    """Install DKMS, a compiler, and the headers of the kernels that run now and after the next boot.

    The package with the headers has the name of its kernel's maker: Proxmox VE since 8.1, Proxmox VE before, or Debian. The
    default headers come along, so that a later kernel brings its own.
    """
    state = host.get_fact(DriverState)
    missing = [kernel for kernel in state.kernels if kernel not in state.headers]
    if not missing and state.dkms:
        host.noop("DKMS and headers are there")
        return
    script = f"""
first() {{ for p; do apt-cache show "$p" 2>/dev/null | grep -q ^Filename && {{ echo "$p"; return; }}; done; return 1; }}
wanted() {{
    for k; do first "proxmox-headers-$k" "pve-headers-$k" "linux-headers-$k" || echo "proxmox-headers-$k"; done
    first proxmox-default-headers pve-headers || true
}}
there() {{ dpkg-query -W -f '${{db:Status-Status}}\\n' "$@" 2>/dev/null | grep -cx installed | grep -qx $#; }}
install() {{ there build-essential dkms $(wanted "$@") || {APT} install --no-install-recommends -y build-essential dkms $(wanted "$@"); }}
install "$@" || {{ {APT} update; install "$@"; }}"""
    yield StringCommand(
        "sh", "-c", QuoteString(script), "headers", *map(QuoteString, missing), _timeout=_INSTALLATION
    )


@operation()
def cached(release: Release, replace: bool) -> Iterator[StringCommand]:
    """Keep the installer of a release in the node's cache, and that of the installed one for the way back; no others.

    + release: what should be installed
    + replace: whether another version that is installed makes way; otherwise its own former one stays
    """
    state = host.get_fact(DriverState)
    if state.settled not in {None, release.version} and not replace:
        host.noop(f"the cache stays that of {state.settled}")
        return
    if release not in state.cache:
        path = f"{CACHE}/{release.file}"
        note = shlex.quote(release.model_dump_json())
        yield StringCommand(
            f"mkdir -p -m 755 {CACHE} &&",
            _fetch(release, path),
            f"&& printf '%s\\n' {note} > {path}.json",
            _timeout=_INSTALLATION,
        )
    others = [each for each in state.cache if each.version != release.version]
    if state.settled is None:
        former = []  # an installation that was cut off must not cost the way back
    elif state.settled == release.version:
        former = sorted(others, key=lambda each: number(each.version))[:-1]
    else:
        former = [each for each in others if each.version != state.settled]
    for each in former:
        yield StringCommand("rm", "-f", f"{CACHE}/{each.file}", f"{CACHE}/{each.file}.json")
    if release in state.cache and not former:
        host.noop("the installer is in the cache")


@operation()
def installed(release: Release, replace: bool) -> Iterator[StringCommand]:
    """Install a release on the node, unless another one is there that nobody asked to replace.

    + release: what should be there
    + replace: whether another version makes way

    An installation that was cut off begins again: a note of it lies on the node until it has ended.
    """
    state = host.get_fact(DriverState)
    if not state.loaded and "nouveau" in state.flags:
        host.noop("nouveau has the cards until the node is rebooted")
        return
    if state.settled == release.version:
        host.noop(f"the driver {release.version} is installed")
        return
    if state.settled and not replace:
        host.noop(f"the driver stays at {state.settled}: `freehold driver upgrade` brings {release.version}")
        return
    path = f"{CACHE}/{release.file}"
    yield StringCommand(
        f"mkdir -p /var/lib/freehold && echo {release.version} > {UNFINISHED} &&"
        f" if {_check(release, path)} && {_run(path)} {NODE_OPTIONS} --tmpdir={_WORK} >&2;"
        f" then rm -f {UNFINISHED} && mkdir -p {PENDING} && : > {PENDING}/verify;"
        f" else tail -n 25 {_LOG} >&2; exit 1; fi",
        _timeout=_INSTALLATION,
    )


@operation()
def modules() -> Iterator[StringCommand]:
    """Build the installed driver's modules for the kernels that run now and after the next boot."""
    state = host.get_fact(DriverState)
    version = state.settled
    missing = [kernel for kernel in state.kernels if version and state.modules.get(kernel) != version]
    for kernel in missing:
        log = f"/var/lib/dkms/nvidia/{version}/build/make.log"
        yield StringCommand(
            f"dkms install --force -m nvidia -v {version} -k {shlex.quote(kernel)} >&2"
            f" || {{ tail -n 25 {log} >&2; exit 1; }}",
            _timeout=_INSTALLATION,
        )
    if not missing:
        host.noop("modules are there for every kernel that boots")


@operation()
def loaded() -> Iterator[StringCommand]:
    """Load the modules, where no driver is loaded yet and nothing else has the cards."""
    state = host.get_fact(DriverState)
    if state.waits_for_reboot or not state.settled:
        host.noop("the node is to be rebooted first")
    elif {"nvidia", "nvidia_uvm"} <= state.flags or state.loaded:
        host.noop("the driver is loaded")
    else:
        yield StringCommand("modprobe", "-a", "nvidia", "nvidia_uvm")


@operation()
def persistence(unit: str) -> Iterator[StringCommand]:
    """Enable and start the persistence daemon; it starts only with the driver that is installed.

    + unit: name of the unit
    """
    state = host.get_fact(DriverState)
    if not state.settled or state.waits_for_reboot:
        host.noop("the node is to be rebooted first")
    elif "persistenced" in state.flags:
        host.noop("the driver stays loaded")
    else:
        yield StringCommand("systemctl", "enable", "--now", unit, "2>&1")


@operation()
def user_space(release: Release, handler: str) -> Iterator[StringCommand]:
    """Give a container the user space of its node's driver, to the patch level, and never a kernel module.

    + release: the node's driver
    + handler: what must run after a change

    What packages or a template brought is purged first. The container's note of its version is taken away before and
    written after the work, so that a run that was cut off is done again.
    """
    there = host.get_fact(UserSpace)
    foreign = there.get("package", [])
    if (
        there.get("version") == [release.version]
        and there.get("library") == [release.version]
        and not foreign
    ):
        host.noop(f"the user space is that of the driver {release.version}")
        return
    path = f"{CACHE}/{release.file}"  # whose directory nobody but root writes to: it is run as root
    purge = f"{APT} purge -y {shlex.join(foreign)} &&" if foreign else ""
    yield StringCommand(
        f"mkdir -p {PENDING} && : > {PENDING}/{handler} && rm -f {MARKER} && {purge} mkdir -p -m 755 {CACHE} &&"
        f' way="$([ ! -x {WAY_OUT} ] || {WAY_OUT} {shlex.quote(release.url)} | grep ^http || true)" &&'
        ' http_proxy="$way" https_proxy="$way"',
        _fetch(release, path),
        f"&& if {_run(path)} {GUEST_OPTIONS} --tmpdir={_WORK} >&2; then"
        f" find {LIBRARIES} -maxdepth 1 -name 'libcuda.so.*.*' ! -name libcuda.so.{release.version} -delete;"
        f" rm -f {path}; echo {release.version} > {MARKER};"
        f" else tail -n 25 {_LOG} >&2; exit 1; fi",
        _timeout=_INSTALLATION,
    )


# The units of services, by the host's manifest; one that failed for want of the driver may start again.
_UNITS = """
import json
try:
    services = json.load(open("/etc/freehold/manifest.json")).get("services") or {}
except (OSError, ValueError):
    services = {}
print(" ".join(sorted(unit for service in services.values() for unit in service.get("units") or ())))
"""
RESTART_SERVICES = (
    f'u=$({shlex.join(["python3", "-c", _UNITS])}); [ -z "$u" ] ||'
    " { systemctl reset-failed $u 2>/dev/null; systemctl restart --no-block $u; }"
)
"""Restarts what runs on a host, so that it opens the libraries that are there now."""


def of_data(data: object) -> Release | None:
    """The release in the data of a pyinfra host."""
    return None if data is None else Release.model_validate_json(json.dumps(data))
