"""Writing a checksum into the lock: upstream's file is read once, and what it was then is what is installed from then on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import requests
import yaml

from freehold.catalog import versions
from freehold.catalog.versions import Artifact
from freehold.errors import BadInputError
from freehold.mirror import oci
from freehold.mirror.fetch import TIMEOUT, FetchError, put, session

_CHUNK = 1 << 20


class NotLockableError(BadInputError):
    """The entry is not pinned by a checksum in ``versions.yml``."""


def lock(
    name: str,
    entry: Artifact,
    file: Path,
    *,
    version: str | None = None,
    url: str | None = None,
    report: Callable[[int], None] | None = None,
) -> dict[str, str]:
    """Find the checksum of an artifact upstream and write it into a lock file; the keys that were written.

    Args:
        name: Name of the entry.
        entry: What the lock says of it now.
        file: The lock file; its comments stay.
        version: Another version than the lock's.
        url: Its address, where that is not the old one with the new version in it.
        report: Called with the bytes read so far.

    Raises:
        NotLockableError: Its pins lie elsewhere; the remedy says where.
        FetchError: Upstream does not have it.
    """
    values: dict[str, str] = {}
    if version and version != entry.version:
        values["version"] = version
    wanted = version or entry.version
    if entry.source == "release":
        address = url or str(entry.url).replace(entry.version, wanted)
        if version and not url and address == entry.url:
            raise NotLockableError(
                f"The address of {name} does not hold its version, so that of {version} is not known",
                where=str(entry.url),
                remedy="Give it: --url URL.",
            )
        if address != entry.url:
            values["url"] = address
        values["sha256"] = _sum(address, report)
    elif entry.source == "oci":
        values["digest"] = _digest(entry, wanted)
    else:
        raise NotLockableError(
            f"{name} is not pinned by a checksum here",
            where=f"{file}: {name}",
            remedy={
                "debian": "Debian's signature pins it; a host upgrades it within its release.",
                "pypi": f"Change the version in requirements.in beside roles/{entry.lock} and compile that anew: uv pip compile"
                " --generate-hashes.",
                "npm": f"Change the version in package.json beside roles/{entry.lock}, and run: npm install"
                " --package-lock-only.",
            }[entry.source],
        )
    write(file, name, values)
    return values


def _sum(url: str, report: Callable[[int], None] | None) -> str:
    digest, count = hashlib.sha256(), 0
    try:
        with session() as own, own.get(url, stream=True, timeout=TIMEOUT) as answer:
            answer.raise_for_status()
            for chunk in answer.iter_content(_CHUNK):
                digest.update(chunk)
                count += len(chunk)
                if report:
                    report(count)
            length = answer.headers.get("Content-Length")
            if length and "Content-Encoding" not in answer.headers and int(length) != count:
                raise requests.ConnectionError(f"it ended after {count} of {length} bytes")
    except requests.RequestException as error:
        raise FetchError(
            "The file could not be read",
            doing="looking for its checksum",
            where=url,
            answer=str(error),
            remedy="See whether this machine reaches it, and that the version exists.",
        ) from error
    return digest.hexdigest()


def _digest(entry: Artifact, tag: str) -> str:
    base = oci.address(str(entry.image), plain_http=entry.plain_http)
    url = f"{base}/manifests/{tag}"
    headers = {"Accept": ", ".join(oci.MANIFESTS)}
    try:
        headers |= oci.token(base, tag, headers)
        answer = requests.get(url, headers=headers, timeout=TIMEOUT)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise FetchError(
            "The registry does not give this image",
            doing="looking for its digest",
            where=url,
            answer=str(error),
            remedy="See whether this machine reaches it, and that the version exists.",
        ) from error
    return f"sha256:{hashlib.sha256(answer.content).hexdigest()}"


def write(file: Path, name: str, values: dict[str, str]) -> None:
    """Set keys of one entry of a lock file; every other line stays as it is.

    Raises:
        BadInputError: The file has an entry that cannot be changed line by line.
    """
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    before = yaml.safe_load(text) or {}
    lines = text.splitlines()
    start = next((index for index, line in enumerate(lines) if line.rstrip() == f"{name}:"), None)
    if start is None:
        lines += ["", f"{name}:"] if lines else [f"{name}:"]
        start = len(lines) - 1
    end = start + 1
    while end < len(lines) and (lines[end].startswith(" ") and lines[end].strip()):
        end += 1
    for key, value in values.items():
        scalar = yaml.safe_dump({key: value}, width=1000).strip()
        row = next((i for i in range(start + 1, end) if re.match(rf"  {key}:", lines[i])), None)
        if row is not None:
            lines[row] = f"  {scalar}"
            continue
        after = next((i for i in range(start + 1, end) if re.match(r"  (url|image):", lines[i])), end - 1)
        lines.insert(after + 1, f"  {scalar}")
        end += 1
    changed = "\n".join(lines) + "\n"
    if yaml.safe_load(changed) != {**before, name: {**(before.get(name) or {}), **values}}:
        raise BadInputError(
            f"The entry {name} is written in a form that cannot be changed line by line",
            where=str(file),
            remedy="Write it with one key in each line, as the others are, and run the command again.",
        )
    put(file, changed)
    versions.load(file.parent)  # what was written can be read
