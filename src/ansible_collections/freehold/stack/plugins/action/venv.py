"""Action plugin: brings a role's lock file to the host and lets one module run install it."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """``freehold.stack.venv``; its options are documented in the module of the same name."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read the lock file among the role's files and hand it over.

        Raises:
            AnsibleActionFail: The role has no such file.
        """
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(argument_spec=_SPEC)
        try:
            lock = Path(self._find_needle("files", options["requirements"])).read_bytes()
        except (AnsibleError, OSError) as error:
            raise AnsibleActionFail(
                f"The lock file {options['requirements']} cannot be read: {error}"
            ) from error
        role = self._task._role.get_name().rpartition(".")[2] if self._task._role else ""
        result: dict[str, Any] = self._execute_module(
            module_name="freehold.stack.venv",
            module_args={
                **options,
                "mirror": options["mirror"] or (task_vars or {}).get("freehold_mirror"),
                "payload": base64.b64encode(zlib.compress(lock)).decode(),
                "service": options["part_of"] or role,
                "handlers": list(self._task.notify or []),
            },
            task_vars=task_vars,
        )
        result.pop("invocation", None)
        return result


_SPEC: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "requirements": {"type": "str", "required": True},
    "wheels": {"type": "list", "elements": "str", "default": []},
    "upstream": {"type": "list", "elements": "str", "default": []},
    "mirror": {"type": "str"},
    "timeout": {"type": "int", "default": 3600},
    "part_of": {"type": "str", "default": ""},
}
