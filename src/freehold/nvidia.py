"""The NVIDIA driver of a node as one look over SSH shows it, and what stands in its way.

Nothing here talks to a machine: :data:`PROBE` is a shell script that prints lines, :meth:`NodeDriver.parse` reads them, and
:func:`troubles` holds what was found against what is wanted. ``freehold check`` and the deploy of the driver both ask it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from freehold.catalog import drivers

CACHE = "/var/cache/freehold/nvidia"
"""Directory of a node with the installers of the driver that is installed and of the one before, each beside a ``.json``
that says where it came from."""
CLAIMS = "/etc/freehold/nvidia"
"""Directory of a node with a file per client: the version that the client's lock names, and whether the client chose it."""
UNFINISHED = "/var/lib/freehold/nvidia-unfinished"
"""File of a node with the version whose installation began and did not end."""
MARKER = "/etc/freehold/nvidia-version"
"""File of a container with the version of its user space, written last."""
LIBRARIES = "/usr/lib/x86_64-linux-gnu"

# Each line is a key, a tab and a value. $ROOT is for tests; every tool may be missing.
PROBE = rf"""
ROOT=${{ROOT:-}}
say() {{ printf '%s\t%s\n' "$1" "$2"; }}
have() {{ command -v "$1" >/dev/null 2>&1; }}
say running "$(uname -r)"
for f in "$ROOT"/boot/vmlinuz-*; do [ -e "$f" ] && say kernel "${{f##*/vmlinuz-}}"; done
have proxmox-boot-tool && proxmox-boot-tool kernel list 2>/dev/null | sed 's/^/boot-tool\t/'
for d in "$ROOT"/lib/modules/*/; do
    k=${{d%/}}; k=${{k##*/}}
    [ -e "$d/build/Makefile" ] && say headers "$k"
    v=$(modinfo -k "$k" -F version nvidia 2>/dev/null | head -n 1); [ -n "$v" ] && say module "$k $v"
done
have dkms && dkms status 2>/dev/null | sed 's/^/dkms\t/'
for m in nouveau nvidia nvidia_uvm vfio_pci; do [ -d "$ROOT/sys/module/$m" ] && say loaded "$m"; done
for d in "$ROOT"/sys/bus/pci/devices/*; do
    [ "$(cat "$d/vendor" 2>/dev/null)" = 0x10de ] || continue
    case "$(cat "$d/class")" in 0x03*) say card "${{d##*/}} $(basename "$(readlink "$d/driver" || echo none)")" ;; esac
done
if [ ! -d "$ROOT/sys/firmware/efi" ]; then say secure-boot 'no EFI'
elif have mokutil; then mokutil --sb-state 2>&1 | sed 's/^/secure-boot\t/'; fi
k=$ROOT/var/lib/dkms/mok.pub
[ -e "$k" ] && say key there && have mokutil && mokutil --test-key "$k" 2>&1 | sed 's/^/key\t/'
head -n 1 "$ROOT/proc/driver/nvidia/version" 2>/dev/null | sed 's/^/nvrm\t/'
for f in "$ROOT{LIBRARIES}"/libcuda.so.*.*; do [ -f "$f" ] && say installed "${{f##*/libcuda.so.}}"; done
[ -s "$ROOT{UNFINISHED}" ] && say unfinished "$(cat "$ROOT{UNFINISHED}")"
have systemctl && systemctl is-active --quiet nvidia-persistenced.service && say loaded persistenced
have dpkg-query && dpkg-query -W -f '${{db:Status-Status}} ${{Package}}\n' 'nvidia-*' 'libnvidia-*' libcuda1 2>/dev/null |
    sed -n '/container/d; s/^installed /package\t/p'
for f in "$ROOT{CACHE}"/*.json; do [ -f "$f" ] && say cached "$(head -n 1 "$f")"; done
for f in "$ROOT{CLAIMS}"/*; do [ -f "$f" ] && say claim "${{f##*/}} $(head -n 1 "$f")"; done
for f in "$ROOT"/etc/pve/lxc/*.conf; do
    grep -qs '^dev[0-9]*:.*/dev/nvidia' "$f" || continue
    n=${{f##*/}}
    say guest "${{n%.conf}} $(sed -n '/^\[/q; s/^hostname: *//p' "$f") $(sed -n '/^\[/q; s/^tags: *//p' "$f" | head -n 1)"
done
true
"""


