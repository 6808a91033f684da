"""The one lock of everything that Freehold installs: ``versions.yml``, with a client's own ``versions.yml`` laid over it.

What is fetched as a file carries its address and SHA-256, an image its digest; packages of PyPI and npm are pinned by
the lock file that the entry names, and packages of Debian by the archive's signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from freehold import resources
from freehold.catalog import data
from freehold.errors import BadInputError

if TYPE_CHECKING:
    from jinja2 import Environment

OVERLAY = "versions.yml"
"""Name of a client's own lock, in its folder."""


class UnknownArtifactError(BadInputError):
    """Nothing of this name is in the lock."""


class Artifact(BaseModel):
    """One entry of the lock."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    version: str
    source: Literal["release", "oci", "pypi", "npm", "debian"]
    """``release``: a file at an address; ``oci``: an image in a registry."""
    licence: str
    """SPDX identifier, or the licence's name."""
    upstream: str
    """Page of the project."""
    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = None
    """Where the file of a ``release`` lies."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Of the file of a ``release``; unknown when left out, and then it is not installed."""
    image: str | None = None
    """Registry and name of an ``oci`` image."""
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    """Of the manifest of an ``oci`` image; unknown when left out, and then it is not installed."""
    plain_http: bool = False
    """Whether the registry speaks HTTP without TLS."""
    releases: str | None = None
    """Repository at GitHub whose releases say what is newer, where ``url`` does not name it."""
    package: str | None = None
    """Name at PyPI or npm."""
    lock: str | None = None
    """Lock file of ``pypi`` or ``npm``, relative to the folder of roles."""
    suite: str | None = None
    """Debian release, such as ``trixie``."""
    packages: tuple[str, ...] = ()
    """Packages of ``debian``."""
    when: str | None = None
    """Jinja expression over the role's options (``vllm_device == 'cpu'``): where it is false, this is not downloaded."""
    stand_in: bool = False
    """Whether this is the lab's stand-in of something that could not be had."""

    @model_validator(mode="after")
    def _has_what_its_source_needs(self) -> Artifact:
        needed = {
            "release": ("url",),
            "oci": ("image",),
            "pypi": ("package", "lock"),
            "npm": ("package", "lock"),
            "debian": ("packages",),
        }[self.source]
        if missing := [field for field in needed if not getattr(self, field)]:
            raise ValueError(f"source {self.source} needs {' and '.join(missing)}")
        return self

    def needed(self, options: Mapping[str, Any]) -> bool:
        """Whether this is downloaded, by the options of its role."""
        return self.when is None or _true(self.when, options)

    @property
    def pinned(self) -> bool:
        """Whether it is known what exactly is to be installed."""
        return {"release": self.sha256, "oci": self.digest}.get(self.source, True) is not None

    def for_role(self, mirror: str | None = None) -> dict[str, Any]:
        """What a role is told: never whether it is a stand-in, and with a mirror the address there."""
        base = (mirror or "").rstrip("/")
        if self.source == "release":
            assert self.url is not None  # the validator's work
            url = at_mirror(base, self.url, self.sha256 or "") if base else self.url
            return {"version": self.version, "url": url, "sha256": self.sha256 or ""}
        if self.source == "oci":
            assert self.image is not None
            image, plain = self.image, self.plain_http
            if base:
                image = f"{urlsplit(base).netloc}/{self.image.partition('/')[2]}"
                plain = urlsplit(base).scheme == "http"
            return {"version": self.version, "image": image, "digest": self.digest or "", "plain_http": plain}
        return {"version": self.version, "lock": self.lock} if self.lock else {"version": self.version}


@cache
def _environment() -> Environment:
    from jinja2 import StrictUndefined  # only entries with a condition need it
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(undefined=StrictUndefined)


def _true(expression: str, options: Mapping[str, Any]) -> bool:
    return bool(_environment().compile_expression(expression, undefined_to_none=False)(**options))


def at_mirror(mirror: str, url: str, sha256: str) -> str:
    """Address of a file at a mirror: by its checksum, so that files of one name never meet."""
    return f"{mirror.rstrip('/')}/files/{sha256}/{PurePosixPath(urlsplit(url).path).name}"


def mirrored(value: Any, mirror: str) -> Any:
    """A setting with the addresses of its files at a mirror: whatever has a ``url`` and a ``sha256`` is a file."""
    if isinstance(value, dict):
        parts = {key: mirrored(part, mirror) for key, part in value.items()}
        url, sha256 = parts.get("url"), parts.get("sha256")
        if isinstance(url, str) and isinstance(sha256, str) and sha256 and not url.startswith(mirror):
            parts["url"] = at_mirror(mirror, url, sha256)
        return parts
    return [mirrored(part, mirror) for part in value] if isinstance(value, list | tuple) else value


def load(directory: Path | None = None) -> Mapping[str, Artifact]:
    """The lock by name, with that of the client in a folder laid over it.

    Raises:
        BadInputError: A file says what no lock can say; the message names the file and the entry.
    """
    overlay = directory / OVERLAY if directory else None
    entries: dict[str, dict[str, Any]] = {
        name: dict(entry) for name, entry in _entries(resources.versions()).items()
    }
    files = {name: resources.versions() for name in entries}
    if overlay and overlay.is_file():
        for name, entry in _entries(overlay).items():
            entries[name] = {**entries.get(name, {}), **entry}
            files[name] = overlay
    found = {}
    for name, entry in entries.items():
        try:
            found[name] = Artifact.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, (name, *first["loc"])))
            raise _bad(files[name], f"{key}: {first['msg']}") from error
    return found


def artifact(name: str, directory: Path | None = None, mirror: str | None = None) -> dict[str, Any]:
    """What a role is told of an artifact.

    Raises:
        UnknownArtifactError: The lock has no entry of this name.
    """
    known = load(directory)
    if name not in known:
        raise UnknownArtifactError(
            f'there is no artifact "{name}"',
            doing="reading the lock",
            where=str(resources.versions()),
            remedy=f"Name one of: {', '.join(sorted(known))}.",
        )
    return known[name].for_role(mirror)


def template_at_mirror(system: str, directory: Path | None, mirror: str | None) -> dict[str, str] | None:
    """``url`` and ``sha256`` of a system's container template at a mirror; nothing where it is not to come from there."""
    entry = load(directory).get(f"template-{system}")
    if mirror is None or entry is None or not entry.pinned:
        return None
    given = entry.for_role(mirror)
    return {"url": given["url"], "sha256": given["sha256"]}


def _entries(path: Path) -> Mapping[str, Mapping[str, Any]]:
    return _parsed(path, path.stat().st_mtime_ns)


@cache
def _parsed(path: Path, _changed: int) -> Mapping[str, Mapping[str, Any]]:
    try:
        return data.mappings(path)
    except ValueError as error:
        raise _bad(path, str(error)) from error


def _bad(path: Path, answer: str) -> BadInputError:
    return BadInputError(
        f"{path} is no lock of versions",
        doing="reading the lock",
        where=str(path),
        answer=answer,
        remedy="docs/versions.md says what an entry holds.",
    )
