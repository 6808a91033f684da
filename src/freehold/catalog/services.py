"""What Freehold knows of services: ``meta/service.yml`` and ``meta/argument_specs.yml`` of each role.

A role that exists is a service that exists. Routes, firewall, databases, start order and the variables that one
service needs to know of another are computed from these files and written nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """Who may reach it: names of services, ``dependents`` (the services that need or want this one), ``hosts`` (every other
    host of the client), ``users`` (the client's networks of people), ``admins``."""


class Route(_Meta):
    """A host name at the gateway that leads to a port of this service."""

    host: str
    """First label: ``chat`` becomes ``chat.<domain>``."""
    port: str
    """Name of a port of this service."""
    title: str
    """What the landing page and the summary call it."""
    description: str = ""
    """What people do there, in a few words for the landing page."""
    admin: bool = False
    """Whether it is for administrators alone, unless the client says otherwise (``network.audience``)."""
    admin_paths: tuple[str, ...] = ()
    """Paths that are for administrators alone in any case, such as those that change settings; ``*`` as in Caddy's matcher
    ``path``."""
    open: tuple[str, ...] = ()
    """Paths that people reach also where the rest is for administrators alone, such as forms."""


class Health(_Meta):
    """How to know that the service answers."""

    port: str
    path: str | None = None
    """HTTP path that answers 200; without it, the port accepts connections."""
    timeout: int = 60
    """Seconds that a start may take."""


class Secret(_Meta):
    """A secret that is made once per client."""

    type: Literal["password", "hex", "token", "uuid", "ssh-key", "certificate", "authority", "given"]
    """``certificate``: private key, certificate and chain (PEM) of the service, by the client's own authority;
    ``authority``: the same of an authority under it; ``given``: made elsewhere, such as the one of an identity provider. The
    client hands it in (``freehold secrets set``), and it is asked for where the service's variables read it."""
    length: Annotated[int, Field(ge=8, le=128)] = 32
    """Characters of the secret (for ``hex`` and ``token`` of the printed text)."""
    prefix: str = ""
    """Text before the secret, such as ``sk-``."""


class Database(_Meta):
    """A database that this service wants of a database server; the user bears the same name."""

    name: str
    server: Literal["postgres", "clickhouse", "valkey"] = "postgres"
    """The service that holds it; in Valkey it is a user alone."""
    password: str
    """Name of the secret of this service that is the password."""
    extensions: tuple[str, ...] = ()


class Bucket(_Meta):
    """A bucket that this service wants of the object storage; its key opens no other."""

    name: str
    access_key: str
    """Name of the secret of this service that is the key's identifier."""
    secret_key: str
    """Name of the secret of this service that is the key itself."""
    expire_days: Annotated[int, Field(gt=0)] | str | None = None
    """Days after which objects are removed, or an expression over ``settings`` that gives them; never when left out."""
    server: Literal["seaweedfs"] = "seaweedfs"


class Metrics(_Meta):
    """Prometheus metrics of this service; Prometheus is let in at the port."""

    port: str = "http"
    """Name of a port of this service."""
    path: str = "/metrics"
    scheme: Literal["http", "https"] = "http"
    user: str | None = None
    """User name for basic authentication, with ``password``."""
    password: str | None = None
    """Name of the secret of this service for basic authentication."""
    bearer: str | None = None
    """Name of the secret of this service that is sent as a bearer token."""


class Alert(_Meta):
    """When somebody must act on this service."""

    name: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]+$")]
    expr: str
    """PromQL; every series of this service bears the label ``service`` with its name."""
    duration: Annotated[str, Field(alias="for", pattern=r"^[0-9]+[smhd]$")] = "5m"
    severity: Literal["warning", "critical"] = "warning"
    summary: str
    """What is wrong, in one sentence."""
    action: str
    """What to do about it, in one sentence that needs no knowledge of Prometheus."""


class Data(_Meta):
    """A directory that must outlive the container's software."""

    path: str
    size: Annotated[int, Field(gt=0)] | None = None
    """GiB of a volume of its own; part of the root disk when left out."""
    backup: Literal["files", "dump", "none"] = "files"


