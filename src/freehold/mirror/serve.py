"""A read-only HTTP server for a mirror: files with ranges, npm's registry entries, image manifests by their media type."""

from __future__ import annotations

import email.utils
import mimetypes
import os
import re
import sys
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from freehold.mirror import npm, oci

_RANGE = re.compile(r"^bytes=(\d+)-(\d*)$")
_BINARY = "application/octet-stream"


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; whatever else, the base class refuses with 501."""

    protocol_version = "HTTP/1.1"
    server_version = "freehold-mirror"
    sys_version = ""
    timeout = 120

    def __init__(self, *arguments: object, root: Path, **more: object) -> None:
        self.root = root
        super().__init__(*arguments, **more)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Send a file."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Send what is known of a file."""
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        try:
            path = unquote(urlsplit(self.path).path)
        except ValueError:  # no address, such as http://[
            return self._refuse(HTTPStatus.BAD_REQUEST, body)
        if path in {"/v2", "/v2/"}:
            return self._send(b"{}", "application/json", body)
        found = self._file(path)
        if found is None:
            return self._refuse(HTTPStatus.NOT_FOUND, body)
        if found.name == npm.ENTRY:
            scheme = self.headers.get("X-Forwarded-Proto", "http")
            base = f"{scheme}://{self.headers.get('Host', '')}/{npm.FOLDER}"
            return self._send(npm.answer(found.read_text(encoding="utf-8"), base), "application/json", body)
        if found.parent.name == "manifests" and path.startswith(f"/{oci.FOLDER}/"):
            text = found.read_bytes()
            return self._send(text, oci.content_type(text), body, digest=found.name)
        return self._send_file(found, body)

    def _file(self, path: str) -> Path | None:
        """The file at an address; never one outside the mirror, and never one that is still coming."""
        parts = path.split("/")[1:]
        # A longer name is none that a file can have, and an error of the file system (pathconf(3), NAME_MAX and PATH_MAX).
        long = len(os.fsencode(path)) > 2048 or any(len(os.fsencode(part)) > 255 for part in parts)
        if not parts or long or "\0" in path or any(part.startswith(".") for part in parts):
            return None
        place = self.root.joinpath(*parts)
        if parts[0] == npm.FOLDER and (place / npm.ENTRY).is_file():
            place = place / npm.ENTRY
        elif path.endswith("/"):
            place = place / "index.html"
        return place if place.is_file() else None

    def _send(self, text: bytes, kind: str, body: bool, digest: str | None = None) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        if self.path.startswith(f"/{oci.FOLDER}"):
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.end_headers()
        if body:
            self.wfile.write(text)

    def _send_file(self, path: Path, body: bool) -> None:
        with path.open("rb") as file:
            state = path.stat()
            size, changed = state.st_size, email.utils.formatdate(state.st_mtime, usegmt=True)
            if self.headers.get("If-Modified-Since") == changed:
                self.send_response(HTTPStatus.NOT_MODIFIED)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            first, last = 0, size - 1
            given = _RANGE.match(self.headers.get("Range", ""))
            if given:
                first, last = int(given[1]), min(int(given[2] or last), last)
                if first > last:
                    self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                    self.send_header("Content-Range", f"bytes */{size}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            self.send_response(HTTPStatus.PARTIAL_CONTENT if given else HTTPStatus.OK)
            self.send_header("Content-Type", mimetypes.guess_type(path.name)[0] or _BINARY)
            self.send_header("Content-Length", str(last - first + 1))
            self.send_header("Last-Modified", changed)
            self.send_header("Accept-Ranges", "bytes")
            if given:
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            if path.parent.name == "blobs":
                self.send_header("Docker-Content-Digest", path.name)
            self.end_headers()
            if body:
                file.seek(first)
                _copy(file, self.wfile, last - first + 1)

    def _refuse(self, status: HTTPStatus, body: bool) -> None:
        text = f"{status.value} {status.phrase}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if body:
            self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """One line per request on standard error."""
        sys.stderr.write(f"{self.log_date_time_string()} {self.address_string()} {format % args}\n")

    def address_string(self) -> str:
        """The client's address; no name is looked up."""
        return str(self.client_address[0])


def _copy(source: BinaryIO, target: BufferedIOBase, count: int) -> None:
    while count > 0 and (chunk := source.read(min(count, 1 << 20))):
        target.write(chunk)
        count -= len(chunk)


class Server(ThreadingHTTPServer):
    """Many clients at once."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave a client that went away in the middle unmentioned; anything else is a fault of ours and is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def server(root: Path, address: str, port: int) -> Server:
    """A server of a mirror, to be run by ``serve_forever``.

    Raises:
        OSError: The address is not this machine's, or taken.
    """
    return Server((address, port), partial(Handler, root=root.resolve()))
