"""Container templates: which one a host is made from, and how it comes to a node that gives no SSH."""

from __future__ import annotations

from collections.abc import Mapping

from freehold.errors import FreeholdError
from freehold.proxmox.client import PveClient
from freehold.proxmox.errors import MissingPrivilegeError
from freehold.proxmox.templates import newest


class TemplateMissingError(FreeholdError):
    """The node neither has nor offers the template."""


def find(api: PveClient, node: str, storage: str, os: str) -> str | None:
    """Volume id of the newest standard template of ``os`` (``debian-12``) on a storage, if there is one.

    API: ``GET /nodes/{node}/storage/{storage}/content``.
    """
    content = api.get(
        f"/nodes/{node}/storage/{storage}/content",
        {"content": "vztmpl"},
        doing=f"listing templates on {storage}",
    )
    return newest((str(entry["volid"]) for entry in content), os)


def offered(api: PveClient, node: str, os: str) -> str | None:
    """Name of the newest standard template of ``os`` that the node offers for download, if there is one.

    API: ``GET /nodes/{node}/aplinfo``.
    """
    listed = api.get(f"/nodes/{node}/aplinfo", doing=f"asking which templates node {node} offers")
    return newest((str(entry["template"]) for entry in listed), os)


def missing(node: str, storage: str, os: str) -> TemplateMissingError:
    """The error for a template that is nowhere."""
    return TemplateMissingError(
        f"Node {node} has no {os} template and offers none",
        where=f"storage {storage}",
        remedy="Run `pveam update` on the node. Behind a closed network, upload the template in the web interface.",
    )


def download(
    api: PveClient, node: str, storage: str, os: str, mirrored: Mapping[str, str] | None = None
) -> str:
    """Let the node download its newest standard template of ``os``; the volume id.

    The node checks the checksum of its own index. API: ``POST /nodes/{node}/aplinfo``. With ``mirrored`` (``url`` and
    ``sha256`` at the client's mirror) it fetches that; API: ``POST /nodes/{node}/storage/{storage}/download-url``.

    Raises:
        TemplateMissingError: The node's index offers none, or the token may not let it fetch from a mirror.
    """
    if mirrored:
        return _from_mirror(api, node, storage, mirrored["url"], mirrored["sha256"])
    name = offered(api, node, os)
    if name is None:
        raise missing(node, storage, os)
    task = api.call(
        "POST",
        f"/nodes/{node}/aplinfo",
        {"storage": storage, "template": name},
        doing=f"downloading the template {name}",
    )
    api.wait(task, doing=f"downloading the template {name}")
    return f"{storage}:vztmpl/{name}"


def _from_mirror(api: PveClient, node: str, storage: str, url: str, sha256: str) -> str:
    name = url.rpartition("/")[2]
    doing = f"downloading the template {name} from the mirror"
    wanted = {"content": "vztmpl", "filename": name, "url": url}
    wanted |= {"checksum": sha256, "checksum-algorithm": "sha256"}
    try:
        task = api.call("POST", f"/nodes/{node}/storage/{storage}/download-url", wanted, doing=doing)
    except MissingPrivilegeError as error:
        raise TemplateMissingError(
            f"Node {node} has no such template, and the token may not let it fetch one from a mirror",
            doing=doing,
            where=f"storage {storage}",
            answer=error.answer,
            remedy=f"Upload {name} in the web interface, or give SSH to the node (nodes.{node}.address).",
        ) from error
    api.wait(task, doing=doing)
    return f"{storage}:vztmpl/{name}"
