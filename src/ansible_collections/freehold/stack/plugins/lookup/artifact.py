"""Lookup plugin: what is installed of an artifact, by the lock ``versions.yml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from freehold.ansible import context
from freehold.catalog import versions
from freehold.errors import FreeholdError

DOCUMENTATION = r"""
name: artifact
short_description: Says which version of an artifact is installed, and where it comes from
description:
  - Returns an entry of C(versions.yml), the lock that ships with Freehold, with the C(versions.yml) beside the
    inventory laid over it.
  - C(freehold up) hands roles the same, with the addresses of the client's own mirror.
options:
  _terms:
    description: Names of entries, such as C(qdrant).
    required: true
    type: list
    elements: str
  mirror:
    description: Base address of a mirror made by C(freehold mirror build).
    type: str
"""

EXAMPLES = r"""
- name: Unpack Qdrant
  freehold.stack.release:
    url: "{{ lookup('freehold.stack.artifact', 'qdrant').url }}"
    sha256: "{{ lookup('freehold.stack.artifact', 'qdrant').sha256 }}"
    dest: /opt/qdrant
"""

RETURN = r"""
_raw:
  description: For each name C(version), and C(url) and C(sha256) of a file, or C(image) and C(digest) of an image.
  type: list
  elements: dict
"""


class LookupModule(LookupBase):
    """Reads the lock, on the controller."""

    def run(
        self, terms: list[str], variables: dict[str, Any] | None = None, **options: Any
    ) -> list[dict[str, Any]]:
        """The entries that ``terms`` name.

        Raises:
            AnsibleLookupError: The lock cannot be read, or has no such entry.
        """
        self.set_options(var_options=variables, direct=options)
        folder = (variables or {}).get("freehold_directory") or (variables or {}).get("inventory_dir")
        try:
            return [
                versions.artifact(str(term), Path(folder) if folder else None, self.get_option("mirror"))
                for term in terms
            ]
        except FreeholdError as error:
            raise AnsibleLookupError(context.explain(error)) from error
