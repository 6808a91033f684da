"""Filter plugin: the hash of a password for the web configuration of Prometheus and its exporters."""

from __future__ import annotations

from collections.abc import Callable

from ansible.errors import AnsibleFilterError

from freehold.webauth import bcrypt_hash

DOCUMENTATION = r"""
name: bcrypt
short_description: Hashes a random password with bcrypt
description:
  - Gives the hash that C(basic_auth_users) of Prometheus and its exporters want, the same at every call.
  - Only for random passwords of 20 to 72 characters, since the salt is derived from the password.
options:
  _input: {description: The password., type: str, required: true}
"""

EXAMPLES = r"""
- name: Show that the same password gives the same hash
  ansible.builtin.assert:
    that: password | freehold.stack.bcrypt == password | freehold.stack.bcrypt
"""

RETURN = r"""
_value: {description: The hash., type: str}
"""


def _hash(password: str) -> str:
    try:
        return bcrypt_hash(str(password))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """``freehold.stack.bcrypt``."""

    def filters(self) -> dict[str, Callable[[str], str]]:
        """The filter by its name."""
        return {"bcrypt": _hash}
