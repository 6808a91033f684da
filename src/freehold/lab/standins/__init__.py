"""Stand-ins (lab): programs in place of those that only GitHub, a container registry or a vendor's site serves.

Each has the archive layout, ports, authentication and health checks of what it stands for, so that the role which
installs it runs unchanged, and answers a named list of endpoints. A stand-in proves wiring, not the program itself:
its version ends in ``+stand-in``, and the summary of a run names it.

A module of this package is a stand-in when it has a :class:`StandIn` named ``STAND_IN``.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import os
import pkgutil
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from freehold.catalog import versions
from freehold.errors import FreeholdError

HERE = Path(__file__).resolve().parent

Say = Callable[[str], None]


@dataclass(frozen=True)
class StandIn:
    """One stand-in.

    Attributes:
        artifact: Entry of ``versions.yml`` that it stands for.
        build: Makes what is served in the given empty folder and returns the path of the file that is installed.
        sources: Files and folders beside this module that decide what is built; the stand-in's own module among them.
        describe: Makes the entry of the lock from the file and its address; a release with its SHA-256 when left out.
    """

    artifact: str
    build: Callable[[Path], Path]
    sources: tuple[str, ...]
    describe: Callable[[Path, str], Mapping[str, Any]] | None = None

    @cached_property
    def version(self) -> str:
        """The version that the lock has, marked as a stand-in's."""
        return f"{versions.load()[self.artifact].version}+stand-in"

    @cached_property
    def digest(self) -> str:
        """Of everything that decides what is built: a stand-in is built again only when this changes."""
        digest = hashlib.sha256(f"{self.version} {sys.version_info[:2]}".encode())
        for source in (*self.sources, "__init__.py"):
            path = HERE / source
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file() and "__pycache__" not in file.parts:
                    digest.update(str(file.relative_to(HERE)).encode() + b"\0" + file.read_bytes())
        return digest.hexdigest()[:16]

    def entry(self, file: Path, address: str) -> dict[str, Any]:
        """What the lock of a client of the lab says of it."""
        if self.describe:
            described = dict(self.describe(file, address))
        else:
            with file.open("rb") as stream:
                described = {"url": address, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
        return {"version": self.version, **described, "stand_in": True}


def all_of_them() -> list[StandIn]:
    """Every stand-in of this package, by the name of its artifact."""
    modules = (
        importlib.import_module(f"{__name__}.{each.name}") for each in pkgutil.iter_modules([str(HERE)])
    )
    found = [module.STAND_IN for module in modules if hasattr(module, "STAND_IN")]
    return sorted(found, key=lambda stand_in: stand_in.artifact)


def build_all(cache: Path, say: Say) -> None:
    """Build the stand-ins that are not in the cache yet, two at once, and forget earlier ones.

    Raises:
        FreeholdError: One could not be built; the message names it and the step.
    """
    cache.mkdir(parents=True, exist_ok=True)
    wanted = all_of_them()
    kept = {_name(stand_in) for stand_in in wanted}
    for old in cache.iterdir():
        if old.name not in kept:
            shutil.rmtree(old)
    missing = [stand_in for stand_in in wanted if not (cache / _name(stand_in)).is_dir()]
    if missing:
        say(f"building {len(missing)} stand-ins, once: {', '.join(each.artifact for each in missing)}")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda stand_in: _build(stand_in, cache), missing))


def lock(cache: Path, address: str) -> str:
    """The text of a ``versions.yml`` for a client of this lab, whose file server is at an address."""
    entries = {}
    for stand_in in all_of_them():
        file = cache / _name(stand_in) / (cache / _name(stand_in) / _FILE).read_text(encoding="utf-8")
        entries[stand_in.artifact] = stand_in.entry(
            file,
            f"{address.rstrip('/')}/standins/{_name(stand_in)}/{file.relative_to(cache / _name(stand_in))}",
        )
    head = "# Written by `freehold lab start`: stand-ins of the lab, laid over Freehold's versions.yml for this client alone.\n"
    return head + yaml.safe_dump(entries, sort_keys=True, width=200)


_FILE = ".file"
"""Names the file that is installed, in the folder of what is served."""


def _name(stand_in: StandIn) -> str:
    return f"{stand_in.artifact}-{stand_in.digest}"


def _build(stand_in: StandIn, cache: Path) -> None:
    folder = cache / f".{stand_in.artifact}.{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        file = stand_in.build(folder)
        (folder / _FILE).write_text(str(file.relative_to(folder)), encoding="utf-8")
        folder.rename(cache / _name(stand_in))
    except (OSError, subprocess.CalledProcessError) as error:
        raise FreeholdError(
            f"the stand-in of {stand_in.artifact} could not be built",
            doing="building what the lab serves in place of upstream",
            where=str(HERE / stand_in.sources[0]),
            answer=str(getattr(error, "stderr", "") or error),
            remedy="Check that the package indexes can be reached, then run `freehold lab start` again.",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(command: list[str], **environment: str) -> str:
    """Run a step of a build; its standard output.

    Raises:
        subprocess.CalledProcessError: It failed; the error carries its standard error.
    """
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | environment, timeout=1800
    ).stdout


def site_packages(lock_file: Path, folder: Path, python: str) -> None:
    """Put the packages of a hash-locked list into a folder, for another Python on x86_64, such as ``3.13``.

    Raises:
        subprocess.CalledProcessError: A package could not be fetched.
    """
    uv = shutil.which(
        "uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    )
    if uv is None:
        raise FreeholdError(
            "the lab needs uv to build its stand-ins", remedy="Run: pip install 'freehold[lab]'"
        )
    command = [uv, "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:"]
    command += ["--no-config", "--python-version", python, "--python-platform", "x86_64-manylinux_2_36"]
    run([*command, "--target", str(folder), "--requirement", str(lock_file)])


def archive(path: Path, members: Iterable[tuple[str, Path | bytes, int]]) -> Path:
    """Write a tar archive that is the same whenever it is made of the same: ``.tar.gz``, ``.tgz`` or ``.tar.zst``.

    Args:
        path: The archive.
        members: Name in the archive, a file or folder or the content itself, and the mode of a file.
    """
    raw = path if path.suffix != ".zst" else path.with_suffix("")
    with raw.open("wb") as stream:
        if path.suffix == ".zst":
            _pack(stream, members)
        else:
            with gzip.GzipFile("", "wb", compresslevel=1, fileobj=stream, mtime=0) as packed:
                _pack(packed, members)
    if raw != path:
        run(["zstd", "--quiet", "--force", "--rm", "-1", "-T2", str(raw), "-o", str(path)])
    return path


def _pack(stream: Any, members: Iterable[tuple[str, Path | bytes, int]]) -> None:
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content, mode in members:
            if isinstance(content, bytes):
                _add(tar, name, mode, content)
            elif content.is_dir():
                for file in sorted(content.rglob("*")):
                    inner = f"{name}/{file.relative_to(content)}" if name else str(file.relative_to(content))
                    if file.is_symlink():
                        _link(tar, inner, str(file.readlink()))
                    elif file.is_file() and "__pycache__" not in file.parts:
                        _add(tar, inner, 0o755 if os.access(file, os.X_OK) else 0o644, file.read_bytes())
            else:
                _add(tar, name, mode, content.read_bytes())


def _add(tar: tarfile.TarFile, name: str, mode: int, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    tar.addfile(member)
