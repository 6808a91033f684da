"""What Freehold knows of services: ``meta/service.yml`` and ``meta/argument_specs.yml`` of each role.

A role that exists is a service that exists. Routes, firewall, databases, start order and the variables that one
service needs to know of another are computed from these files and written nowhere else.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from freehold import resources
from freehold.errors import BadInputError, FreeholdError


class _Meta(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Resources(_Meta):
    """What a container with this service alone needs."""

    cores: Annotated[int, Field(gt=0)]
    memory: Annotated[int, Field(ge=128)]
    """MiB."""
    swap: Annotated[int, Field(ge=0)] = 0
    """MiB."""
    disk: Annotated[int, Field(ge=2)]
    """GiB."""


class Port(_Meta):
    """A port on which the service listens at the container's address."""

    port: Annotated[int, Field(ge=1, le=65535)]
    protocol: Literal["tcp", "udp"] = "tcp"
    sources: tuple[str, ...] = ()
    """Who may reach it: names of services, ``dependents`` (the services that need or want this one), ``users`` (the
    client's networks of people), ``admins``."""


class Route(_Meta):
    """A host name at the gateway that leads to a port of this service."""

    host: str
    """First label: ``chat`` becomes ``chat.<domain>``."""
    port: str
    """Name of a port of this service."""
    title: str
    """What the landing page and the summary call it."""


class Health(_Meta):
    """How to know that the service answers."""

    port: str
    path: str | None = None
    """HTTP path that answers 200; without it, the port accepts connections."""
    timeout: int = 60
    """Seconds that a start may take."""


class Secret(_Meta):
    """A secret that is made once per client."""

    type: Literal["password", "hex", "token", "uuid", "ssh-key"]
    length: Annotated[int, Field(ge=8, le=128)] = 32
    """Characters of the secret (for ``hex`` and ``token`` of the printed text)."""
    prefix: str = ""
    """Text before the secret, such as ``sk-``."""


class Database(_Meta):
    """A database that this service wants from Postgres; the user bears the same name."""

    name: str
    password: str
    """Name of the secret of this service that is the password."""
    extensions: tuple[str, ...] = ()


class Data(_Meta):
    """A directory that must outlive the container's software."""

    path: str
    size: Annotated[int, Field(gt=0)] | None = None
    """GiB of a volume of its own; part of the root disk when left out."""
    backup: Literal["files", "dump", "none"] = "files"


class Artifact(_Meta):
    """What is downloaded, for the record: exact pins lie in the role's lock files."""

    version: str
    source: str
    """Kind of source: ``debian``, ``pypi``, ``npm``, ``release``."""
    licence: str
    """SPDX identifier, or the licence's name."""
    upstream: str
    """Page of the project."""


class ServiceMeta(_Meta):
    """``roles/<name>/meta/service.yml``."""

    name: str
    title: str
    slot: Annotated[int, Field(ge=0, le=99)]
    """Offset of the service's host in the client's ranges of VMIDs and addresses; unique, so that adding a service moves no host."""
    os: Literal["debian-12", "debian-13"]
    resources: Resources
    artifacts: tuple[Artifact, ...] = ()
    needs: tuple[str, ...] = ()
    """Services that come along and start before this one."""
    wants: tuple[str, ...] = ()
    """Services that start before this one and are wired to it where they are present."""
    engine: bool = False
    """Whether this is an inference service with an OpenAI-compatible API at the port ``http``, behind the secret ``api_key``
    where it has one of that name."""
    models: str | None = None
    """Which language models the engine serves: an expression over ``settings`` that gives a list of mappings with ``name``
    (as callers write it) and ``kind`` (``chat`` or ``embedding``; ``chat`` where it is left out)."""
    ports: dict[str, Port] = {}
    routes: tuple[Route, ...] = ()
    health: Health | None = None
    secrets: dict[str, Secret] = {}
    databases: tuple[Database, ...] = ()
    data: tuple[Data, ...] = ()
    metrics: str | None = None
    """Path of Prometheus metrics at the port ``http``."""
    login: str | None = None
    """How to log in, for the summary: names of secrets and users in words."""
    variables: dict[str, str] = {}
    """Role variables (without the ``<name>_`` prefix) as Jinja expressions over the layout: see ``layout/variables.py``."""


class UnknownServiceError(BadInputError):
    """A service is named that no role provides."""


@cache
def load(roles: Path | None = None) -> dict[str, ServiceMeta]:
    """All services by name.

    Raises:
        FreeholdError: A ``service.yml`` does not say what it must; the message names the file.
    """
    found: dict[str, ServiceMeta] = {}
    for path in sorted((roles or resources.roles()).glob("*/meta/service.yml")):
        try:
            meta = ServiceMeta.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (ValueError, yaml.YAMLError) as error:
            raise _bad(path, str(error)) from error
        if meta.name != path.parents[1].name:
            raise _bad(path, f'the name "{meta.name}" is not that of the role\'s folder')
        for other in found.values():
            if other.slot == meta.slot:
                raise _bad(path, f'the slot {meta.slot} is that of the service "{other.name}" too')
        found[meta.name] = meta
    return found


def _bad(path: Path, answer: str) -> FreeholdError:
    return FreeholdError(
        f"{path} does not describe a service", doing="reading the roles", where=str(path), answer=answer
    )


@cache
def argument_specs(service: str, roles: Path | None = None) -> dict[str, dict[str, Any]]:
    """The role's options (``argument_specs.main.options``) by full variable name, such as ``caddy_domain``.

    Raises:
        FreeholdError: The file is missing or has no such options; the message names it.
    """
    path = (roles or resources.roles()) / service / "meta" / "argument_specs.yml"
    try:
        specs = yaml.safe_load(path.read_text(encoding="utf-8"))
        options: dict[str, dict[str, Any]] = specs["argument_specs"]["main"].get("options") or {}
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise FreeholdError(
            f"{path} does not list the options of the role",
            doing="reading the roles",
            where=str(path),
            answer=str(error),
        ) from error
    return options
