"""Where the data that ships with Freehold lies: in a checkout at its root, in a wheel inside the package."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@cache
def _checkout() -> Path | None:
    root = _PACKAGE.parents[1]
    return root if (root / "pyproject.toml").is_file() and (root / "roles").is_dir() else None


def _data(in_checkout: str, in_wheel: str) -> Path:
    root = _checkout()
    return root / in_checkout if root else _PACKAGE / in_wheel


def roles() -> Path:
    """The Ansible roles, one folder per service."""
    root = _checkout()
    return root / "roles" if root else _PACKAGE.parent / "ansible_collections/freehold/stack/roles"


def templates() -> Path:
    """Configuration templates of both engines, one folder per service."""
    return _data("templates", "data/templates")


def versions() -> Path:
    """The lock of everything that is installed."""
    return _data("versions.yml", "data/versions.yml")


def deploys() -> Path:
    """The pyinfra deploys."""
    return _data("deploys", "data/deploys")


def host_tests() -> Path:
    """The Testinfra checks that prove every host."""
    return _data("tests/hosts", "data/hosts")


def site_playbook() -> Path:
    """The playbook that gives every host its services, ``freehold.stack.site``; in a checkout a link to its root."""
    return collections() / "ansible_collections/freehold/stack/playbooks/site.yml"


def ansible_config() -> Path:
    """The Ansible configuration that Freehold's own runs use."""
    return _data("ansible.cfg", "data/ansible.cfg")


def collections() -> Path:
    """The directory that holds ``ansible_collections/``."""
    return _PACKAGE.parent


def package() -> Path:
    """Freehold's own code."""
    return _PACKAGE


def package_files(name: str) -> list[Path]:
    """The files of a package of Freehold's own, such as ``routing``, in order: its modules and what they read."""
    return sorted(path for path in (_PACKAGE / name).rglob("*") if path.suffix in {".py", ".txt"})
