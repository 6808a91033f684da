"""Which entries of ``versions.yml`` a service of a layout installs: some only with certain options (``when``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from freehold.catalog import services
from freehold.catalog.versions import Artifact
from freehold.layout.types import ServicePlacement


def options(role: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a role, with their defaults where nothing is given."""
    defaults = {name: option.get("default") for name, option in services.argument_specs(role).items()}
    return {**defaults, **variables}


def of(service: ServicePlacement, lock: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """What a service installs, by name."""
    given = options(service.role, service.variables)
    named = {name: lock[name] for name in services.load()[service.role].artifacts}
    return {name: artifact for name, artifact in named.items() if artifact.needed(given)}
