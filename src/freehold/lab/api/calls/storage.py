"""Storages and their content (part of a stand-in of Proxmox VE, for development)."""

from __future__ import annotations

import hashlib
import shutil
import socket
import time
import urllib.parse
from pathlib import Path
from typing import Any

import requests

from freehold.lab.answers import PveError, bad_parameters, failed
from freehold.lab.api.routes import endpoint
from freehold.lab.api.upload import SHOWN
from freehold.lab.backend import BackendError, Log
from freehold.lab.context import Call
from freehold.lab.formats import split_list
from freehold.lab.guests import parse_size, parse_volume_id
from freehold.lab.lxc_update import STALE
from freehold.lab.storage import TEMPLATE_ENDINGS

_NODE = "/nodes/{node}/storage"
_STORAGE = _NODE + "/{storage}"
_SUBDIRS = [
    "content",
    "download-url",
    "file-restore",
    "import-metadata",
    "identity",
    "oci-registry-pull",
    "prunebackups",
    "rrd",
    "rrddata",
    "status",
    "upload",
]
_SEEN = ("Datastore.Audit", "Datastore.AllocateSpace")


def _visible(call: Call, name: str) -> bool:
    return call.lab.access.has(call.user, f"/storage/{name}", *_SEEN, any_of=True)


def _shown(call: Call, name: str) -> dict[str, Any]:
    entry = call.lab.storages.entry(name)
    shown = {key: value for key, value in entry.items() if value not in (None, 0)}
    return {"storage": name, **shown, "digest": call.lab.storages.digest()}


@endpoint("GET /storage")
def configurations(call: Call) -> Any:
    """The configuration of all storages that the caller may see."""
    return [_shown(call, name) for name in call.lab.state.data["storages"] if _visible(call, name)]


@endpoint("GET /storage/{storage}")
def configuration(call: Call) -> Any:
    """The configuration of one storage."""
    return _shown(call, str(call.params["storage"]))


@endpoint("POST /storage")
def create(call: Call) -> Any:
    """A new directory storage; its files are inside the lab's own directory."""
    name, kind = str(call.params["storage"]), str(call.params["type"])
    if kind != "dir":
        raise failed(f"create storage failed: the lab has directory storages only, not '{kind}'")
    if call.get("path") is None:
        raise failed("missing value for required option 'path'")
    with call.lab.state.change() as data:
        if name in data["storages"]:
            raise failed(f"create storage failed: storage ID '{name}' already defined")
        content = ",".join(split_list(call.get("content") or "images,rootdir,vztmpl,iso,backup,snippets"))
        data["storages"][name] = {"type": kind, "path": call.get("path"), "content": content}
        call.lab.storages.directory(name).mkdir(parents=True, exist_ok=True)
    return {"storage": name, "type": kind}


@endpoint("PUT /storage/{storage}")
def update(call: Call) -> Any:
    """Change a storage."""
    name = str(call.params["storage"])
    with call.lab.state.change():
        entry = call.lab.storages.entry(name)
        if (digest := call.get("digest")) and digest != call.lab.storages.digest():
            raise failed(f"update storage failed: {STALE}")
        if (content := call.get("content")) is not None:
            entry["content"] = ",".join(split_list(content))
        if call.get("disable") is not None:
            entry["disable"] = int(call.flag("disable"))
        for key in split_list(call.get("delete") or ""):
            entry.pop(key, None)
    return {"storage": name, "type": entry["type"]}


@endpoint("DELETE /storage/{storage}")
def delete(call: Call) -> Any:
    """Forget a storage; its files remain."""
    name = str(call.params["storage"])
    with call.lab.state.change() as data:
        if name not in data["storages"]:
            raise failed(f"delete storage failed: storage '{name}' does not exist")
        del data["storages"][name]


@endpoint("GET " + _NODE)
def statuses(call: Call) -> Any:
    """Figures of all storages that the caller may see."""
    lab, one = call.lab, call.get("storage")
    if one is not None and one not in lab.state.data["storages"]:
        raise bad_parameters({"storage": "No such storage."})
    names = [name for name in lab.state.data["storages"] if one in (None, name) and _visible(call, name)]
    if wanted := split_list(call.get("content") or ""):
        names = [name for name in names if any(lab.storages.holds(name, content) for content in wanted)]
    if call.flag("enabled"):
        names = [name for name in names if not lab.storages.entry(name).get("disable")]
    return [lab.storages.status(name) for name in names]