class Release(BaseModel):
    """One version of the driver and where its file comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    # All of them become words of root's shell, on nodes and in containers; a node's own cache names some.
    version: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)+$")]
    url: Annotated[str, Field(pattern=r"^https?://[^\s'\"]+$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @property
    def file(self) -> str:
        """Name of the installer in a node's cache."""
        return f"NVIDIA-Linux-x86_64-{self.version}.run"


@dataclass(frozen=True)
class Claim:
    """The version that a client's lock names for a node that it may share with others."""

    version: str
    own: bool
    """Whether the client's own ``versions.yml`` names it; otherwise the client follows Freehold's."""

    def line(self) -> str:
        """The claim as its file on the node has it."""
        return f"{self.version} {'own' if self.own else 'lock'}\n"


@dataclass(frozen=True)
class Guest:
    """A container of the node to which NVIDIA device nodes are passed."""

    vmid: int
    name: str
    client: str | None
    """Name of the client by its tag; none for a container that Freehold did not make."""


@dataclass(frozen=True)
class NodeDriver:
    """What a node has of the driver."""

    running: str
    """The kernel that runs."""
    next_boot: str
    """The kernel that the next boot starts."""
    headers: frozenset[str] = frozenset()
    """Kernels with the headers that modules are built with."""
    modules: Mapping[str, str] = field(default_factory=dict)
    """Version of the module ``nvidia`` that each kernel would load."""
    dkms: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """State by version and kernel, such as ``installed``."""
    loaded: str | None = None
    """Version of the driver in the kernel now."""
    installed: str | None = None
    """Version of the libraries on the node's disk."""
    unfinished: str | None = None
    """Version whose installation was cut off."""
    flags: frozenset[str] = frozenset()
    """Which of ``nouveau``, ``nvidia``, ``nvidia_uvm``, ``vfio_pci`` and ``persistenced`` are at work."""
    cards: Mapping[str, str] = field(default_factory=dict)
    """Kernel driver of each NVIDIA card by PCI address; ``none`` where no driver has it."""
    secure_boot: bool | None = None
    """Whether the firmware loads signed modules only; unknown where nothing on the node can say."""
    key_enrolled: bool | None = None
    """Whether the firmware trusts the key with which DKMS signs; none where there is no such key yet."""
    packages: tuple[str, ...] = ()
    """Debian packages of a driver."""
    cache: tuple[Release, ...] = ()
    claims: Mapping[str, Claim] = field(default_factory=dict)
    guests: tuple[Guest, ...] = ()

    @classmethod
    def parse(cls, text: str) -> NodeDriver:
        """What the lines of :data:`PROBE` say."""
        rows: dict[str, list[str]] = {}
        for line in text.splitlines():
            key, tab, value = line.partition("\t")
            if tab and value.strip():
                rows.setdefault(key, []).append(value.strip())
        running = rows.get("running", [""])[0]
        key = " ".join(rows.get("key", []))
        nvrm = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", " ".join([*rows.get("nvrm", []), " "]))
        installed = sorted(rows.get("installed", []), key=drivers.number)
        return cls(
            running=running,
            next_boot=next_boot(rows.get("boot-tool", []), rows.get("kernel", []), running),
            headers=frozenset(rows.get("headers", [])),
            modules=dict(value.split(" ", 1) for value in rows.get("module", [])),
            dkms=dict(dkms_status(rows.get("dkms", []))),
            loaded=nvrm.group(1) if nvrm else None,
            installed=installed[-1] if installed else None,
            unfinished=rows.get("unfinished", [None])[0],
            flags=frozenset(rows.get("loaded", [])),
            cards=dict(value.split(" ", 1) for value in rows.get("card", [])),
            secure_boot=_secure_boot(" ".join(rows.get("secure-boot", []))),
            key_enrolled="is already enrolled" in key if key else None,
            packages=tuple(sorted(rows.get("package", []))),
            cache=tuple(_releases(rows.get("cached", []))),
            claims={
                words[0]: Claim(words[1], words[2:] == ["own"])
                for words in (value.split() for value in rows.get("claim", []))
                if len(words) > 1
            },
            guests=tuple(_guests(rows.get("guest", []))),
        )

    @property
    def kernels(self) -> tuple[str, ...]:
        """The kernels for which a module must be there: the running one, and that of the next boot."""
        return tuple(dict.fromkeys([self.running, self.next_boot]))

    @property
    def settled(self) -> str | None:
        """The version that is installed in full; none where there is none or its installation was cut off."""
        return None if self.unfinished else self.installed

    @property
    def waits_for_reboot(self) -> str | None:
        """Why the node must be rebooted before its GPUs can be used; none where it need not."""
        if self.settled and self.loaded and self.settled != self.loaded:
            return f"{self.settled} is installed, and the kernel still has {self.loaded} loaded"
        if not self.loaded and "nouveau" in self.flags:
            return "the module nouveau holds the cards, and is kept away from the next boot on"
        return None

    def former(self, locked: str) -> Release | None:
        """The release to go back to from the locked one: the other one in the cache, whichever of them is installed now."""
        others = [each for each in self.cache if each.version != locked]
        return min(others, key=lambda each: drivers.number(each.version), default=None)

    def of_cache(self, version: str) -> Release | None:
        """A release whose installer lies in the cache."""
        return next((each for each in self.cache if each.version == version), None)

    def others(self, client: str) -> dict[str, list[Guest]]:
        """Containers of other clients of Freehold on the node's NVIDIA GPUs, by client."""
        found: dict[str, list[Guest]] = {}
        for guest in self.guests:
            if guest.client and guest.client != client:
                found.setdefault(guest.client, []).append(guest)
        return found


