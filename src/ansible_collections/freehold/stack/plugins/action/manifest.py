"""Action plugin: adds the service's digest, which only the controller can compute, to the manifest."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from freehold.ansible import context
from freehold.errors import FreeholdError


class ActionModule(ActionBase):
    """``freehold.stack.manifest``; its options are documented in the module of the same name."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Compute the digest and write the section.

        Raises:
            AnsibleActionFail: The secrets that the digest covers cannot be read.
        """
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        try:
            arguments["digest"] = context.service_digest(
                str(arguments.get("service")),
                str((task_vars or {}).get("inventory_hostname")),
                _directory(task_vars or {}),
            )
        except FreeholdError as error:
            raise AnsibleActionFail(context.explain(error)) from error
        result: dict[str, Any] = self._execute_module(
            module_name="freehold.stack.manifest", module_args=arguments, task_vars=task_vars
        )
        result.pop("invocation", None)
        return result


def _directory(variables: dict[str, Any]) -> str | None:
    return variables.get("freehold_directory") or variables.get("inventory_dir")