@endpoint("GET " + _STORAGE)
def index(_call: Call) -> Any:
    """The directory of a storage's calls."""
    return [{"subdir": name} for name in _SUBDIRS]


@endpoint("GET " + _STORAGE + "/status")
def status(call: Call) -> Any:
    """Figures of one storage."""
    name = str(call.params["storage"])
    if name not in call.lab.state.data["storages"]:
        raise bad_parameters({"storage": "No such storage."})
    found = call.lab.storages.status(name)
    return {key: value for key, value in found.items() if key not in ("storage", "used_fraction")}


@endpoint("GET " + _STORAGE + "/content")
def content(call: Call) -> Any:
    """Templates, images and volumes on a storage."""
    vmid = call.number("vmid") if call.get("vmid") else None
    found = call.lab.storages.content(str(call.params["storage"]), call.get("content"), vmid)
    answer = []
    for entry in found:
        try:
            if "vmid" in entry:
                kind = str(entry["content"])
                call.lab.storages.check_volume_access(
                    call.lab.access, call.user, entry["vmid"], entry["volid"], kind
                )
        except PveError:
            continue
        answer.append(entry)
    return answer


@endpoint("POST " + _STORAGE + "/content")
def allocate(call: Call) -> Any:
    """Make a volume."""
    storage, name, vmid = str(call.params["storage"]), str(call.params["filename"]), call.vmid
    call.lab.storages.usable(storage)
    text = str(call.params["size"])
    size = parse_size(text) if text[-1:] in "MG" else int(text) * 1024
    volume = f"{storage}:{vmid}/{name}"
    with call.lab.state.change() as data:
        if volume in data["volumes"]:
            raise failed(f"disk image '{call.lab.storages.shown_path(volume)}' already exists")
        shape = call.get("format") or "raw"
        data["volumes"][volume] = {"vmid": vmid, "size": size, "format": shape, "ctime": int(time.time())}
    return volume


def _volume(call: Call) -> str:
    volume = str(call.params["volume"])
    return volume if ":" in volume else f"{call.params['storage']}:{volume}"


@endpoint("GET " + _STORAGE + "/content/{volume}")
def volume(call: Call) -> Any:
    """One volume."""
    lab, volid = call.lab, _volume(call)
    storage = parse_volume_id(volid)[0]
    lab.access.check(call.user, f"/storage/{storage}", *_SEEN, any_of=True)
    known = lab.storages.known(volid)
    if known:
        return {
            "size": known["size"],
            "used": known["size"],
            "format": known["format"],
            "path": lab.storages.shown_path(volid),
        }
    path = lab.storages.path(volid)
    if not path.is_file():
        raise failed(f"volume_size_info on '{volid}' failed - no format")
    size = path.stat().st_size
    return {"size": size, "used": size, "format": "raw", "path": lab.storages.shown_path(volid)}


@endpoint("DELETE " + _STORAGE + "/content/{volume}")
def delete_volume(call: Call) -> Any:
    """Remove a volume; with ``delay`` the answer is empty when that was quick."""
    lab, volid = call.lab, _volume(call)
    storage, name = parse_volume_id(volid)
    lab.storages.usable(storage)
    lab.access.check(call.user, f"/storage/{storage}", "Datastore.Allocate")
    owner = name.partition("/")[0] if name[0].isdigit() else ""
    if owner and lab.guests.exists(int(owner)) and lab.guests.load(int(owner)).uses(volid):
        raise failed(f"unable to remove '{volid}' - it is a disk of CT {owner}")

    def work(log: Log) -> None:
        if not lab.storages.known(volid) and not lab.storages.path(volid).exists():
            log(f"disk image '{lab.storages.shown_path(volid)}' does not exist")
        lab.storages.free(volid)
        log(f"Removed volume '{volid}'")

    upid = lab.tasks.start("imgdel", f"{owner}@{storage}" if owner else f"@{storage}", call.user, work)
    if delay := call.number("delay"):
        lab.tasks.wait(upid, delay)
        task = lab.tasks.get(upid)
        return None if task and task.status == "OK" else upid
    return upid


def _check_target(call: Call, name: str) -> tuple[str, str]:
    storage, kind = str(call.params["storage"]), str(call.params["content"])
    call.lab.storages.usable(storage)
    endings = TEMPLATE_ENDINGS if kind == "vztmpl" else (".iso", ".img")
    if not name.endswith(endings):
        raise bad_parameters({"filename": "wrong file extension"})
    if not call.lab.storages.holds(storage, kind):
        raise failed(f"storage '{storage}' does not support '{kind}' content")
    return storage, kind


