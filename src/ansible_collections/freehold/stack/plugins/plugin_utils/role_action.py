"""Actions that tell their module to which service, and to which handlers, a change belongs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase


class RoleAction(ActionBase):
    """Base of actions that run the module of the same name."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True

    def options(self, variables: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - for those that override it
        """Options of the module; the task's own unless an action says otherwise."""
        return dict(self._task.args)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module on the host."""
        super().run(tmp, task_vars)
        options = self.options(task_vars or {})
        role = self._task._role.get_name().rpartition(".")[2] if self._task._role else ""
        result: dict[str, Any] = self._execute_module(
            module_name=self._task.resolved_action,
            module_args={
                **options,
                "service": options.get("part_of") or role,
                "handlers": list(self._task.notify or []),
            },
            task_vars=task_vars,
        )
        result.pop("invocation", None)
        return result
