"""Action plugin: tells the module which service and which handlers an image belongs to."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """``freehold.stack.oci_image``; its options are documented in the module of the same name."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module on the host."""
        super().run(tmp, task_vars)
        result: dict[str, Any] = self._execute_module(
            module_name="freehold.stack.oci_image",
            module_args={
                **self._task.args,
                "service": self._task._role.get_name().rpartition(".")[2] if self._task._role else "",
                "handlers": list(self._task.notify or []),
            },
            task_vars=task_vars,
        )
        result.pop("invocation", None)
        return result
