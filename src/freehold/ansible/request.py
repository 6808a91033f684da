"""What ``python -m freehold.ansible`` reads: one JSON document on its standard input."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from freehold.layout.types import Layout


class Request(BaseModel):
    """One run of the services' roles. It holds secrets: it is never logged and never written to a disk."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    layout: Layout
    stack: str
    """Path of the stack file; Ansible's inventory."""
    secrets: dict[str, dict[str, Any]]
    """The client's secrets, decrypted."""
    ssh_config: str | None = None
    """The client's SSH configuration, with an alias for each host."""
    hosts: tuple[str, ...] = ()
    """Hosts to configure; all when empty."""
    services: tuple[str, ...] = ()
    """Services to configure; all of these hosts when empty."""
    tags: tuple[str, ...] = ()
    check: bool = False
    """Say what would change, and change nothing."""
    diff: bool = False
    """Show differences of files."""
    verbosity: int = 0
    playbook: str | None = None
    """Playbook to run; ``site.yml`` when left out."""
