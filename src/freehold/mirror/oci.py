"""Container images by digest: manifests and layers as the registry gave them, at the paths of the registry's own API.

Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md (pull), and for tokens
https://distribution.github.io/distribution/spec/auth/token/.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import requests

from freehold.mirror.fetch import TIMEOUT, FetchError, Report, Wanted, fetch_all, session

FOLDER = "v2"
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_PLATFORM = {"os": "linux", "architecture": "amd64"}
_FIELD = re.compile(r'(\w+)="([^"]*)"')


def fetch(
    root: Path, image: str, digest: str, *, plain_http: bool = False, report: Report | None = None
) -> list[str]:
    """Fetch an image for Linux on x86_64; the paths of its files.

    Args:
        root: The mirror.
        image: Registry and name, such as ``docker.langfuse.com/langfuse/langfuse``.
        digest: Of its manifest, or of the index that lists manifests by platform.
        plain_http: Whether the registry speaks HTTP without TLS.
        report: Called for each file that was fetched.

    Raises:
        FetchError: The registry does not give it, or gives something else.
    """
    name = image.partition("/")[2]
    base = address(image, plain_http=plain_http)
    headers = {"Accept": ", ".join(MANIFESTS)}
    headers |= token(base, digest, headers)
    paths = []

    def manifest(one: str) -> dict[str, Any]:
        path = f"{FOLDER}/{name}/manifests/{one}"
        file = Wanted(path, f"{base}/manifests/{one}", "sha256", one.removeprefix("sha256:"), headers=headers)
        fetch_all(root, [file], report)
        paths.append(path)
        document: dict[str, Any] = json.loads((root / path).read_text(encoding="utf-8"))
        return document

    document = manifest(digest)
    if "manifests" in document:
        fitting = [
            one["digest"]
            for one in document["manifests"]
            if {key: one.get("platform", {}).get(key) for key in _PLATFORM} == _PLATFORM
        ]
        if not fitting:
            raise FetchError(f"The image {image} is not there for Linux on x86_64", where=f"{image}@{digest}")
        document = manifest(fitting[0])
    blobs = [
        Wanted(
            f"{FOLDER}/{name}/blobs/{blob['digest']}",
            f"{base}/blobs/{blob['digest']}",
            "sha256",
            str(blob["digest"]).removeprefix("sha256:"),
            int(blob["size"]),
            {key: value for key, value in headers.items() if key == "Authorization"},
        )
        for blob in (document["config"], *document["layers"])
    ]
    fetch_all(root, blobs, report)
    return [*paths, *dict.fromkeys(blob.path for blob in blobs)]


def address(image: str, *, plain_http: bool) -> str:
    """Where a registry answers for an image."""
    host, _, name = image.partition("/")
    return f"{'http' if plain_http else 'https'}://{host}/v2/{name}"


def token(base: str, reference: str, headers: dict[str, str]) -> dict[str, str]:
    """The header that opens the registry, where it wants one of people without an account."""
    url = f"{base}/manifests/{reference}"
    try:
        with session() as own:
            answer = own.head(url, headers=headers, timeout=TIMEOUT, allow_redirects=True)
            if answer.status_code != 401:
                return {}
            challenge = answer.headers.get("WWW-Authenticate", "")
            fields = dict(_FIELD.findall(challenge))
            if not challenge.lower().startswith("bearer ") or "realm" not in fields:
                raise FetchError("This registry wants a log-in", where=url, answer=challenge)
            realm = fields.pop("realm")
            given = own.get(realm, params=fields, timeout=TIMEOUT)
            given.raise_for_status()
            document = given.json()
    except (requests.RequestException, ValueError) as error:
        raise FetchError(
            "The registry does not answer",
            doing="asking for an image",
            where=url,
            answer=str(error),
            remedy="See whether this machine reaches it, and run the same command again.",
        ) from error
    return {"Authorization": f"Bearer {document.get('token') or document.get('access_token')}"}


def content_type(text: bytes) -> str:
    """Media type of a manifest."""
    document = json.loads(text)
    if isinstance(document.get("mediaType"), str):
        return str(document["mediaType"])
    return MANIFESTS[0] if "manifests" in document else MANIFESTS[1]
