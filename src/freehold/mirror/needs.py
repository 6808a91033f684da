"""What the hosts of a layout download: computed from the lock, the lock files of roles, and the settings of services."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from freehold import resources
from freehold.catalog import services as catalog_of
from freehold.catalog.drivers import ARTIFACT
from freehold.catalog.versions import Artifact
from freehold.errors import FreeholdError
from freehold.layout import artifacts
from freehold.layout.types import Layout, ServicePlacement
from freehold.mirror.apt import TEMPLATE

WEIGHTS = "weights"
"""The role that keeps weights of language models."""
BASE = "base"
"""The artifact that lists the packages of every host's base system (``deploys/base.py``)."""
TEMPLATE_OF = "template-{os}"
"""The artifact that is the container template of a system; nodes that have one need none of the mirror."""


class UnpinnedError(FreeholdError):
    """It is not known what exactly is to be installed."""


@dataclass(frozen=True)
class Packages:
    """Debian packages of one service, or of the base system."""

    title: str
    codename: str
    names: tuple[str, ...]

    @property
    def key(self) -> str:
        """What identifies this need in a mirror's index."""
        return f"apt:{self.codename}:{','.join(self.names)}"


@dataclass(frozen=True)
class Wheels:
    """The Python packages of a lock file, for one system."""

    title: str
    system: str
    lock: str = field(repr=False)
    """The text."""
    places: tuple[str, ...] = field(default=(), compare=False)
    """Where wheels lie that the index does not have: the client's own places."""
    upstream: tuple[str, ...] = field(default=(), compare=False)
    """Places that are asked only for what is in none of the others."""

    @property
    def key(self) -> str:
        """What identifies this need in a mirror's index."""
        return f"pypi:{self.system}:{_digest(self.lock)}"


@dataclass(frozen=True)
class Modules:
    """The npm packages of a lock file."""

    title: str
    lock: str = field(repr=False)

    @property
    def key(self) -> str:
        """What identifies this need in a mirror's index."""
        return f"npm:2:{_digest(self.lock)}"  # 2: with whole entries of peers


@dataclass(frozen=True)
class File:
    """A file with its checksum."""

    title: str
    url: str
    sha256: str
    size: int | None = field(default=None, compare=False)
    """Bytes, where they are known before."""
    at_hub: bool = field(default=False, compare=False)
    """Whether it comes from the Hugging Face hub, which may want a token for it."""

    @property
    def key(self) -> str:
        """What identifies this need in a mirror's index."""
        return f"file:{self.sha256}:{self.name}"

    @property
    def name(self) -> str:
        """Its name."""
        return PurePosixPath(urlsplit(self.url).path).name

    @property
    def path(self) -> str:
        """Its place in the mirror: that of ``Artifact.for_role``."""
        return f"files/{self.sha256}/{self.name}"


@dataclass(frozen=True)
class Image:
    """A container image."""

    title: str
    image: str
    digest: str
    plain_http: bool = False

    @property
    def key(self) -> str:
        """What identifies this need in a mirror's index."""
        return f"oci:{self.image.partition('/')[2]}@{self.digest}"


Need = Packages | Wheels | Modules | File | Image


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def of(layout: Layout, lock: Mapping[str, Artifact]) -> list[Need]:
    """What the hosts of a layout download. The layout must have been computed without a mirror.

    Raises:
        UnpinnedError: The checksum of something is not known.
    """
    found: list[Need] = []
    for system in sorted({host.os for host in layout.hosts}):
        names = (*TEMPLATE, *lock[BASE].packages)
        found.append(Packages(f"base system of {system}", catalog_of.CODENAMES[system], names))
        found.append(Wheels(f"uv for {system}", system, _uv()))
        template = lock.get(TEMPLATE_OF.format(os=system))
        if template and template.pinned:
            found.append(_file(f"container template of {system}", template))
    if any(device.path.startswith("/dev/nvidia") for host in layout.hosts for device in host.devices):
        found.append(_file("NVIDIA driver of nodes and containers", lock[ARTIFACT]))
    for placed in layout.services:
        found += _of_service(layout, placed, lock)
    return list(dict.fromkeys(found))


