"""Stand-in of the Hugging Face hub, for the lab and for tests: as much of it as `huggingface_hub` asks for to fetch files.

Contract, by https://huggingface.co/docs/hub/api and by what huggingface_hub 2.4 reads of the answers:

- ``GET /api/models/<org>/<name>[/revision/<revision>][?blobs=true]``: commit and files, with sizes and checksums
- ``GET /api/models/<org>/<name>/tree/<revision>``: the same files as a list
- ``HEAD`` and ``GET /<org>/<name>/resolve/<revision>/<path>``: a file, with ``X-Repo-Commit`` and ``ETag``; what lies in LFS
  has ``X-Linked-Etag`` (its SHA-256) and ``X-Linked-Size``, and comes from a store at another host where there is one; ranges
  are given
- errors in ``X-Error-Code``: ``RepoNotFound``, ``RevisionNotFound``, ``EntryNotFound``, ``GatedRepo``

Each repository has one commit, whose id follows from its content. A repository with the file `GATED` beside its commit wants
the token `TOKEN`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

GATED = ".gated"
TOKEN = "hf_standin"  # noqa: S105 - of the stand-in, and written down in its documentation
_LFS = re.compile(r"\.(safetensors|bin|pt|pth|gguf|model)$|^tokenizer\.json$")
_CHUNK = 1 << 16


def publish(folder: Path, repository: str, files: Mapping[str, bytes], *, gated: bool = False) -> str:
    """Put a repository into the folder of a hub, in the place of an older one of this name; its commit.

    Args:
        folder: The hub's.
        repository: ``<org>/<name>``.
        files: Contents by path.
        gated: Give its files to those alone who show `TOKEN`.
    """
    place = folder / repository
    shutil.rmtree(place, ignore_errors=True)
    lines = (f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in sorted(files.items()))
    commit = hashlib.sha1("".join(lines).encode(), usedforsecurity=False).hexdigest()
    for name, content in files.items():
        path = place / commit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if gated:
        (place / GATED).touch()
    return commit


class Hub:
    """The repositories of one folder.

    Args:
        folder: Where `publish` put them.
        prefix: Path at the server below which the hub answers, such as ``/hub``.
        store: Address of this hub by another host name, to which requests of large files are redirected.
        pause: Seconds between two parts of a file of 64 KiB, for tests that cut a download off.
    """

    def __init__(self, folder: Path, prefix: str = "", *, store: str | None = None, pause: float = 0) -> None:
        self.folder = folder
        self.prefix = prefix
        self.store = store
        self.pause = pause

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request (``GET`` or ``HEAD``) below the prefix."""
        parts = urlsplit(handler.path)
        path = unquote(parts.path).removeprefix(self.prefix).strip("/")
        if ".." in path.split("/"):
            _error(handler, 404, "RepoNotFound", "Not Found")
        elif found := re.fullmatch(r"api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            self._information(handler, found[1], found[2], found[3] or "main")
        elif found := re.fullmatch(r"([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(handler, found[1], found[2], found[3])
        elif found := re.fullmatch(r"store/([^/]+/[^/]+)/([0-9a-f]{40})/(.+)", path):
            self._send(handler, self.folder / found[1] / found[2] / found[3], {})
        else:
            _error(handler, 404, "RepoNotFound", "Not Found")

    def _commit(self, handler: BaseHTTPRequestHandler, repository: str, revision: str) -> str | None:
        places = [path.name for path in (self.folder / repository).glob("*") if path.is_dir()]
        if not places:
            # As the real one answers strangers, for whom a private repository is none.
            _error(handler, 401, "RepoNotFound", "Invalid username or password.")
        elif revision not in ("main", *places):
            _error(handler, 404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return places[0]
        return None

    def _information(
        self, handler: BaseHTTPRequestHandler, repository: str, kind: str | None, revision: str
    ) -> None:
        commit = self._commit(handler, repository, revision)
        if commit is None:
            return
        files = _files(self.folder / repository / commit)
        if kind == "tree":
            _json(handler, [{"type": "file", "path": name, **_listed(file)} for name, file in files.items()])
            return
        _json(
            handler,
            {
                "_id": commit[:24],
                "id": repository,
                "modelId": repository,
                "sha": commit,
                "private": False,
                "gated": "manual" if (self.folder / repository / GATED).exists() else False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": [{"rfilename": name, **_sibling(file)} for name, file in files.items()],
            },
        )

    def _resolve(self, handler: BaseHTTPRequestHandler, repository: str, revision: str, name: str) -> None:
        commit = self._commit(handler, repository, revision)
        if commit is None:
            return
        gated = (self.folder / repository / GATED).exists()
        if gated and handler.headers.get("Authorization") != f"Bearer {TOKEN}":
            message = f"Access to model {repository} is restricted. You must have access to it and be authenticated."
            _error(handler, 401, "GatedRepo", message)
            return
        path = self.folder / repository / commit / name
        if not path.is_file():
            _error(handler, 404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
            return
        file = _file(path)
        if "sha256" not in file:
            self._send(handler, path, {"X-Repo-Commit": commit, "ETag": f'"{file["blob"]}"'})
            return
        headers = {
            "X-Repo-Commit": commit,
            "X-Linked-Etag": f'"{file["sha256"]}"',
            "X-Linked-Size": str(file["size"]),
        }
        if self.store is None:
            self._send(handler, path, headers)
            return
        handler.send_response(302)
        place = f"{self.store}{self.prefix}/store/{repository}/{commit}/{name}"
        for header, value in {**headers, "Location": place, "Content-Length": "0"}.items():
            handler.send_header(header, value)
        handler.end_headers()

    def _send(self, handler: BaseHTTPRequestHandler, path: Path, headers: Mapping[str, str]) -> None:
        if not path.is_file():
            _error(handler, 404, "EntryNotFound", "Entry not found")
            return
        size = path.stat().st_size
        wanted = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", handler.headers.get("Range", ""))
        first = int(wanted[1]) if wanted else 0
        last = min(int(wanted[2]) if wanted and wanted[2] else size - 1, size - 1)
        if wanted and first >= size:
            _error(handler, 416, "", "Range not satisfiable", {"Content-Range": f"bytes */{size}"})
            return
        handler.send_response(206 if wanted else 200)
        if wanted:
            handler.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        for header, value in {"Accept-Ranges": "bytes", **headers}.items():
            handler.send_header(header, value)
        handler.send_header("Content-Length", str(last - first + 1))
        handler.end_headers()
        if handler.command == "HEAD":
            return
        with path.open("rb") as content:
            content.seek(first)
            left = last - first + 1
            while left and (part := content.read(min(left, _CHUNK))):
                handler.wfile.write(part)
                left -= len(part)
                time.sleep(self.pause)


def _files(place: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(path for path in place.rglob("*") if path.is_file())
    return {str(path.relative_to(place)): _file(path) for path in paths}


def _file(path: Path) -> dict[str, Any]:
    return _known(path, path.stat().st_mtime_ns)


@cache
def _known(path: Path, _changed: int) -> dict[str, Any]:
    content = path.read_bytes()
    if not _LFS.search(path.name):
        return {"size": len(content), "blob": _blob(content)}
    digest = hashlib.sha256(content).hexdigest()
    # What git itself holds is a pointer: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n".encode()
    )
    return {"size": len(content), "blob": _blob(pointer), "sha256": digest, "pointer": len(pointer)}


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _sibling(file: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"size": file["size"], "blobId": file["blob"]}
    if "sha256" in file:
        found["lfs"] = {"sha256": file["sha256"], "size": file["size"], "pointerSize": file["pointer"]}
    return found


def _listed(file: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"size": file["size"], "oid": file["blob"]}
    if "sha256" in file:
        found["lfs"] = {"oid": file["sha256"], "size": file["size"], "pointerSize": file["pointer"]}
    return found


def _json(handler: BaseHTTPRequestHandler, document: Any) -> None:
    body = json.dumps(document).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json; charset=utf-8")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def _error(
    handler: BaseHTTPRequestHandler, status: int, code: str, message: str, headers: Mapping[str, str] = {}
) -> None:
    body = json.dumps({"error": message}).encode()
    handler.send_response(status)
    for header, value in {"X-Error-Code": code, "X-Error-Message": message, **headers}.items():
        handler.send_header(header, value)
    handler.send_header("Content-Type", "application/json; charset=utf-8")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