def next_boot(boot_tool: Iterable[str], images: Iterable[str], running: str) -> str:
    """The kernel that the next boot starts.

    Args:
        boot_tool: Lines of ``proxmox-boot-tool kernel list``. A kernel that is pinned for the next boot comes first, then
            one that is pinned, then the newest.
        images: Releases of the kernels in ``/boot``.
        running: What to say where nothing else is known.
    """
    found: dict[str, list[str]] = {}
    title = ""
    for line in (line.strip() for line in boot_tool):
        if line.endswith(":"):
            title = line
        elif re.match(r"\d", line):
            found.setdefault(title, []).append(line.split()[0])
    for title in ("Kernel pinned on next-boot:", "Pinned kernel:"):
        if found.get(title):
            return found[title][0]
    listed = [
        *found.get("Automatically selected kernels:", []),
        *found.get("Manually selected kernels:", []),
        *images,
    ]
    return max(listed, key=drivers.number, default=running)


def dkms_status(lines: Iterable[str]) -> Iterator[tuple[tuple[str, str], str]]:
    """Version, kernel and state of the module ``nvidia`` in what ``dkms status`` prints, in its old form and its new.

    DKMS 2 writes ``nvidia, 550.163.01, 6.8.12-4-pve, x86_64: installed``, DKMS 3 ``nvidia/550.163.01, 6.8.12-4-pve, ...``.
    """
    for line in lines:
        match = re.match(r"nvidia(?:/|, )([\d.]+), ([^,]+), [^:]+: (\w+)", line)
        if match:
            yield (match[1], match[2]), match[3]


def _secure_boot(text: str) -> bool | None:
    """``SecureBoot enabled``, ``SecureBoot disabled``, or that there are no EFI variables: a BIOS checks nothing."""
    match = re.search(r"SecureBoot (enabled|disabled)", text)
    return match[1] == "enabled" if match else (False if text else None)


def _releases(lines: Iterable[str]) -> Iterator[Release]:
    for line in lines:
        try:
            yield Release.model_validate(json.loads(line))
        except (ValueError, ValidationError):
            continue  # a file that was cut off: its installer is fetched again