def _of_service(layout: Layout, placed: ServicePlacement, lock: Mapping[str, Artifact]) -> Iterator[Need]:
    system = layout.host(placed.host).os
    values = artifacts.options(placed.role, placed.variables)
    needed = artifacts.of(placed, lock)
    if names := sorted({package for one in needed.values() for package in one.packages}):
        yield Packages(f"Debian packages of {placed.title}", catalog_of.CODENAMES[system], tuple(names))
    for name, one in needed.items():
        title = f"{name} {one.version} for {placed.title}"
        if one.source in {"pypi", "npm"}:
            assert one.lock is not None  # the model's validator sees to it
            text = (resources.roles() / one.lock).read_text(encoding="utf-8")
            if one.source == "npm":
                yield Modules(f"npm packages of {title}", text)
            else:
                near = layout.sources.wheels
                far = tuple(place for place in _places(values) if place not in near)
                yield Wheels(f"Python packages of {title} on {system}", system, text, near, far)
        elif one.source == "release":
            yield _file(title, one)
        elif one.source == "oci":
            assert one.image is not None
            if one.digest is None:
                raise _unpinned(title)
            yield Image(f"image of {title}", one.image, one.digest, one.plain_http)
    if placed.role == WEIGHTS:
        yield from _weights(values)
        return
    of_lock = {one.sha256 for one in needed.values()}
    for file in _files(placed.variables):
        if file.sha256 not in of_lock:
            yield File(f"{file.name} of {placed.title}", file.url, file.sha256)


def _weights(values: Mapping[str, Any]) -> Iterator[File]:
    """The files of weights: all of them must be known, since a mirror gives them by checksum alone."""
    for model in values["weights_models"]:
        name = model.get("repository") or model["id"]
        files = model.get("files") or []
        if not _known(model):
            raise UnpinnedError(
                f"Not all files of {name} and their checksums are known",
                doing="computing what a mirror must hold",
                where=str(model["id"]),
                remedy="Where the hub can be reached: freehold models lock CLIENT. Or leave the language model out.",
            )
        for file in files:
            hub, own = values["weights_hub"], file.get("url")
            url = own or file_url(hub, model["repository"], model["revision"], file["name"])
            yield File(f"{file['name']} of {name}", url, file["sha256"], file.get("size"), at_hub=not own)


def file_url(hub: str, repository: str, revision: str, name: str) -> str:
    """Where a file lies at the Hugging Face hub."""
    return f"{hub.rstrip('/')}/{repository}/resolve/{revision}/{name}"


def _known(model: Mapping[str, Any]) -> bool:
    files = model.get("files") or []
    names = {file["name"] for file in files}
    weights = any(name.endswith(".safetensors") for name in names)
    placed = model.get("revision") or all(file.get("url") for file in files)
    whole = weights and names & {"config.json", "params.json"}
    return bool(whole and placed and all(file.get("sha256") for file in files))


def _file(title: str, artifact: Artifact) -> File:
    if artifact.sha256 is None or artifact.url is None:
        raise _unpinned(title)
    return File(title, artifact.url, artifact.sha256)


def _unpinned(title: str) -> UnpinnedError:
    return UnpinnedError(
        f"There is no checksum yet for {title}",
        doing="computing what a mirror must hold",
        where=str(resources.versions()),
        remedy="Run `freehold versions lock NAME` where upstream can be reached, or leave the service out.",
    )


def _files(value: Any) -> Iterator[File]:
    """Files with a checksum in the variables of a role, such as the weights of a language model."""
    if isinstance(value, Mapping):
        url, sha256 = value.get("url"), value.get("sha256")
        if isinstance(url, str) and isinstance(sha256, str) and sha256 and "://" in url:
            yield File("", url, sha256)
        for part in value.values():
            yield from _files(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _files(part)


def _places(values: Mapping[str, Any]) -> Iterable[str]:
    """Upstream's own places for wheels, which a role names in an option ``<name>_<what>_wheels``."""
    for name, value in sorted(values.items()):
        if name.endswith("_wheels") and isinstance(value, list):
            yield from (place for place in value if isinstance(place, str))


def _uv() -> str:
    from ansible_collections.freehold.stack.plugins.modules.venv import UV_LOCK

    return str(UV_LOCK)


def elsewhere(layout: Layout) -> list[str]:
    """Language models that would come from a hub or registry of their own, which no mirror takes the place of."""
    found = []
    for placed in layout.services:
        if placed.role == WEIGHTS:
            found += [
                f"{model.get('repository') or model['id']}: not all of its checksums are known; where the hub can be"
                f" reached, run `freehold models lock {layout.client}`, and build the mirror again"
                for model in placed.variables["weights_models"]
                if not _known(model)
            ]
        if not catalog_of.load()[placed.role].engine:
            continue
        values = artifacts.options(placed.role, placed.variables)
        prefix = placed.role.replace("-", "_")
        files = f"{prefix}_model_files"
        if files in values and not values[files] and not values.get(f"{prefix}_path"):
            found.append(
                f"{values.get(f'{prefix}_model')} for {placed.title}: name it under models, or list its files with url and"
                f" sha256 under services.{placed.name}.model_files"
            )
        for one in values.get(f"{prefix}_models") or []:
            if isinstance(one, dict) and not one.get("url"):
                found.append(
                    f"{one.get('name')} for {placed.title}: give its GGUF file with url and sha256 under"
                    f" services.{placed.name}.models"
                )
    return found
