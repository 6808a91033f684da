"""The option ``users`` of modules that make people's accounts."""

from __future__ import annotations

from typing import Any

USERS: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "required": True,
    "options": {
        "name": {"type": "str", "required": True},
        "mail": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
        "admin": {"type": "bool", "default": False},
        "groups": {"type": "list", "elements": "str", "default": []},
        "language": {"type": "str"},
    },
}
"""As the layout hands people to roles; every module takes all of it, also what its application does not know."""
