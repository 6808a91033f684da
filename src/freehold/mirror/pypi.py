"""Python packages: the one wheel of each locked package that fits the target, in a flat folder for ``--find-links``.

pip fetches them, from where this machine's pip fetches (its index, its configuration), and holds each against the hashes
of the lock file.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from packaging.markers import Marker
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from freehold.errors import FreeholdError
from freehold.mirror.fetch import FetchError, put, sum_of

FOLDER = "pypi"
TARGETS = {"debian-12": ((3, 11), 36), "debian-13": ((3, 13), 41)}
"""Python and minor version of glibc 2 of the hosts, by their system."""
MACHINE = "x86_64"

_AT_ONCE = 4
_BATCH = 12
"""Packages per run of pip: what a run that is cut off has to do again."""
_TIMEOUT = 3600
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})\b")


class NoPipError(FreeholdError):
    """There is no pip to fetch with."""


@dataclass(frozen=True)
class Requirement:
    """One line of a lock file."""

    text: str
    hashes: frozenset[str]


def requirements(lock: str, target: str) -> list[Requirement]:
    """The packages of a lock file that hosts of a system install."""
    lines = "\n".join(line for line in lock.splitlines() if not line.lstrip().startswith("#"))
    found = []
    for line in lines.replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        pin, _, marker = line.split("--hash", 1)[0].partition(";")
        if marker.strip() and not Marker(marker.strip()).evaluate(_environment(target)):
            continue
        hashes = _HASH.findall(line)
        found.append(
            Requirement(
                " ".join([pin.strip(), *(f"--hash=sha256:{one}" for one in hashes)]), frozenset(hashes)
            )
        )
    return found


def _environment(target: str) -> dict[str, str]:
    (major, minor), _ = TARGETS[target]
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{major}.{minor}.0",
        "os_name": "posix",
        "platform_machine": MACHINE,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{major}.{minor}.0",
        "python_version": f"{major}.{minor}",
        "sys_platform": "linux",
    }


def _platforms(target: str) -> list[str]:
    _, glibc = TARGETS[target]
    return [
        *(f"manylinux_2_{minor}_{MACHINE}" for minor in range(glibc, 4, -1)),
        *(f"{name}_{MACHINE}" for name in ("manylinux2014", "manylinux2010", "manylinux1", "linux")),
    ]


def fits(wheel: str, target: str) -> bool:
    """Whether hosts of a system can install a wheel, by its file name."""
    python, _ = TARGETS[target]
    platforms = _platforms(target)
    tags = {
        *cpython_tags(python, platforms=platforms),
        *compatible_tags(python, f"cp{python[0]}{python[1]}", platforms),
    }
    return wheel.endswith(".whl") and not tags.isdisjoint(parse_wheel_filename(wheel)[3])


def fetch(
    root: Path,
    lock: str,
    target: str,
    places: tuple[Sequence[str], Sequence[str]],
    have: dict[str, str],
    done: Callable[[str, int], None],
) -> list[str]:
    """Fetch the wheels of a lock file for a system that are not there yet; paths of all of them.

    Args:
        root: The mirror.
        lock: Text of the lock file.
        target: System of the hosts, such as ``debian-12``.
        places: More places for wheels (``--find-links``), and those that are asked only for what is nowhere else: one that
            does not answer costs pip half a minute.
        have: File names of wheels that are there, by their SHA-256; new ones are added.
        done: Called with the path and bytes of each file that was fetched.

    Raises:
        FetchError: pip does not find a wheel, or what it finds has another hash.
    """
    wanted = requirements(lock, target)
    todo = [one for one in wanted if _there(one, target, have) is None]
    batches = [todo[start : start + _BATCH] for start in range(0, len(todo), _BATCH)]
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    if batches:
        program = pip()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for wheels in pool.map(lambda batch: _download(program, root, batch, target, places), batches):
                for name, sha256, size in wheels:
                    have[sha256] = name
                    done(f"{FOLDER}/{name}", size)
    return sorted(f"{FOLDER}/{_there(one, target, have)}" for one in wanted)


def _there(requirement: Requirement, target: str, have: dict[str, str]) -> str | None:
    return next(
        (have[one] for one in sorted(requirement.hashes & have.keys()) if fits(have[one], target)), None
    )


def _download(
    pip: list[str],
    root: Path,
    batch: Sequence[Requirement],
    target: str,
    places: tuple[Sequence[str], Sequence[str]],
) -> list[tuple[str, str, int]]:
    near, far = places
    if far:
        try:
            return _from(pip, root, batch, target, near)
        except FetchError:
            if len(batch) > 1:  # the others need not be looked for there
                return [wheel for one in batch for wheel in _download(pip, root, [one], target, places)]
    return _from(pip, root, batch, target, [*near, *far])


def _from(
    pip: list[str], root: Path, batch: Sequence[Requirement], target: str, places: Sequence[str]
) -> list[tuple[str, str, int]]:
    (major, minor), _ = TARGETS[target]
    with tempfile.TemporaryDirectory(prefix=".part-", dir=root / FOLDER) as name:
        folder = Path(name)
        (folder / "lock.txt").write_text("".join(f"{one.text}\n" for one in batch), encoding="utf-8")
        command = [*pip, "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]
        command += ["--require-hashes", "--no-deps", "--only-binary=:all:", "--implementation=cp"]
        command += [f"--python-version={major}.{minor}", *(f"--platform={one}" for one in _platforms(target))]
        for place in places:
            command += ["--find-links", place]
            if place.startswith("http://"):  # the hash decides, wherever a wheel comes from
                command += ["--trusted-host", urlsplit(place).netloc]
        command += ["--dest", str(folder / "wheels"), "--requirement", str(folder / "lock.txt")]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise _failed(f"no end after {_TIMEOUT} seconds") from error
        if answer.returncode:
            raise _failed(answer.stderr.strip()[-2000:])
        found = []
        for wheel in sorted((folder / "wheels").iterdir()):
            found.append((wheel.name, sum_of(wheel), wheel.stat().st_size))
            wheel.chmod(0o644)
            wheel.replace(root / FOLDER / wheel.name)
        return found


def _failed(answer: str) -> FetchError:
    return FetchError(
        "pip could not fetch Python packages",
        doing="filling the mirror",
        where=FOLDER,
        answer=answer,
        remedy="Run the same command again: what is there is kept. Wheels that the index does not have come from"
        " sources.wheels of the stack file.",
    )


def pip() -> list[str]:
    """The pip of this machine, as the beginning of a command.

    Raises:
        NoPipError: There is none.
    """
    candidates = [[sys.executable, "-m", "pip"]]
    candidates += [[found] for name in ("pip3", "pip") if (found := shutil.which(name))]
    for command in candidates:
        answer = subprocess.run([*command, "--version"], capture_output=True, check=False, timeout=60)
        if answer.returncode == 0:
            return command
    raise NoPipError(
        "There is no pip on this machine",
        doing="filling the mirror",
        remedy="Install python3-pip, or pip beside Freehold (python -m ensurepip).",
    )


def write_page(root: Path, files: Iterable[str]) -> None:
    """The page that ``--find-links`` reads: a link to each wheel."""
    names = sorted(path.removeprefix(f"{FOLDER}/") for path in files if path.startswith(f"{FOLDER}/"))
    links = "".join(f'<a href="{quote(name)}">{html.escape(name)}</a><br>\n' for name in names)
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    put(folder / "index.html", f"<!DOCTYPE html>\n<title>Python packages</title>\n{links}")
