"""Which names outside each host may reach through the one way out, computed from what is installed and what is asked.

The registries of Debian, Python and npm are not named here: the clients on the hosts know where they ask, and the host
``egress`` takes the names from them (``roles/egress``). A client's mirror takes the place of everything that it holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from ipaddress import AddressValueError, IPv4Address
from typing import Any
from urllib.parse import urlsplit

from freehold.catalog import drivers
from freehold.catalog.versions import Artifact
from freehold.layout import artifacts, sso
from freehold.layout.placement import EGRESS, Seat
from freehold.layout.routing import ROUTER
from freehold.layout.types import Layout, ServicePlacement
from freehold.routing import providers
from freehold.schema.stack import Stack

PORT = 3128
"""Of the proxy on the host ``egress``."""

SENDS_ON = {
    # https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/about-githubs-ip-addresses
    "github.com": ("objects.githubusercontent.com", "release-assets.githubusercontent.com"),
    # https://huggingface.co/docs/hub/storage-backends: its stores have many names, all below these two
    "huggingface.co": (".huggingface.co", ".hf.co"),
    "registry.ollama.ai": (".r2.cloudflarestorage.com",),
    # the proxy of Langfuse's own name stands before Docker Hub
    "docker.langfuse.com": ("registry-1.docker.io", "auth.docker.io", "production.cloudflare.docker.com"),
    "download.pytorch.org": ("download-r2.pytorch.org",),
}
"""Where a download is sent on to, by the name that is asked first: a redirect is a new question to the proxy."""


def hosts(
    stack: Stack,
    seats: Sequence[Seat],
    placed: Mapping[str, ServicePlacement],
    lock: Mapping[str, Artifact],
    outside: Mapping[str, Sequence[str]],
    nvidia_hosts: Set[str] = frozenset(),
) -> list[dict[str, Any]]:
    """What each host may reach, for the variables of the role ``egress``.

    Args:
        stack: What the client wants.
        seats: All hosts.
        placed: The services with their variables, by name.
        lock: What is installed.
        outside: Addresses that services ask while they run, by name of the service.
        nvidia_hosts: Hosts with a GPU of NVIDIA, which fetch its driver's user space.

    Returns:
        A list of ``name``, ``address``, ``clients`` (package managers whose own registries are reached: ``debian``, ``python``,
        ``npm``) and ``ways``: each with ``name``, ``port``, ``tls`` and ``private``, which says whether the client names it
        itself, so that it may lie in a private network.
    """
    return [
        {
            "name": seat.name,
            "address": str(seat.address),
            "clients": _clients(stack, seat, placed, lock),
            "ways": _ways(
                stack, seat, placed, _installed(seat, placed, lock, nvidia_hosts), outside.get(seat.name, ())
            ),
        }
        for seat in seats
    ]


def _clients(
    stack: Stack, seat: Seat, placed: Mapping[str, ServicePlacement], lock: Mapping[str, Artifact]
) -> list[str]:
    if stack.sources.mirror:
        return []
    kinds = {lock[name].source for name in seat.meta.artifacts if name in lock}
    own_registry = seat.name in placed and placed[seat.name].variables.get(f"{seat.role}_registry")
    python = ["python"] if "pypi" in kinds else []
    return ["debian", *python, *(["npm"] if "npm" in kinds and not own_registry else [])]


def _installed(
    seat: Seat,
    placed: Mapping[str, ServicePlacement],
    lock: Mapping[str, Artifact],
    nvidia_hosts: Set[str],
) -> list[Artifact]:
    options = _options(seat, placed)
    own = [lock[name] for name in seat.meta.artifacts if name in lock]
    driver = [lock[drivers.ARTIFACT]] if seat.name in nvidia_hosts and drivers.ARTIFACT in lock else []
    return [*(artifact for artifact in own if artifact.needed(options)), *driver]


def _options(seat: Seat, placed: Mapping[str, ServicePlacement]) -> dict[str, Any]:
    """The options of the role of a host, with their defaults."""
    return artifacts.options(seat.role, placed[seat.name].variables if seat.name in placed else {})


def _ways(
    stack: Stack,
    seat: Seat,
    placed: Mapping[str, ServicePlacement],
    installed: Iterable[Artifact],
    outside: Sequence[str],
) -> list[dict[str, Any]]:
    found: dict[tuple[str, int, bool], bool] = {}

    def add(address: str, *, private: bool) -> None:
        parts = urlsplit(address if "://" in address else f"https://{address}")
        tls = parts.scheme != "http"
        if name := (parts.hostname or "").rstrip("."):
            key = (name, parts.port or (443 if tls else 80), tls)
            found[key] = found.get(key, False) or private or _is_address(name)

    if mirror := stack.sources.mirror:
        add(mirror, private=True)
    else:
        for address in _downloads(stack, seat, placed, installed):
            add(address, private=address in stack.sources.wheels)
    for address in outside:
        add(address, private=True)
    for name in stack.egress.allow:
        add(name, private=True)
    if seat.role == ROUTER:
        for name, provider in stack.routing.providers.items():
            given = provider.endpoint if provider else None
            add(providers.endpoint((provider and provider.kind) or name, given), private=given is not None)
    if stack.sso and seat.name in stack.sso.client_ids:
        for name in sso.hosts(stack.sso):
            add(name, private=True)
    for name, port, tls in list(found):
        for further in SENDS_ON.get(name, ()):
            found.setdefault((further, port, tls), False)
    return [
        {"name": name, "port": port, "tls": tls, "private": found[name, port, tls]}
        for name, port, tls in sorted(found)
    ]


def _is_address(name: str) -> bool:
    try:
        IPv4Address(name)
    except AddressValueError:
        return False
    return True


def _downloads(
    stack: Stack, seat: Seat, placed: Mapping[str, ServicePlacement], installed: Iterable[Artifact]
) -> Iterator[str]:
    """Addresses of what a host installs."""
    python = False
    for artifact in installed:
        python = python or artifact.source == "pypi"
        if artifact.source == "release" and artifact.url:
            yield artifact.url
        elif artifact.source == "oci" and artifact.image:
            yield f"{'http' if artifact.plain_http else 'https'}://{artifact.image}"
    if python:
        yield from stack.sources.wheels
    for name, value in _options(seat, placed).items():
        if name.endswith("_wheels"):
            yield from (place for place in value or [] if isinstance(place, str))
        else:
            yield from _files(value)


def _files(value: Any) -> Iterator[str]:
    """Addresses of files with a checksum, such as the weights of a language model."""
    if isinstance(value, Mapping):
        url, sha256 = value.get("url"), value.get("sha256")
        if isinstance(url, str) and isinstance(sha256, str) and "://" in url:
            yield url
        for part in value.values():
            yield from _files(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _files(part)


def proxy(seats: Iterable[Seat]) -> dict[str, str]:
    """How programs are told of the one way out: ``proxy``, its address, ``direct``, what is asked past it (``no_proxy``), and
    ``host``, its host; empty where there is none."""
    known = {seat.name: seat.address for seat in seats}
    if EGRESS not in known:
        return {"proxy": "", "direct": "", "host": ""}
    return {"proxy": f"http://{known[EGRESS]}:{PORT}", "direct": _near(known.values()), "host": EGRESS}


def asks(stack: Stack, seat: Seat) -> bool:
    """Whether a service may ask anything outside while it runs, so that it must be told of the way out."""
    cloud = seat.role == ROUTER and stack.routing.cloud
    login = stack.sso and seat.name in stack.sso.client_ids
    return bool(cloud or login or seat.meta.outside or stack.egress.allow)


def way_out(layout: Layout) -> dict[str, str]:
    """The environment in which roles install; empty where everything is let out."""
    if layout.egress is None:
        return {}
    address = f"http://{layout.egress}:{PORT}"
    near = _near(host.address for host in layout.hosts)
    return {"http_proxy": address, "https_proxy": address, "no_proxy": near}


def _near(addresses: Iterable[IPv4Address]) -> str:
    """What is asked past a proxy: each host by its address, since Python knows no networks there."""
    return ",".join(["localhost", "127.0.0.1", "::1", *map(str, addresses)])