class ServiceMeta(_Meta):
    """``roles/<name>/meta/service.yml``."""

    name: str
    title: str
    slot: Annotated[int, Field(ge=0, le=99)]
    """Offset of the service's host in the client's ranges of VMIDs and addresses; unique, so that adding a service moves no host."""
    instances: Annotated[int, Field(ge=1, le=5)] = 1
    """How many of it a client may have side by side (``vllm``, ``vllm-2``); they take the slots that follow."""
    os: Literal["debian-12", "debian-13"]
    resources: Resources
    artifacts: tuple[str, ...] = ()
    """Names of the entries of ``versions.yml`` that are installed."""
    needs: tuple[str, ...] = ()
    """Services that come along and start before this one."""
    wants: tuple[str, ...] = ()
    """Services that start before this one and are wired to it where they are present."""
    engine: bool = False
    """Whether this is an inference service with an OpenAI-compatible API at the port ``http``, behind the secret ``api_key``
    where it has one of that name."""
    cluster: str | None = None
    """Setting that makes services of this role a cluster unless it says ``none``: their hosts then reach each other at all
    ports above 1023, for what spreads one language model over hosts chooses ports as it goes."""
    models: str | None = None
    """Which language models the engine serves: an expression over ``settings`` and ``serving`` that gives a list of mappings
    with ``name`` (as callers write it), ``served`` (its name at the engine, where that is another) and ``kind`` (``chat`` or
    ``embedding``; ``chat`` where it is left out)."""
    ports: dict[str, Port] = {}
    routes: tuple[Route, ...] = ()
    health: Health | None = None
    secrets: dict[str, Secret] = {}
    databases: tuple[Database, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    data: tuple[Data, ...] = ()
    metrics: tuple[Metrics, ...] = ()
    alerts: tuple[Alert, ...] = ()
    outside: str | None = None
    """What the service asks outside of the client's network while it runs, through the host ``egress``: an expression that gives
    a list of addresses (``https://name/...``), empty ones left out. What is installed is known from ``artifacts``."""
    direct: str | None = None
    """What the service reaches past ``egress`` because it is not asked over HTTP, such as a mail server: an expression that
    gives a list of ``name:port``, empty ones left out."""
    users: tuple[str, ...] = ()
    """System users that the service runs as. What it reaches at addresses that nobody knows beforehand (``direct`` by a name, the
    resolvers for it) is open to these alone, and to no other process of its host."""
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
            if other.slot < meta.slot + meta.instances and meta.slot < other.slot + other.instances:
                raise _bad(path, f'the slot {meta.slot} is that of the service "{other.name}" too')
        found[meta.name] = meta
    return found


def role_of(service: str, catalog: Mapping[str, ServiceMeta]) -> str | None:
    """The role of a service of a stack: ``vllm-2`` is a second one of ``vllm``; none where no role provides it."""
    if service in catalog:
        return service
    base, _, number = service.rpartition("-")
    known = base in catalog and number in {str(n) for n in range(2, catalog[base].instances + 1)}
    return base if known else None


def slot_of(service: str, meta: ServiceMeta) -> int:
    """Offset of the service's host in the client's ranges of VMIDs and addresses."""
    return meta.slot + (0 if service == meta.name else int(service.rpartition("-")[2]) - 1)


def _bad(path: Path, answer: str) -> FreeholdError:
    return FreeholdError(
        f"{path} does not describe a service", doing="reading the roles", where=str(path), answer=answer
    )


CODENAMES = {"debian-12": "bookworm", "debian-13": "trixie"}
"""Debian's name of each release that hosts can have."""

_SYSTEMS = {codename: system for system, codename in CODENAMES.items()}


@cache
def systems(service: str, roles: Path | None = None) -> tuple[str, ...]:
    """Debian releases that the role is made for (``galaxy_info.platforms``), such as ``debian-12``.

    Raises:
        FreeholdError: The role's ``meta/main.yml`` does not say so; the message names it.
    """
    path = (roles or resources.roles()) / service / "meta" / "main.yml"
    try:
        platforms = yaml.safe_load(path.read_text(encoding="utf-8"))["galaxy_info"]["platforms"]
        return tuple(_SYSTEMS[version] for platform in platforms for version in platform["versions"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise FreeholdError(
            f"{path} does not say which releases of Debian the role is made for",
            doing="reading the roles",
            where=str(path),
            answer=str(error),
        ) from error


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
