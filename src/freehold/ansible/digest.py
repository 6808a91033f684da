"""Digests that say whether a host has what it should have, without holding any secret.

A service's digest covers everything that decides what its role does: the role and the roles that are part of it, their
templates, the plugins that roles use, its variables, and each of its secrets as a keyed hash. ``freehold up`` gives a host to Ansible only when the
digest in the host's manifest differs, or when a managed file or unit is not as the manifest says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import yaml

from freehold import resources
from freehold.layout.types import ServicePlacement

Keyed = Callable[[str], str]
"""A keyed hash of a text (HMAC with the client's ``freehold.fingerprint_key``)."""

_KEYED = "keyed:"
_NOT_APPLIED = frozenset({"molecule", "__pycache__", "README.md"})
"""Parts of a role that change nothing on a host."""

_IMPORT = "ansible.builtin.import_role"
_COLLECTION = "freehold.stack."
_FILES = "freehold.stack.files"


def service_digest(
    service: ServicePlacement,
    secret_digest: Keyed,
    *,
    roles: Path | None = None,
    templates: Path | None = None,
) -> str:
    """The digest of a service as it should be.

    Args:
        service: The service with its variables, in which secrets stand as lookups.
        secret_digest: Gives the keyed hash of the secret of a name such as ``postgres.openwebui``.
        roles: Folder of the roles; Freehold's own when left out.
        templates: Folder of the templates; Freehold's own when left out.
    """
    variables = json.dumps(service.variables, sort_keys=True, ensure_ascii=False)
    roles, templates = roles or resources.roles(), templates or resources.templates()
    names = [service.role, *imported(roles / service.role)]
    parts = {
        "role": {name: _tree(roles / name) for name in names},
        "templates": {name: _tree(templates / name) for name in names},
        "plugins": _tree(resources.collections() / "ansible_collections/freehold/stack/plugins"),
        "variables": _sha256(variables.encode()),
        "secrets": {name: secret_digest(name) for name in sorted(service.secrets)},
    }
    if own := packages(roles / service.role):
        parts["packages"] = {name: _tree(resources.package() / name) for name in own}
    return _sha256(json.dumps(parts, sort_keys=True).encode())


def imported(role: Path) -> list[str]:
    """Names of the roles of ours that the tasks of a role import."""
    found = set()
    for path in sorted((role / "tasks").glob("*.yml")):
        for task in yaml.safe_load(path.read_text(encoding="utf-8")) or []:
            if isinstance(task, dict) and (wanted := task.get(_IMPORT)):
                found.add(str(wanted["name"]).removeprefix(_COLLECTION))
    return sorted(found)


def packages(role: Path) -> list[str]:
    """Names of the packages of Freehold's own that the tasks of a role put onto a host."""
    found = set()
    for path in sorted((role / "tasks").glob("*.yml")):
        for task in yaml.safe_load(path.read_text(encoding="utf-8")) or []:
            if isinstance(task, dict) and isinstance(wanted := task.get(_FILES), dict):
                found |= {str(entry["package"]) for entry in wanted.get("files", ()) if "package" in entry}
    return sorted(found)


def managed_digest(content: str, keyed: Keyed | None) -> str:
    """What the manifest records of a file: its SHA-256, or where it holds secrets a keyed hash of that."""
    plain = _sha256(content.encode())
    return f"{_KEYED}{keyed(plain)}" if keyed else plain


def matches(recorded: str, sha256: str, keyed: Keyed) -> bool:
    """Whether a file with this SHA-256 (hexadecimal, read on the host) is the one that the manifest records."""
    return recorded == (f"{_KEYED}{keyed(sha256)}" if recorded.startswith(_KEYED) else sha256)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _tree(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): _sha256(path.read_bytes()) for path in _files(root)}


def _files(root: Path) -> Iterable[Path]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and not _NOT_APPLIED & set(path.relative_to(root).parts):
            yield path
