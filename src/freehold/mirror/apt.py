"""Debian packages with all that they need: the archive's own signed indexes, untouched, and the part of its pool in use.

apt itself resolves, against the indexes in the mirror, so what it finds there is what a host will find. The archive's
address is the one that this machine's apt uses.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import requests

from freehold.errors import FreeholdError
from freehold.mirror.fetch import TIMEOUT, FetchError, Report, Wanted, fetch_all, put, session

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
ARCHIVES = ("debian", "debian-security")
ARCHITECTURE = "amd64"
TEMPLATE = (
    "?or(?priority(required),?or(?priority(important),?priority(standard)))",
    "openssh-server",
    "postfix",
)
"""What container templates hold already, and must be able to upgrade from the mirror."""

_INDEXES = (
    f"main/binary-{ARCHITECTURE}/Packages.xz",
    "main/i18n/Translation-en.xz",
    "main/i18n/Translation-en.bz2",
)
_URI = re.compile(r"^'copy:(?P<path>[^']+)' \S+ (?P<size>\d+)(?: SHA256:(?P<sha256>[0-9a-f]{64}))?")
_TIMEOUT = 600


class AptError(FreeholdError):
    """apt cannot say what is needed."""


def suites(codename: str) -> list[tuple[str, str]]:
    """The archives and suites that hosts of a Debian release are given (``templates/base/apt.sources.j2``)."""
    return [
        ("debian", codename),
        ("debian", f"{codename}-updates"),
        ("debian-security", f"{codename}-security"),
    ]


def upstream() -> dict[str, str]:
    """Addresses of Debian's archives, as this machine's apt knows them.

    Raises:
        AptError: This machine has no apt with Debian's archives.
    """
    try:
        answer = _run(["apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI)"])
    except FileNotFoundError:
        answer = ""
    found: dict[str, str] = {}
    for line in answer.splitlines():
        for archive in ARCHIVES:
            if line.rstrip("/").endswith(f"/{archive}"):
                found.setdefault(archive, line.rstrip("/"))
    if missing := [archive for archive in ARCHIVES if archive not in found]:
        raise AptError(
            f"This machine's apt knows no archive {' and no archive '.join(missing)}",
            doing="looking for Debian's archives",
            remedy="Build the mirror on a Debian machine (after `apt-get update`), or name an archive:"
            " --debian URL --debian-security URL.",
        )
    return found


@dataclass(frozen=True)
class Indexes:
    """Which files of an archive's ``dists`` the mirror now holds."""

    files: tuple[str, ...]
    fetched: int


def update(root: Path, archives: dict[str, str], codename: str, report: Report | None = None) -> Indexes:
    """Bring the signed indexes of a Debian release into the mirror; nothing is fetched while they are the newest.

    Raises:
        FetchError: The archive does not answer, or its signature is not Debian's.
    """
    files: list[str] = []
    fetched = 0
    for archive, suite in suites(codename):
        paths, count = _update_suite(root, archive, archives[archive], suite, report)
        files += paths
        fetched += count
    return Indexes(tuple(files), fetched)


def _update_suite(
    root: Path, archive: str, address: str, suite: str, report: Report | None
) -> tuple[list[str], int]:
    folder = f"{archive}/dists/{suite}"
    place = root / folder / "InRelease"
    url = f"{address}/dists/{suite}/InRelease"
    text = _in_release(url)
    is_new = not place.is_file() or place.read_bytes() != text
    listed = _listed(_verify(url, text).decode())
    wanted, paths = [], []
    for name in _INDEXES:
        if name not in listed:
            continue
        sha256, size = listed[name]
        by_hash = f"{folder}/{Path(name).parent}/by-hash/SHA256/{sha256}"
        wanted.append(Wanted(by_hash, f"{address}/{by_hash.partition('/')[2]}", "sha256", sha256, size))
        paths += [by_hash, f"{folder}/{name}"]
    fetched = fetch_all(root, wanted, report) + is_new
    kept = {Path(path).name for path in paths[::2]}
    for one, plain in zip(paths[::2], paths[1::2], strict=True):
        for old in (root / one).parent.iterdir():
            if old.name not in kept:
                old.unlink()
        new = (root / plain).with_name(f".{Path(plain).name}.new")
        new.unlink(missing_ok=True)
        new.hardlink_to(root / one)
        new.replace(root / plain)
    if is_new:
        put(place, text)  # last: it names the others
    return [f"{folder}/InRelease", *paths], fetched


def _in_release(url: str) -> bytes:
    """The list of an archive as it lies there, with its signature."""
    try:
        with session() as own:
            answer = own.get(url, timeout=TIMEOUT)
            answer.raise_for_status()
    except requests.RequestException as error:
        raise FetchError(
            "Debian's archive does not answer",
            doing="asking for its index",
            where=url,
            answer=str(error),
            remedy="See whether this machine reaches it, and run the same command again.",
        ) from error
    return answer.content


