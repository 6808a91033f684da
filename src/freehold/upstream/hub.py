"""What the Hugging Face hub says of a repository of weights, for locks and mirrors that are made where no node is.

Contract: https://huggingface.co/docs/hub/api (``/api/models/<repository>/revision/<revision>?blobs=true``). Which files are
taken is decided in one place, `templates/weights/checks.py.j2`, which the nodes run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from runpy import run_path
from types import SimpleNamespace
from typing import Any

import requests

from freehold import resources
from freehold.catalog.models import LockedForm, WeightFile
from freehold.errors import BadInputError
from freehold.mirror.fetch import HUB_TOKEN, TIMEOUT, FetchError, hub_headers, session
from freehold.mirror.needs import file_url

_LARGEST = 64 << 20
"""Bytes of a file outside LFS, whose SHA-256 the hub does not name: it is read."""


def lock(
    hub: str, repository: str, revision: str | None, report: Callable[[str], None] | None = None
) -> LockedForm:
    """Revision, and files with sizes and checksums, of a repository.

    Args:
        hub: Address of the hub.
        repository: ``<org>/<name>``.
        revision: Its commit; the newest one of the main branch when left out.
        report: Called with the name of each file that is read.

    Raises:
        FetchError: The hub does not give it.
        BadInputError: It has no weights that are taken.
    """
    with session() as own:
        found = _information(own, hub, repository, revision)
        listed = {str(entry["rfilename"]): entry for entry in found["siblings"]}
        try:
            names, _ = _checks().choose(list(listed), repository)
        except _checks().Refused as error:
            raise BadInputError(error.message, where=repository, remedy=error.remedy) from error
        commit = str(found["sha"])
        files = []
        for name in names:
            entry = listed[name]
            if report:
                report(name)
            sha256 = (entry.get("lfs") or {}).get("sha256") or _read(own, hub, repository, commit, entry)
            files.append(WeightFile(name=name, size=int(entry["size"]), sha256=sha256))
    return LockedForm(repository=repository, revision=commit, files=tuple(files))


def _information(own: requests.Session, hub: str, repository: str, revision: str | None) -> dict[str, Any]:
    url = f"{hub.rstrip('/')}/api/models/{repository}/revision/{revision or 'main'}"
    try:
        answer = own.get(url, params={"blobs": "true"}, headers=hub_headers(url), timeout=TIMEOUT)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise _failed(url, repository, error) from error
    return found


def _read(own: requests.Session, hub: str, repository: str, commit: str, entry: Mapping[str, Any]) -> str:
    """SHA-256 of a file that is not in LFS; it must be what git says that it is."""
    url = file_url(hub, repository, commit, str(entry["rfilename"]))
    if int(entry["size"]) > _LARGEST:
        raise BadInputError(f"{entry['rfilename']} of {repository} is large and not in LFS", where=url)
    try:
        answer = own.get(url, headers=hub_headers(url), timeout=TIMEOUT)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise _failed(url, repository, error) from error
    content = answer.content
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    if blob != entry.get("blobId"):
        raise FetchError(
            f"{entry['rfilename']} of {repository} is not what the hub says that it is",
            where=url,
            answer=f"git's id is {blob}; it should be {entry.get('blobId')}",
            remedy="Something between this machine and the hub changes it: find out what.",
        )
    return hashlib.sha256(content).hexdigest()


def _failed(url: str, repository: str, error: Exception) -> FetchError:
    response = getattr(error, "response", None)
    guarded = response is not None and response.status_code in {401, 403}
    return FetchError(
        f"The hub does not give {repository}",
        doing="looking for its checksums",
        where=url,
        answer=str(error),
        remedy=f"Is the name right? If its licence must be accepted first: do so there, and give a token in {HUB_TOKEN}."
        if guarded
        else "See whether this machine reaches it.",
    )


@cache
def _checks() -> SimpleNamespace:
    return SimpleNamespace(**run_path(str(resources.templates() / "weights" / "checks.py.j2")))
