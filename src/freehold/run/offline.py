"""``up --offline``: everything comes from the client's mirror, and that it is all there is known before anything is touched."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import requests

from freehold.errors import BadInputError, FreeholdError
from freehold.mirror import index, needs
from freehold.mirror.build import needs as needed
from freehold.mirror.fetch import session
from freehold.run import templates
from freehold.run.check import Finding
from freehold.run.context import Client

_AT_ONCE = 8
_TIMEOUT = (5, 30)
_SHOWN = 5


class NoMirrorError(BadInputError):
    """The stack names no mirror."""


def findings(client: Client) -> Iterator[Finding]:
    """What the mirror lacks for this client; asks the mirror and the node, and changes nothing.

    Raises:
        NoMirrorError: The stack names no mirror.
    """
    mirror = client.stack.sources.mirror
    if mirror is None:
        raise NoMirrorError(
            "Offline, everything comes from a mirror, and the stack names none",
            where=f"{client.loaded.path}: sources.mirror",
            remedy="Fill and serve one (freehold mirror build, freehold mirror serve), and name its address there.",
        )
    base, fill = mirror.rstrip("/"), f"Run: freehold mirror build DIR {client.stack.client}"
    try:
        with session() as own:
            found = _index(own, base)
            wanted = needed([client.loaded.path], client.only)
            files: dict[str, index.Entry] = {}
            unmet = 0
            for need in wanted:
                met = found.needs.get(need.key)
                if met is None:
                    unmet += 1
                    yield Finding("mirror", "problem", f"The mirror lacks: {need.title}", fill)
                else:
                    files |= {path: found.files[path] for path in met.files}
            lost = _lost(own, base, files)
    except FreeholdError as error:
        yield Finding("mirror", "problem", error.message, error.remedy or "")
        return
    for path in lost[:_SHOWN]:
        yield Finding("mirror", "problem", f"The mirror's index names {path}, which it does not give", fill)
    if len(lost) > _SHOWN:
        yield Finding("mirror", "problem", f"and {len(lost) - _SHOWN} files more", fill)
    if not lost and not unmet:
        size = sum(entry.size for entry in files.values()) / 2**20
        yield Finding("mirror", "ok", f"{len(files)} files of this stack at {base}, {size:.0f} MiB")
    for model in needs.elsewhere(client.layout):
        yield Finding(
            "language model", "problem", f"No mirror has {model.partition(': ')[0]}", model.partition(": ")[2]
        )
    yield from _templates(client)


def _index(own: requests.Session, base: str) -> index.Index:
    url = f"{base}/{index.NAME}"
    try:
        answer = own.get(url, timeout=_TIMEOUT)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise FreeholdError(
            f"The mirror does not answer: {error}",
            where=url,
            remedy=f"See whether it is served there: `curl {url}`.",
        ) from error
    return index.Index.parse(answer.content, url)


def _lost(own: requests.Session, base: str, files: dict[str, index.Entry]) -> list[str]:
    """Files that the mirror does not give in their size. Registry entries of npm are made as they are asked for."""
    asked = sorted(path for path in files if not path.endswith("/packument.json"))

    def there(path: str) -> bool:
        try:
            answer = own.head(f"{base}/{path}", timeout=_TIMEOUT, allow_redirects=True)
        except requests.RequestException:
            return False
        return answer.status_code == 200 and answer.headers.get("Content-Length") == str(files[path].size)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [path for path, found in zip(asked, pool.map(there, asked), strict=True) if not found]


def _templates(client: Client) -> Iterator[Finding]:
    storage = client.stack.proxmox.template_storage
    for node, os in sorted({(host.node, host.os) for host in client.layout.hosts}):
        if templates.find(client.api, node, storage, os) or client.template_at_mirror(os):
            continue
        yield Finding(
            f"template {os}",
            "problem",
            f"Node {node} has no {os} template, and the mirror neither",
            f"Upload it in the web interface, or run `freehold versions lock template-{os}` and fill the mirror again.",
        )
