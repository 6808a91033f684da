"""npm packages: the tarballs that a lock file names, each with the little of its registry entry that ``npm ci`` reads.

The lock file's own checksums hold. What its fields ``os``, ``cpu`` and ``libc`` keep from Linux on x86_64 is left out, as
npm itself leaves it out (https://docs.npmjs.com/cli/configuring-npm/package-lock-json).
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from freehold.errors import FreeholdError
from freehold.mirror.fetch import Wanted

FOLDER = "npm"
ENTRY = "packument.json"
"""File of a package's registry entry; addresses of tarballs in it are relative to the registry."""
_HERE = {"os": "linux", "cpu": "x64", "libc": "glibc"}


class NpmError(FreeholdError):
    """The lock file, or this machine, does not say where packages come from."""


@dataclass(frozen=True)
class Package:
    """One package of a lock file."""

    name: str
    version: str
    integrity: str

    @property
    def tarball(self) -> str:
        """Path of the tarball below a registry, by npm's convention."""
        return f"{self.name}/-/{self.name.rpartition('/')[2]}-{self.version}.tgz"


def registry() -> str:
    """Address of the registry that this machine's npm uses.

    Raises:
        NpmError: There is no npm.
    """
    try:
        answer = subprocess.run(
            ["npm", "config", "get", "registry"], capture_output=True, text=True, check=False, timeout=60
        )
    except FileNotFoundError as error:
        raise NpmError(
            "There is no npm on this machine",
            doing="looking for the registry of npm packages",
            remedy="Install npm, or name the registry: --npm URL.",
        ) from error
    lines = answer.stdout.strip().splitlines()
    if answer.returncode or not lines:
        raise NpmError("npm names no registry", answer=answer.stderr.strip(), remedy="Name it: --npm URL.")
    return lines[-1].rstrip("/")


def packages(lock: str) -> list[Package]:
    """The packages of a lock file (version 2 or 3) that Linux on x86_64 installs.

    Raises:
        NpmError: A package has no checksum.
    """
    found = []
    for place, entry in json.loads(lock)["packages"].items():
        if not place or entry.get("link") or entry.get("inBundle") or entry.get("dev") or not _for_us(entry):
            continue
        name = entry.get("name") or place.rpartition("node_modules/")[2]
        if "integrity" not in entry:
            raise NpmError(f"The lock file has no checksum for {name}", where=place)
        found.append(Package(name, entry["version"], entry["integrity"]))
    return sorted(set(found), key=lambda one: (one.name, one.version))


def _for_us(entry: dict[str, Any]) -> bool:
    for field, here in _HERE.items():
        listed = [listed] if isinstance(listed := entry.get(field) or [], str) else listed
        allowed = [one for one in listed if not one.startswith("!")]
        if f"!{here}" in listed or (allowed and here not in allowed and "any" not in allowed):
            return False
    return True


def wanted(found: Iterable[Package], address: str) -> list[Wanted]:
    """The tarballs as files of the mirror."""
    files = []
    for package in found:
        algorithm, checksum = _checksum(package)
        url = f"{address}/{quote(package.tarball, safe='/@')}"
        files.append(Wanted(f"{FOLDER}/{package.tarball}", url, algorithm, checksum))
    return files


def _checksum(package: Package) -> tuple[str, str]:
    known = dict(one.split("?")[0].split("-", 1) for one in package.integrity.split())
    for algorithm in ("sha512", "sha384", "sha256", "sha1"):
        if algorithm in known:
            return algorithm, base64.b64decode(known[algorithm]).hex()
    raise NpmError(f"The checksum of {package.name} is of no kind that is known", answer=package.integrity)


def write_entries(root: Path, found: Iterable[Package]) -> list[str]:
    """Write the registry entries of packages, with the versions that were there already; their paths."""
    by_name: dict[str, list[Package]] = {}
    for package in found:
        by_name.setdefault(package.name, []).append(package)
    paths = []
    for name, group in by_name.items():
        path = root / FOLDER / name / ENTRY
        versions: dict[str, Any] = {}
        if path.is_file():
            versions = json.loads(path.read_text(encoding="utf-8"))["versions"]
        for package in group:
            versions[package.version] = {
                "name": name,
                "version": package.version,
                "dist": {"tarball": package.tarball, "integrity": package.integrity},
            }
        latest = list(versions)[-1]
        text = json.dumps(
            {"name": name, "dist-tags": {"latest": latest}, "versions": versions}, sort_keys=True
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            new = path.with_name(f".{ENTRY}.new")
            new.write_text(text, encoding="utf-8")
            new.chmod(0o644)
            new.replace(path)
        paths.append(f"{FOLDER}/{name}/{ENTRY}")
    return paths


def answer(entry: str, base: str) -> bytes:
    """A registry entry as a client gets it: with whole addresses, below ``base``."""
    document = json.loads(entry)
    for version in document["versions"].values():
        version["dist"]["tarball"] = f"{base}/{quote(version['dist']['tarball'], safe='/@')}"
    return json.dumps(document).encode()


def forget(root: Path, name: str) -> None:
    """Remove a package whole."""
    shutil.rmtree(root / FOLDER / name, ignore_errors=True)