def _guests(lines: Iterable[str]) -> Iterator[Guest]:
    for line in lines:
        vmid, _, rest = line.partition(" ")
        name, _, tags = rest.partition(" ")
        words = re.split(r"[;, ]+", tags)
        client = next((word.removeprefix("client-") for word in words if word.startswith("client-")), None)
        yield Guest(int(vmid), name, client if "freehold" in words else None)


@dataclass(frozen=True)
class Trouble:
    """Something that stands in the way of the driver, with what to do about it."""

    detail: str
    remedy: str
    blocks: bool = True
    """Whether the driver cannot be installed or used because of it."""


_MOK = (
    "On the node: `dkms generate_mok` (where /var/lib/dkms/mok.pub is missing), `mokutil --import /var/lib/dkms/mok.pub`, "
    "reboot, and choose `Enroll MOK` on its screen. Or switch Secure Boot off in the firmware."
)


def troubles(
    state: NodeDriver, release: Release, *, client: str, cards: Iterable[str], installs: bool
) -> Iterator[Trouble]:
    """What stands in the way of a release on a node.

    Args:
        state: The node.
        release: What the client's lock names.
        client: The client.
        cards: PCI addresses of the NVIDIA GPUs that the client wants.
        installs: Whether the release would be installed (no other one is, or an upgrade was asked for).
    """
    for card in cards:
        if state.cards.get(card) == "vfio-pci":
            yield Trouble(
                f"The card {card} is bound to vfio-pci, that is: kept for a virtual machine",
                f"Take {card} out of every virtual machine (hostpci) and its id out of `options vfio-pci ids=` in "
                "/etc/modprobe.d, run `update-initramfs -u -k all`, and reboot the node.",
            )
    if state.secure_boot and not state.key_enrolled:
        yield Trouble(
            "Secure Boot is on, and the firmware does not trust the key with which DKMS signs modules: the kernel would "
            "refuse the driver",
            _MOK,
        )
    if (state.packages and not state.settled) or "nvidia-kernel-dkms" in state.packages:
        listed = ", ".join(state.packages[:4]) + (", ..." if len(state.packages) > 4 else "")
        yield Trouble(
            f"The node has a driver from Debian packages ({listed}), which the locked one would overwrite by half",
            "Remove them (`apt-get purge 'nvidia-*' 'libnvidia-*' libcuda1`), or leave the driver to the node's administrator "
            "(nodes.<name>.driver: administrator).",
        )
    version = release.version if installs else state.settled or release.version
    for kernel in state.kernels:
        yield from _of_kernel(kernel, version, is_next=kernel != state.running)
    if installs:
        yield from _of_others(state, release, client)


def _of_kernel(kernel: str, version: str, *, is_next: bool) -> Iterator[Trouble]:
    when = "the next boot starts" if is_next else "the node runs"
    floor = drivers.floor(kernel)
    if floor and drivers.number(version) < drivers.number(floor.driver):
        yield Trouble(
            f"The driver {version} does not build for the kernel {kernel} that {when}: it takes {floor.driver} or newer",
            "Lock a newer driver (nvidia-driver in the client's versions.yml: version, url, sha256), or stay with an older "
            "kernel: `proxmox-boot-tool kernel pin <release>`.",
        )
    elif not drivers.known(kernel):
        yield Trouble(
            f"Whether the driver {version} builds for the kernel {kernel} that {when} is not known: the table ends with "
            f"{drivers.load().known}",
            "If it does not build, stay with an older kernel: `proxmox-boot-tool kernel pin <release>`.",
            blocks=False,
        )


def _of_others(state: NodeDriver, release: Release, client: str) -> Iterator[Trouble]:
    with_guests = state.others(client)
    for other, claim in sorted(state.claims.items()):
        if other in with_guests and claim.own and claim.version != release.version:
            names = ", ".join(guest.name for guest in with_guests[other])
            yield Trouble(
                f"The node's driver is one for all its clients: {other} ({names}) locks {claim.version}, and {client} "
                f"{release.version}",
                f"Lock the same version for both: nvidia-driver in the versions.yml of {other}, or in that of {client}.",
            )
