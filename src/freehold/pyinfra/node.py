"""Facts and operations on a Proxmox VE node, over SSH as root, with the node's own tools."""

# mypy: allow-subclassing-any, allow-untyped-decorators
from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pyinfra import host
from pyinfra.api import FactBase, QuoteString, StringCommand, operation
from typing_extensions import override

from freehold.layout.types import WEIGHTS_OWNER, Layout
from freehold.proxmox.changes import RootStep
from freehold.proxmox.spec import client_tag
from freehold.proxmox.templates import newest
from freehold.pyinfra.facts import InstalledPackages, PathStates
from freehold.pyinfra.system import APT, Directory, fail

_DOWNLOAD = 1800

EXPORTER = "/etc/prometheus/freehold"
"""Directory in which each client that monitors the node has files of its own for the node exporter."""

ASSEMBLE_EXPORTER = (
    f"cd {EXPORTER} && umask 027"
    " && { echo '# Managed by Freehold: who may read the figures of this machine.'; echo basic_auth_users:; cat ./*.user; }"
    " > .web.yml && chgrp prometheus .web.yml && mv -f .web.yml web.yml"
    " && { printf ADDRESSES=; sort -u ./*.address | sed 's/.*/--web.listen-address=&:9100/' | tr '\\n' ' '; }"
    " > .addresses && mv -f .addresses addresses"
    " && systemctl daemon-reload && systemctl restart prometheus-node-exporter"
)
"""Puts together what each client of the node has written for the node exporter, and restarts it."""


class Templates(FactBase[list[str]]):
    """Volume ids of the container templates in a storage (``pveam list``)."""

    default = list

    @override
    def command(self, storage: str) -> StringCommand:
        return StringCommand("pveam", "list", QuoteString(storage))

    @override
    def process(self, output: list[str]) -> list[str]:
        return [line.split()[0] for line in output if ":vztmpl/" in line]


class AvailableTemplates(FactBase[list[str]]):
    """File names of the templates that Proxmox offers, as the node last heard (``pveam available``)."""

    default = list

    @override
    def command(self) -> StringCommand:
        return StringCommand("pveam", "available", "--section", "system")

    @override
    def process(self, output: list[str]) -> list[str]:
        return [line.split()[1] for line in output if len(line.split()) == 2]


class ConfigDigest(FactBase[str]):
    """Digest of a container's configuration now."""

    default = str

    @override
    def command(self, node: str, vmid: int) -> StringCommand:
        return StringCommand("pvesh", "get", f"/nodes/{node}/lxc/{vmid}/config", "--output-format", "json")

    @override
    def process(self, output: list[str]) -> str:
        found = re.search(r'"digest"\s*:\s*"([0-9a-f]+)"', "\n".join(output))
        return found.group(1) if found else ""


class WithDevices(FactBase[set[int]]):
    """VMIDs of a client's containers on this node to which device nodes are passed."""

    default = set

    @override
    def command(self, client: str) -> StringCommand:
        tagged = rf"^tags:.*\b{client_tag(client)}\(;\|$\)"
        return StringCommand(
            "grep",
            "-ls",
            QuoteString(tagged),
            "/etc/pve/lxc/*.conf",
            "| xargs -r grep -l '^dev[0-9]' || true",
        )

    @override
    def process(self, output: list[str]) -> set[int]:
        return {int(line.rsplit("/", 1)[-1].removesuffix(".conf")) for line in output if line}


@operation()
def template(
    node: str, storage: str, system: str, mirrored: Mapping[str, str] | None = None
) -> Iterator[StringCommand]:
    """Download the newest standard template of a system, unless the storage has one of it.

    + node: name of the node
    + storage: storage that takes container templates
    + system: ``debian-12`` or ``debian-13``
    + mirrored: ``url`` and ``sha256`` of the template at the client's own mirror; Proxmox is not asked then

    ``pveam`` checks what it downloads: the list of templates is signed and holds the SHA-512 of each.
    """
    if newest(host.get_fact(Templates, storage=storage), system):
        host.noop(f"a template of {system} is there")
        return
    if mirrored:
        url, sha256 = mirrored["url"], mirrored["sha256"]
        place = f"/nodes/{node}/storage/{storage}/download-url"
        options = {"content": "vztmpl", "filename": url.rpartition("/")[2], "url": url}
        options |= {"checksum": sha256, "checksum-algorithm": "sha256"}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        yield StringCommand("pvesh", "create", *map(QuoteString, [place, *words]), ">&2", _timeout=_DOWNLOAD)
        return
    found = newest(host.get_fact(AvailableTemplates), system)
    if found is None:
        yield StringCommand("pveam", "update", _timeout=120)
        found = newest(host.get_fact(AvailableTemplates), system)
    if found is None:
        yield fail(f"Proxmox offers no standard template of {system} to this node: see `pveam available`.")
        return
    yield StringCommand(
        "pveam", "download", QuoteString(storage), QuoteString(found), ">&2", _timeout=_DOWNLOAD
    )


