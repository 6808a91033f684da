"""What our plugins know of the run that they are part of.

Ansible forks a worker for each task, so what the main process holds here is at hand in every plugin, and a secret needs
neither a file nor an environment variable to get there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from freehold import secrets
from freehold.ansible import digest
from freehold.ansible.digest import Keyed
from freehold.errors import FreeholdError
from freehold.layout.types import Layout
from freehold.masking import SHORTEST


@dataclass(frozen=True)
class Context:
    """The stack that is being applied."""

    layout: Layout
    ssh_config: str | None = None
    services: frozenset[str] | None = None
    """The services to configure; all when left out."""

    def wants(self, service: str) -> bool:
        """Whether this run configures the service."""
        return self.services is None or service in self.services


current: Context | None = None
"""Set by ``freehold up`` before Ansible starts, or by the inventory plugin when plain Ansible reads a stack file."""

given: set[str] = set()
"""Secrets that were handed to the task in this process."""


def open_stack(path: Path) -> Context:
    """The context for a stack file: that of the run, or computed from the file.

    Raises:
        StackError: The stack file is wrong.
    """
    global current
    if current is None:
        from freehold.layout.compute import load_layout

        layout = load_layout(path)
        current = Context(layout, _ssh_config(layout.client))
    return current


def _ssh_config(client: str) -> str | None:
    from freehold.ssh import state_directory

    path = state_directory(client) / "ssh_config"
    return str(path) if path.is_file() else None


def secret(name: str, directory: str | None) -> str:
    """A secret of the client whose folder is ``directory``.

    Raises:
        FreeholdError: The secrets cannot be opened, or lack this one.
    """
    value = secrets.value(name, directory)
    # What is shorter, such as a list of names without a name, stands in any file.
    if len(value) >= SHORTEST:
        given.add(value)
    return value


def keyed(directory: str | None) -> Keyed:
    """The client's keyed hash.

    Raises:
        FreeholdError: The secrets cannot be opened.
    """
    return secrets.keyed(directory)


def service_digest(role: str, host: str, directory: str | None) -> str:
    """The digest of the service of a role on a host as it should be; empty where the inventory is no stack file, so that none matches it.

    Raises:
        FreeholdError: The secrets that the digest covers cannot be opened.
    """
    if current is None:
        return ""
    hashed = keyed(directory)
    return digest.service_digest(
        current.layout.of_role(role, host), lambda name: hashed(secrets.value(name, directory))
    )


def explain(error: FreeholdError) -> str:
    """An error as text for Ansible, whose plugins can say no more than that."""
    parts = (error.message, error.where, error.answer, error.remedy)
    return "\n".join(part for part in parts if part)
