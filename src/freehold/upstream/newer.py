"""What is newer upstream than what the lock names. All sources are asked at once, each for a bounded time.

PyPI and npm are asked through this machine's pip and npm, Debian's archive through its apt; a release at GitHub through
https://docs.github.com/en/rest/releases/releases#get-the-latest-release, an image through the tags of its registry.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from packaging.version import InvalidVersion, Version
from platformdirs import user_cache_path
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from freehold.catalog.services import CODENAMES
from freehold.catalog.versions import Artifact
from freehold.errors import FreeholdError
from freehold.mirror import apt, oci
from freehold.mirror.pypi import pip

GITHUB = "https://api.github.com"
_AT_ONCE = 8
_TIMEOUT = (5, 15)
_SECONDS = 120
"""For one source, all attempts together."""
_CODENAMES = tuple(CODENAMES.values())


@dataclass(frozen=True)
class Answer:
    """What one source says."""

    name: str
    version: str
    newest: str | None = None
    problem: str | None = None
    """Why it is not known."""

    @property
    def newer(self) -> bool:
        """Whether upstream has a newer version."""
        return self.newest is not None and is_newer(self.newest, self.version)

    def as_dict(self) -> dict[str, Any]:
        """The answer as plain data."""
        return {**vars(self), "newer": self.newer}


class SilentError(FreeholdError):
    """A source does not say what is newest."""


def is_newer(found: str, locked: str) -> bool:
    """Whether a version is newer than the lock's; what has no order counts as newer when it differs."""
    found, locked = found.removeprefix("v"), locked.removeprefix("v").partition("+stand-in")[0]
    if found == locked or found.startswith((f"{locked}.", f"{locked}-", f"{locked}+", f"{locked}~")):
        return False  # the lock names a line, such as 17 of PostgreSQL, or leaves Debian's revision out
    try:
        return Version(found) > Version(locked)
    except InvalidVersion:
        return True


def check(lock: Mapping[str, Artifact], github: str = GITHUB) -> list[Answer]:
    """What upstream has, by name."""

    def one(item: tuple[str, Artifact]) -> Answer:
        name, entry = item
        try:
            return Answer(name, entry.version, newest=_newest(entry, github, packages))
        except (FreeholdError, requests.RequestException, subprocess.TimeoutExpired, ValueError) as error:
            return Answer(name, entry.version, problem=_words(error))

    packages: dict[str, dict[str, str]] | str = {}
    if any(entry.source == "debian" for entry in lock.values()):
        try:
            packages = _debian()
        except FreeholdError as error:
            packages = _words(error)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(one, sorted(lock.items())))


def _words(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{urlsplit(error.response.url).hostname} answers HTTP {error.response.status_code}"
    if isinstance(error, requests.RequestException) and error.request is not None:
        return f"{urlsplit(str(error.request.url)).hostname} is not reached"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"{Path(error.cmd[0]).name} did not end within {_SECONDS} s"
    text = error.message if isinstance(error, FreeholdError) else str(error)
    return text.splitlines()[0][:200]


def _newest(entry: Artifact, github: str, packages: dict[str, dict[str, str]] | str) -> str:
    match entry.source:
        case "pypi":
            return _pypi(str(entry.package))
        case "npm":
            return _run(["npm", "view", str(entry.package), "version"]).splitlines()[-1]
        case "debian":
            return _of_debian(entry, packages)
        case "oci":
            return _tag(entry)
        case "release":
            return _release(entry, github)


def _pypi(package: str) -> str:
    text = _run([*pip(), "index", "versions", package])
    found = re.match(r"\S+ \(([^)]+)\)", text)
    if found is None:
        raise SilentError(f"pip names no version of {package}")
    return found[1]


def _release(entry: Artifact, github: str) -> str:
    repository = entry.releases or _at_github(str(entry.url))
    if repository is None:
        raise SilentError("nobody says what is newer: look at its page")
    answer = _get(f"{github}/repos/{repository}/releases/latest", {"Accept": "application/vnd.github+json"})
    found = re.search(r"\d+(\.\d+)+", str(answer.json()["tag_name"]))
    if found is None:
        raise SilentError(f"the latest release of {repository} has no version in its name")
    return found[0]


def _at_github(url: str) -> str | None:
    parts = urlsplit(url)
    names = parts.path.strip("/").split("/")
    return "/".join(names[:2]) if parts.hostname == "github.com" and len(names) > 2 else None


def _tag(entry: Artifact) -> str:
    base = oci.address(str(entry.image), plain_http=entry.plain_http)
    headers = oci.token(base, entry.version, {})
    found = []
    for tag in _get(f"{base}/tags/list", headers).json().get("tags") or []:
        if re.fullmatch(r"v?\d+(\.\d+){2,3}", tag):
            found.append(Version(tag))
    if not found:
        raise SilentError("the registry lists no versions")
    return str(max(found))


def _get(url: str, headers: Mapping[str, str]) -> requests.Response:
    for attempt in Retrying(
        stop=stop_after_attempt(3) | stop_after_delay(_SECONDS),
        wait=wait_random_exponential(multiplier=0.5, max=5),
        retry=retry_if_exception_type((requests.ConnectionError, requests.Timeout)),
        reraise=True,
    ):
        with attempt:
            answer = requests.get(url, headers=dict(headers), timeout=_TIMEOUT)
            answer.raise_for_status()
    return answer


def _debian() -> dict[str, dict[str, str]]:
    """Versions of all packages by release of Debian; the archive's signed indexes are kept in this user's cache."""
    root = user_cache_path("freehold") / "archives"
    root.mkdir(parents=True, exist_ok=True)
    addresses = apt.upstream()
    return {codename: apt.versions(root, codename, addresses) for codename in _CODENAMES}


def _of_debian(entry: Artifact, packages: dict[str, dict[str, str]] | str) -> str:
    if isinstance(packages, str):
        raise SilentError(packages)
    if entry.suite is None:
        raise SilentError("of no release of its own: hosts upgrade it themselves")
    found = packages[entry.suite].get(entry.packages[0])
    if found is None:
        raise SilentError(f"{entry.suite} has no package {entry.packages[0]}")
    return re.sub(r"[-+~](ds|dfsg|deb|b|\d).*$", "", found.partition(":")[2] or found)


def _run(command: list[str]) -> str:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except FileNotFoundError as error:
        raise SilentError(f"there is no {command[0]} on this machine") from error
    if answer.returncode or not answer.stdout.strip():
        raise SilentError((answer.stderr.strip() or f"{command[0]} said nothing").splitlines()[-1])
    return answer.stdout.strip()
