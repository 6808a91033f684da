"""Lookup plugin: one secret of the client, read when a task needs it."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from freehold.ansible import context
from freehold.errors import FreeholdError

DOCUMENTATION = r"""
name: secret
short_description: Reads a secret of the client
description:
  - Returns a value of C(secrets.yml), the file beside C(stack.yml) that ansible-vault encrypts.
  - The file is opened when the first secret is asked for, so that plays without secrets need no key.
  - The key is found as V(freehold) finds it, see C(docs/secrets.md).
options:
  _terms:
    description:
      - Names such as C(openwebui.database_password), service and secret. What is no letter, digit or one of C(@+._-) in a
        name is written as in an address of the web, such as C(%27) for an apostrophe.
    required: true
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Show that a secret exists
  ansible.builtin.assert:
    that: lookup('freehold.stack.secret', 'openwebui.database_password') | length > 0
"""

RETURN = r"""
_raw:
  description: The secrets, in the order of the names.
  type: list
  elements: str
"""


class LookupModule(LookupBase):
    """Reads from ``freehold.secrets``, never from the environment of a task."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_options: Any) -> list[str]:
        """The secrets that ``terms`` name.

        Raises:
            AnsibleLookupError: The file cannot be opened with the key at hand, or lacks the secret.
        """
        directory = (variables or {}).get("freehold_directory") or (variables or {}).get("inventory_dir")
        try:
            return [context.secret(unquote(str(term)), directory) for term in terms]
        except FreeholdError as error:
            raise AnsibleLookupError(context.explain(error)) from error