@endpoint("POST " + _STORAGE + "/upload")
def upload(call: Call) -> Any:
    """The bytes are there; the copy is a task."""
    lab, name = call.lab, str(call.params["filename"])
    temporary = lab.state.directory / "uploads" / str(call.params["tmpfilename"]).removeprefix(SHOWN)
    try:
        storage, kind = _check_target(call, name)
    except PveError:
        temporary.unlink(missing_ok=True)
        raise
    target, shown = lab.storages.target(storage, kind, name), lab.storages.shown_target(storage, kind, name)

    def work(log: Log) -> None:
        try:
            log(f"starting file import from: {call.params['tmpfilename']}")
            _verify(call, temporary, log)
            log(f"target node: {lab.state.node.name}")
            log(f"target file: {shown}")
            log(f"file size is: {temporary.stat().st_size}")
            log(f"command: cp -- {call.params['tmpfilename']} {shown}")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(temporary, target)
            log("finished file import successfully")
        except OSError as error:
            raise BackendError(f"import failed: {error.strerror}") from error
        finally:
            temporary.unlink(missing_ok=True)

    return lab.tasks.start("imgcopy", "", call.user, work)


def _verify(call: Call, file: Path, log: Log) -> None:
    wanted, algorithm = call.get("checksum"), call.get("checksum-algorithm")
    if not (wanted and algorithm):
        return
    with file.open("rb") as content:
        found = hashlib.file_digest(content, algorithm).hexdigest()
    if found != wanted.lower():
        log("calculating checksum...")
        raise BackendError(f"checksum mismatch: got '{found}' != expect '{wanted}'")
    log("calculating checksum...OK, checksum verified")


@endpoint("POST " + _STORAGE + "/download-url")
def download(call: Call) -> Any:
    """Fetch a template or image from an address."""
    lab, name, url = call.lab, str(call.params["filename"]), str(call.params["url"])
    storage, kind = _check_target(call, name)
    target, shown = lab.storages.target(storage, kind, name), lab.storages.shown_target(storage, kind, name)

    def work(log: Log) -> None:
        log(f"downloading {url} to {shown}")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{target.name}.{time.monotonic_ns()}.tmp")
        try:
            _fetch(url, temporary, verify=call.flag("verify-certificates", default=True), log=log)
            _verify(call, temporary, log)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        log(f"download of '{url}' to '{shown}' finished")

    return lab.tasks.start("download", name, call.user, work)


def _fetch(url: str, target: Path, *, verify: bool, log: Log) -> None:
    host = urllib.parse.urlsplit(url).hostname or ""
    log(f"--{time.strftime('%Y-%m-%d %H:%M:%S')}--  {url}")
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        log(f"Resolving {host} ({host})... failed: Name or service not known.")
        raise BackendError(f"download failed: wget: unable to resolve host address '{host}'") from None
    try:
        with requests.get(url, stream=True, timeout=30, verify=verify) as answer:
            if answer.status_code != 200:
                raise BackendError(f"download failed: ERROR {answer.status_code}: {answer.reason}.")
            with target.open("wb") as file:
                for chunk in answer.iter_content(1024 * 1024):
                    file.write(chunk)
    except (requests.RequestException, OSError) as error:
        raise BackendError(f"download failed: {error}") from error


@endpoint("GET /nodes/{node}/query-url-metadata")
def metadata(call: Call) -> Any:
    """Name, size and type of a file at an address."""
    url = str(call.params["url"])
    parts = urllib.parse.urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.getaddrinfo(parts.hostname, None)
        verify = call.flag("verify-certificates", default=True)
        with requests.head(url, timeout=10, allow_redirects=True, verify=verify) as answer:
            answer.raise_for_status()
            size = int(answer.headers.get("Content-Length", 0))
            kind = answer.headers.get("Content-Type", "")
    except (requests.RequestException, OSError) as error:
        text = "Name or service not known" if isinstance(error, socket.gaierror) else str(error)
        raise failed(
            f"invalid server response: '500 Can't connect to {parts.hostname}:{port} ({text})'"
        ) from error
    return {"filename": parts.path.rpartition("/")[2], "size": size, "mimetype": kind}