@operation()
def exporter_package(mirror: str | None = None) -> Iterator[StringCommand]:
    """Install Debian's node exporter.

    + mirror: the client's own mirror, which is asked instead of the node's archives; those stay as they are

    Package lists are read only where the node's own do not do: a node without a subscription often has an archive that
    refuses it, which is its administrator's matter. The package does not start what it brings: Debian's own unit would
    answer everybody, and without a password.
    """
    name = "prometheus-node-exporter"
    if name in host.get_fact(InstalledPackages, packages=[name]):
        host.noop("the node exporter is installed")
        return
    install = f"{APT} install --no-install-recommends -y {name}"
    closed, opened = (f"systemctl {word} --runtime {name} >/dev/null 2>&1" for word in ("mask", "unmask"))
    if mirror:
        archive = (
            f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror.rstrip('/')}/debian"
        )
        ours = (
            "-o Dir::Etc::SourceList=$d/sources.list -o Dir::Etc::SourceParts=- -o Dir::State::Lists=$d/lists"
        )
        yield StringCommand(
            "d=$(mktemp -d) && chmod 755 $d && mkdir -p $d/lists/partial && . /etc/os-release"
            f" && echo {shlex.quote(archive)} $VERSION_CODENAME main > $d/sources.list"
            f" && {APT} {ours} update && {closed} && {install.replace(APT, f'{APT} {ours}')};"
            f" r=$?; {opened}; rm -rf $d; exit $r",
            _timeout=_DOWNLOAD,
        )
        return
    yield StringCommand(
        f"{closed}; {install} || {{ {APT} update; {install}; }}; r=$?; {opened}; exit $r", _timeout=_DOWNLOAD
    )


@operation()
def no_exporter_user(client: str) -> Iterator[StringCommand]:
    """Take a client that is not monitored any more out of the node exporter, and stop it after the last one.

    + client: name of the client
    """
    ours = [f"{EXPORTER}/{client}.{kind}" for kind in ("user", "address", "gpus")]
    if not host.get_fact(PathStates, paths=ours):
        host.noop("the node exporter does not know the client")
        return
    stop = "systemctl disable --now prometheus-node-exporter freehold-gpu-figures 2>&1 || true"
    script = f"rm -f {' '.join(ours)}; if ls {EXPORTER}/*.user >/dev/null 2>&1; then {ASSEMBLE_EXPORTER}; else {stop}; fi"
    yield StringCommand("sh", "-c", QuoteString(script))


@operation()
def root_steps(steps: Sequence[RootStep]) -> Iterator[StringCommand]:
    """Do with ``pct`` what no API token may do: pass devices, bind directories, set features.

    + steps: the plan's root steps for this node

    Each step carries the digest that the configuration has right before it, so that it never overwrites what
    somebody changed in between.
    """
    for step in steps:
        digest = host.get_fact(ConfigDigest, node=step.node, vmid=step.vmid)
        yield StringCommand(*map(QuoteString, step.argv(digest or None)))


@operation()
def no_gpu_unit(unit: str, client: str, vmids: Sequence[int]) -> Iterator[StringCommand]:
    """Stop and remove the unit for GPU device nodes, unless a container that the stack left out still has devices.

    + unit: name of the unit below ``/etc/systemd/system``
    + client: name of the client
    + vmids: containers of the stack; none of them has devices from now on
    """
    path = f"/etc/systemd/system/{unit}"
    if path not in host.get_fact(PathStates, paths=[path]):
        host.noop(f"there is no {unit}")
    elif left := host.get_fact(WithDevices, client=client) - set(vmids):
        host.noop(f"{unit} stays for {', '.join(map(str, sorted(left)))}")
    else:
        yield StringCommand(
            f"systemctl disable --now {unit} 2>&1; rm -f {path} && systemctl daemon-reload"
            f" && {{ systemctl reset-failed {unit} 2>/dev/null || true; }}"
        )


def weights_of(layout: Layout, node: str) -> Directory | None:
    """The directory of a node for the client's weights, where a container binds it: everybody reads, one user writes."""
    place = next(each.weights for each in layout.nodes if each.name == node)
    bound = any(
        mount.source == place for guest in layout.hosts if guest.node == node for mount in guest.mounts
    )
    owner = str(WEIGHTS_OWNER)
    return Directory(place, mode="755", owner=owner, group=owner) if bound else None


_TAKEN = """\
[ "$(stat -L -c %u "$1")" = "$2" ] || [ -z "$(ls -A "$1" | grep -vx lost+found)" ] || {
    echo "$1 holds files of somebody else, and would be given to the container that keeps weights." \
        "Name another directory (nodes.<name>.weights)." >&2
    exit 1
}"""


@operation()
def free_for_weights(place: str) -> Iterator[StringCommand]:
    """Fail where the directory for weights is one that has another use: its owner is changed, and a container writes to it.

    + place: the client's directory for weights
    """
    state = host.get_fact(PathStates, paths=[place]).get(place)
    if state is None or (state.kind, state.owner) == ("directory", str(WEIGHTS_OWNER)):
        host.noop("the directory is new, or that of the weights")
        return
    yield StringCommand(
        "sh", "-c", QuoteString(_TAKEN), "weights", QuoteString(place), QuoteString(str(WEIGHTS_OWNER))
    )


def nvidia_minors(devices: Iterable[str]) -> list[int]:
    """Minor numbers of the NVIDIA GPUs among device paths."""
    return sorted(
        {int(match.group(1)) for path in devices if (match := re.fullmatch(r"/dev/nvidia(\d+)", path))}
    )
