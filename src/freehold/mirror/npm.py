"""npm packages: the tarballs that a lock file names, each with as much of its registry entry as ``npm ci`` reads.

The lock file's own checksums hold. What its fields ``os``, ``cpu`` and ``libc`` keep from Linux on x86_64 is left out, as
npm itself leaves it out (npm documentation: Configuring npm, package-lock.json).
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from freehold.errors import FreeholdError
from freehold.mirror.fetch import AT_ONCE, ATTEMPTS, TIMEOUT, FetchError, Wanted, put, session

FOLDER = "npm"
ENTRY = "packument.json"
"""File of a package's registry entry; addresses of tarballs in it are relative to the registry."""
WHOLE = "registry.json"
"""A registry entry with all versions, as it came."""
_ABBREVIATED = "application/vnd.npm.install-v1+json"
"""Source: https://github.com/npm/registry/blob/main/docs/responses/package-metadata.md"""
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


def peers(lock: str) -> set[str]:
    """Names of packages that others of the lock want beside them.

    Where the lock has another version than a package wants, ``npm ci`` asks which versions there are before it takes what
    the lock says; so the entries of these packages have to list them all.
    """
    found = {
        name for entry in json.loads(lock)["packages"].values() for name in entry.get("peerDependencies", {})
    }
    return {name for name in found if "/" not in name.lstrip("@") or name.startswith("@")}


def entries_upstream(root: Path, names: Iterable[str], address: str) -> int:
    """Fetch the whole registry entries of packages that are not there yet; how many came.

    Raises:
        FetchError: The registry does not answer. A package that it does not know is left out.
    """
    missing = sorted(name for name in names if not (root / FOLDER / name / WHOLE).is_file())
    with session() as own, ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(lambda name: _entry(own, root, name, address), missing))


def _entry(own: requests.Session, root: Path, name: str, address: str) -> int:
    url = f"{address}/{name.replace('/', '%2f')}"
    try:
        for attempt in Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.5, max=20),
            retry=retry_if_exception_type((requests.ConnectionError, requests.Timeout)),
            reraise=True,
        ):
            with attempt:
                given = own.get(url, headers={"Accept": _ABBREVIATED}, timeout=TIMEOUT)
                if given.status_code == 404:
                    return 0
                given.raise_for_status()
    except requests.RequestException as error:
        raise FetchError(
            "The registry of npm packages does not answer",
            doing="filling the mirror",
            where=url,
            answer=str(error),
            remedy="Run the same command again: what is there is kept.",
        ) from error
    versions = {}
    for version, manifest in given.json()["versions"].items():
        tarball = Package(name, version, "").tarball
        sums = {key: manifest["dist"][key] for key in ("integrity", "shasum") if key in manifest["dist"]}
        versions[version] = {**manifest, "dist": {**sums, "tarball": tarball}}
    _write(
        root / FOLDER / name / WHOLE,
        {"name": name, "dist-tags": given.json()["dist-tags"], "versions": versions},
    )
    return 1


def write_entries(root: Path, found: Iterable[Package], whole: Iterable[str] = ()) -> list[str]:
    """Write the registry entries of packages, with the versions that were there already; their paths.

    ``whole`` are packages whose entries came from the registry (:func:`entries_upstream`): they list all versions.
    """
    by_name: dict[str, list[Package]] = {name: [] for name in whole}
    for package in found:
        by_name.setdefault(package.name, []).append(package)
    paths = []
    for name, group in by_name.items():
        folder = root / FOLDER / name
        document: dict[str, Any] = {"name": name, "dist-tags": {}, "versions": {}}
        for path in (folder / ENTRY, folder / WHOLE):
            if path.is_file():
                there = json.loads(path.read_text(encoding="utf-8"))
                document["versions"] |= there["versions"]
                document["dist-tags"] = there["dist-tags"]
        for package in group:
            document["versions"].setdefault(
                package.version,
                {
                    "name": name,
                    "version": package.version,
                    "dist": {"tarball": package.tarball, "integrity": package.integrity},
                },
            )
        if not document["versions"]:
            continue  # the registry does not know it, and the lock does not have it
        document["dist-tags"].setdefault("latest", list(document["versions"])[-1])
        _write(folder / ENTRY, document)
        paths += [f"{FOLDER}/{name}/{one.name}" for one in (folder / ENTRY, folder / WHOLE) if one.is_file()]
    return paths


def _write(path: Path, document: dict[str, Any]) -> None:
    text = json.dumps(document, sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        put(path, text)


def answer(entry: str, base: str) -> bytes:
    """A registry entry as a client gets it: with whole addresses, below ``base``."""
    document = json.loads(entry)
    for version in document["versions"].values():
        version["dist"]["tarball"] = f"{base}/{quote(version['dist']['tarball'], safe='/@')}"
    return json.dumps(document).encode()