def _verify(url: str, text: bytes) -> bytes:
    """The part of a text that Debian signed; what stands around it is nobody's word."""
    remedy = f"Install debian-archive-keyring and gpgv: the mirror takes only what Debian signed ({KEYRING})."
    with tempfile.NamedTemporaryFile(prefix="freehold-") as file:
        file.write(text)
        file.flush()
        try:
            command = ["gpgv", "--keyring", str(KEYRING), "--output", "-", file.name]
            answer = subprocess.run(command, capture_output=True, check=False, timeout=60)
        except FileNotFoundError as error:
            raise FetchError("There is no gpgv on this machine", where=url, remedy=remedy) from error
    if answer.returncode:
        raise FetchError(
            "This index is not signed by Debian",
            doing="checking the signature",
            where=url,
            answer=answer.stderr.decode(errors="replace").strip()[-1000:],
            remedy=remedy,
        )
    return answer.stdout


def _listed(text: str) -> dict[str, tuple[str, int]]:
    """SHA-256 and size by path, from the signed text of an ``InRelease``."""
    found, inside = {}, False
    for line in text.splitlines():
        if not line.startswith(" "):
            inside = line == "SHA256:"
        elif inside and len(words := line.split()) == 3:
            found[words[2]] = (words[0], int(words[1]))
    return found


def closures(
    root: Path, codename: str, groups: Sequence[Sequence[str]], archives: dict[str, str]
) -> list[list[Wanted]]:
    """Each group of packages with all that it depends on, as hosts of this release would install it.

    Raises:
        AptError: A package does not exist there, or cannot be installed.
    """
    with tempfile.TemporaryDirectory(prefix="freehold-apt-") as name:
        configuration = _configuration(root, Path(name), codename)
        _apt(configuration, ["update"])
        words = ["install", "--yes", "--print-uris", "--no-install-recommends"]
        texts = [_apt(configuration, [*words, *packages]) for packages in groups]
    return [list(_printed(root, text, archives)) for text in texts]


def versions(root: Path, codename: str, archives: dict[str, str]) -> dict[str, str]:
    """The newest version of every package of a Debian release, by the indexes in a folder, which are brought up to date.

    Raises:
        FetchError: The archive does not answer.
        AptError: apt cannot read them.
    """
    update(root, archives, codename)
    with tempfile.TemporaryDirectory(prefix="freehold-apt-") as name:
        configuration = _configuration(root, Path(name), codename)
        _apt(configuration, ["update"])
        text = _run(["apt-cache", "dumpavail"], _environment(configuration))
    found: dict[str, str] = {}
    package = ""
    for line in text.splitlines():
        key, _, value = line.partition(": ")
        if key == "Package":
            package = value
        elif key == "Version":
            found[package] = value
    return found


def _printed(root: Path, text: str, archives: dict[str, str]) -> Iterator[Wanted]:
    for line in text.splitlines():
        if match := _URI.match(line):
            path = Path(unquote(match["path"])).relative_to(root.resolve())
            archive = path.parts[0]
            if not match["sha256"]:
                raise AptError(f"The index has no SHA-256 for {path.name}", where=archives[archive])
            address = f"{archives[archive]}/{quote(str(path.relative_to(archive)))}"
            yield Wanted(str(path), address, "sha256", match["sha256"], int(match["size"]))


def _configuration(root: Path, state: Path, codename: str) -> Path:
    for folder in ("lists/partial", "cache/archives/partial", "etc"):
        (state / folder).mkdir(parents=True)
    (state / "status").touch()
    sources = [
        f"deb [signed-by={KEYRING} arch={ARCHITECTURE}] copy:{root.resolve()}/{archive} {suite} main"
        for archive, suite in suites(codename)
    ]
    (state / "etc/sources.list").write_text("\n".join(sources) + "\n", encoding="utf-8")
    path = state / "apt.conf"
    lines = {
        "APT::Architecture": ARCHITECTURE,
        "APT::Architectures": ARCHITECTURE,
        "APT::Sandbox::User": "",
        "Acquire::Check-Valid-Until": "false",
        "Acquire::ForceHash": "SHA256",
        "Acquire::Languages": "en",
        "Debug::NoLocking": "true",
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::State::lists": state / "lists",
        "Dir::Cache": state / "cache",
        "Dir::Etc": state / "etc",
        "Dir::Etc::sourcelist": state / "etc/sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
    }
    path.write_text("".join(f'{key} "{value}";\n' for key, value in lines.items()), encoding="utf-8")
    return path


def _apt(configuration: Path, words: list[str]) -> str:
    program = shutil.which("apt-get")
    if program is None:
        raise AptError(
            "There is no apt-get on this machine",
            doing="resolving Debian packages",
            remedy="Build the mirror on a Debian or Ubuntu machine.",
        )
    return _run([program, "-qq", *words], _environment(configuration))


def _environment(configuration: Path) -> dict[str, str]:
    return {"APT_CONFIG": str(configuration), "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    answer = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, timeout=_TIMEOUT
    )
    if answer.returncode:
        raise AptError(
            "apt does not find what is needed",
            doing=" ".join(command[:3]),
            answer=answer.stderr.strip()[-2000:],
            remedy="If a package is named that this release of Debian does not have, correct versions.yml.",
        )
    return answer.stdout
