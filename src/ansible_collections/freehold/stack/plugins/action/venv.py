"""Action plugin: brings a role's lock file to the host and lets one module run install it."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError

from ansible_collections.freehold.stack.plugins.plugin_utils.role_action import RoleAction


class ActionModule(RoleAction):
    """``freehold.stack.venv``; its options are documented in the module of the same name."""

    def options(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """With the lock file among the role's files, and the client's mirror.

        Raises:
            AnsibleActionFail: The role has no such file.
        """
        _, options = self.validate_argument_spec(argument_spec=_SPEC)
        try:
            lock = Path(self._find_needle("files", options["requirements"])).read_bytes()
        except (AnsibleError, OSError) as error:
            raise AnsibleActionFail(
                f"The lock file {options['requirements']} cannot be read: {error}"
            ) from error
        return {
            **options,
            "mirror": options["mirror"] or variables.get("freehold_mirror"),
            "payload": base64.b64encode(zlib.compress(lock)).decode(),
        }


_SPEC: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "requirements": {"type": "str", "required": True},
    "wheels": {"type": "list", "elements": "str", "default": []},
    "upstream": {"type": "list", "elements": "str", "default": []},
    "mirror": {"type": "str"},
    "timeout": {"type": "int", "default": 3600},
    "part_of": {"type": "str", "default": ""},
}
