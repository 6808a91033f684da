"""The templates that the lab offers, built once with mmdebstrap (lab: a stand-in of a Proxmox VE node).

They carry the names of Proxmox VE's own ``debian-*-standard`` templates and what Freehold relies on in those, made
from the Debian archive that the host's mmdebstrap uses by default. Two units that cannot work in the lab's containers
and the daily apt timers, which would burn CPU at random moments, are masked.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from freehold.errors import FreeholdError
from freehold.lab.machine.commands import SYSTEM_PATH, run

PACKAGES = (
    *(
        "systemd",
        "systemd-sysv",
        "dbus",
        "libpam-systemd",
        "openssh-server",
        "ifupdown",
        "iproute2",
        "iputils-ping",
    ),
    *("procps", "netbase", "ca-certificates", "locales", "tzdata", "less", "cron", "logrotate"),
)
MASKED = (
    *("sys-kernel-debug.mount", "systemd-modules-load.service"),
    *(
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "dpkg-db-backup.timer",
        "e2scrub_all.timer",
        "fstrim.timer",
    ),
)
MEMORY_TO_BUILD_IN = 6 * 1024**3
"""Bytes of free memory from which on templates are built in memory; half of it at most is used."""
LOCAL_AUTHORITIES = Path("/usr/local/share/ca-certificates")
TRUST_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE")
"""What programs with a trust store of their own read; set in containers of a machine with authorities of its own."""


@dataclass(frozen=True)
class Template:
    """One template: its file name, the Debian suite, and packages beyond ``PACKAGES``."""

    name: str
    suite: str
    version: str
    extra: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        """The name without version, such as ``debian-12-standard``."""
        return self.name.split("_")[0]

    @property
    def headline(self) -> str:
        """One line for the list of appliances."""
        return f"Debian {self.version.split('.')[0]} {self.suite.capitalize()} (standard)"


OFFERED = (
    Template("debian-12-standard_12.12-1_amd64.tar.zst", "bookworm", "12.12-1"),
    Template("debian-13-standard_13.1-2_amd64.tar.zst", "trixie", "13.1-2"),
)
NODE = Template("freehold-lab-node-13_amd64.tar.zst", "trixie", "13", ("python3",))
"""The node's own system: its stand-ins of ``pct`` and its kin are Python."""


def missing(folder: Path) -> list[Template]:
    """The templates that have yet to be built."""
    return [
        template
        for template in (*OFFERED, NODE)
        if not ((folder / template.name).exists() and checksum_file(folder, template).exists())
    ]


def checksum_file(folder: Path, template: Template) -> Path:
    """Where the SHA-512 of a template is noted when it is built."""
    return folder / f"{template.name}.sha512"


def build_all(folder: Path, templates: Sequence[Template], done: Callable[[Template, float], None]) -> None:
    """Build templates side by side; ``done`` gets each with the seconds it took.

    Raises:
        FreeholdError: mmdebstrap failed.
    """
    workers = max(1, min(len(templates), os.cpu_count() or 1))
    with _scratch(folder.parent / "build") as scratch, ThreadPoolExecutor(max_workers=workers) as pool:
        for template, seconds in pool.map(lambda one: (one, build(folder, one, scratch)), templates):
            done(template, seconds)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder to build in: in memory where there is plenty, which halves the time that building takes."""
    if os.path.ismount(folder):  # left by a build that was killed
        run(["umount", str(folder)])
    folder.mkdir(parents=True, exist_ok=True)
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    in_memory = int(meminfo["MemAvailable"].split()[0]) * 1024 > MEMORY_TO_BUILD_IN
    if in_memory:
        run(
            [
                "mount",
                "-t",
                "tmpfs",
                "-o",
                f"size={MEMORY_TO_BUILD_IN // 2},mode=755",
                "freehold-lab",
                str(folder),
            ]
        )
    try:
        yield folder
    finally:
        if in_memory:
            run(["umount", str(folder)])
        shutil.rmtree(folder, ignore_errors=True)


def build(folder: Path, template: Template, scratch: Path) -> float:
    """Build one template below ``scratch``; its file appears when it is whole. Returns the seconds taken.

    Raises:
        FreeholdError: mmdebstrap failed.
    """
    began = time.monotonic()
    partial = folder / f".partial-{template.name}"
    with tempfile.TemporaryDirectory(dir=scratch) as own:
        args = ["mmdebstrap", "--variant=minbase", "--skip=cleanup/apt/lists", "--dpkgopt=force-unsafe-io"]
        args += [f"--include={','.join((*PACKAGES, *template.extra))}", *_hooks(Path(own))]
        args += [template.suite, str(partial)]
        result = subprocess.run(
            args,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", "TMPDIR": own},
        )
    if result.returncode:
        partial.unlink(missing_ok=True)
        raise FreeholdError(
            f"the template {template.name} could not be built",
            doing=f"running {shlex.join(args[:3])} ... {template.suite}",
            answer="\n".join(result.stderr.splitlines()[-15:]),
            remedy="Check that this machine reaches a Debian archive (apt-get update), then start the lab again.",
        )
    partial.chmod(0o644)
    with partial.open("rb") as stream:
        checksum_file(folder, template).write_text(hashlib.file_digest(stream, "sha512").hexdigest())
    partial.rename(folder / template.name)
    return time.monotonic() - began


def _hooks(scratch: Path) -> list[str]:
    """What is done in the new system before it is packed: ``$1`` is its root."""
    units = '"$1/etc/systemd/system"'
    hooks = [f"mkdir -p {units} && cd {units} && for u in {' '.join(MASKED)}; do ln -sf /dev/null $u; done"]
    # a template holds no identity: Proxmox VE makes host keys and machine id at creation
    hooks.append('rm -f "$1"/etc/ssh/ssh_host_*_key "$1"/etc/ssh/ssh_host_*_key.pub "$1"/etc/hostname')
    hooks.append("""echo 'Acquire::Languages "none";' > "$1/etc/apt/apt.conf.d/90freehold-lab" """)
    certificates = sorted(LOCAL_AUTHORITIES.glob("**/*.crt")) if LOCAL_AUTHORITIES.is_dir() else []
    if certificates:
        environment = scratch / "environment"
        bundle = "/etc/ssl/certs/ca-certificates.crt"
        lines = [f"{name}={bundle}" for name in TRUST_VARIABLES] + ["UV_SYSTEM_CERTS=1", "UV_NATIVE_TLS=1"]
        environment.write_text("\n".join(lines) + "\n")
        target = '"$1/usr/local/share/ca-certificates/"'
        copies = " ".join(shlex.quote(str(path)) for path in certificates)
        hooks.append(f"mkdir -p {target} && cp {copies} {target} && chmod 644 {target}*.crt")
        hooks.append('chroot "$1" update-ca-certificates')
        hooks.append(f'cat {shlex.quote(str(environment))} >> "$1/etc/environment"')
    return [f"--customize-hook={hook}" for hook in hooks]
