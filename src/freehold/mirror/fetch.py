"""Downloads: many at once, resumed where they were cut off, and in place only when their checksum is right."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import requests
from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from freehold.errors import FreeholdError

AT_ONCE = 8
"""Downloads at the same time."""
TIMEOUT = (15, 90)
"""Seconds to connect, and between two answers of a server that sends."""
ATTEMPTS = 5
_CHUNK = 1 << 20
_PASSING = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


class FetchError(FreeholdError):
    """A file could not be had, or is not what it should be."""


class _TryAgainError(Exception):
    """The server is busy; it may not be later."""


@dataclass(frozen=True)
class Wanted:
    """A file of the mirror and where it comes from."""

    path: str
    """Place in the mirror."""
    url: str
    algorithm: str
    """Of the checksum: ``sha256``, or what npm locks with."""
    checksum: str
    """Hexadecimal."""
    size: int | None = None
    """Bytes, where they are known."""
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)


HUB_TOKEN = "HF_TOKEN"  # noqa: S105 - the name of a variable
"""Environment variable with the token of an account at the Hugging Face hub; it is the hub's own name for it."""


def hub_headers(url: str) -> dict[str, str]:
    """Headers with the token of this machine's user, where there is one; requests keeps it from other hosts.

    Raises:
        FetchError: The token would go over the network in the clear.
    """
    token, place = os.environ.get(HUB_TOKEN), urlsplit(url)
    if not token:
        return {}
    if place.scheme != "https" and place.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise FetchError(
            f"The token in {HUB_TOKEN} would go to {place.hostname} in the clear",
            where=url,
            remedy=f"Give the hub an address with https (services.weights.hub), or unset {HUB_TOKEN}.",
        )
    return {"Authorization": f"Bearer {token}"}


Report = Callable[[str, int], None]
"""Called with the path of each file that was fetched and its bytes."""


def session() -> requests.Session:
    """A session with enough connections for all threads."""
    made = requests.Session()
    adapter = requests.adapters.HTTPAdapter(pool_connections=AT_ONCE, pool_maxsize=AT_ONCE)
    made.mount("http://", adapter)
    made.mount("https://", adapter)
    return made


def fetch_all(root: Path, wanted: Iterable[Wanted], report: Report | None = None) -> int:
    """Fetch what is not there yet; the number of files fetched.

    What is in place was checked when it came; ``mirror build --check`` reads it again.

    Raises:
        FetchError: Files could not be had; the message names the first, the answer all. The others are in place.
    """
    missing = [one for one in dict.fromkeys(wanted) if not (root / one.path).is_file()]
    if not missing:
        return 0
    lock = threading.Lock()
    failed: list[FetchError] = []
    with session() as own, ThreadPoolExecutor(AT_ONCE) as pool:

        def work(one: Wanted) -> None:
            try:
                size = fetch(own, root, one)
            except FetchError as error:
                with lock:
                    failed.append(error)
                return
            if report:
                with lock:
                    report(one.path, size)

        list(pool.map(work, missing))
    if failed:
        first = failed[0]
        raise FetchError(
            first.message if len(failed) == 1 else f"{len(failed)} files could not be fetched",
            doing="filling the mirror",
            where=first.where,
            answer="\n".join(f"{error.where}: {error.answer or error.message}" for error in failed[:10]),
            remedy=first.remedy,
        )
    return len(missing)


def fetch(own: requests.Session, root: Path, one: Wanted) -> int:
    """Fetch one file, going on where an earlier attempt stopped; its bytes.

    Raises:
        FetchError: The server does not give it, or what it gives has another checksum.
    """
    target = root / one.path
    part = target.with_name(f".{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        for attempt in Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.5, max=20),
            retry=retry_if_exception_type((*_PASSING, _TryAgainError)),
        ):
            with attempt:
                found = _download(own, one, part)
    except RetryError as error:
        raise FetchError(
            f"{target.name} could not be fetched",
            doing="filling the mirror",
            where=one.url,
            answer=str(error.last_attempt.exception()),
            remedy="Run the same command again: what is there is kept, and it goes on where it stopped.",
        ) from error
    if found != one.checksum:
        part.unlink()
        raise FetchError(
            f"{target.name} is not what it should be",
            doing="filling the mirror",
            where=one.url,
            answer=f"{one.algorithm} is {found}; it should be {one.checksum}",
            remedy="It was thrown away. Run the command again; if it stays, the file was changed at its source: find out why"
            " before you trust it.",
        )
    part.chmod(0o644)
    part.replace(target)
    return target.stat().st_size


def _download(own: requests.Session, one: Wanted, part: Path) -> str:
    digest = hashlib.new(one.algorithm)
    have = 0
    if part.is_file():
        with part.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                have += len(chunk)
    # compressed on the way, a range would count other bytes than the file has
    headers = {**one.headers, "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with own.get(one.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416:  # there is no more than we have
            if digest.hexdigest() == one.checksum:
                return one.checksum
            part.unlink()
            raise _TryAgainError("the part that was there is longer than the file")
        if answer.status_code == 429 or answer.status_code >= 500:
            raise _TryAgainError(f"HTTP {answer.status_code}")
        if answer.status_code not in {200, 206}:
            raise FetchError(
                f"{part.name.removeprefix('.').removesuffix('.part')} could not be fetched",
                doing="filling the mirror",
                where=one.url,
                answer=f"HTTP {answer.status_code} {answer.reason}",
                remedy="See whether upstream still has it: `freehold versions check` says what is newer.",
            )
        resumed = answer.status_code == 206
        if not resumed:
            digest = hashlib.new(one.algorithm)
        with part.open("ab" if resumed else "wb") as file:
            for chunk in answer.iter_content(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
    return digest.hexdigest()


def put(path: Path, content: str | bytes) -> None:
    """Write a file that all may read, whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content.encode() if isinstance(content, str) else content)
    new.chmod(0o644)
    new.replace(path)


def sum_of(path: Path, algorithm: str = "sha256") -> str:
    """Checksum of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
