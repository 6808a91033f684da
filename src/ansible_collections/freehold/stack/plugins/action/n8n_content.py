"""Action plugin: renders n8n's workflows on the controller and hands them, with all else, to one module run."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from freehold import render
from freehold.ansible import context
from freehold.errors import FreeholdError


class ActionModule(ActionBase):
    """``freehold.stack.n8n_content``; its options are documented in the module of the same name."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Render the workflows and run the module on the host.

        Raises:
            AnsibleActionFail: A workflow cannot be rendered, or is no JSON.
        """
        super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        flows = [self._flow(flow, variables) for flow in arguments.pop("flows", [])]
        # The module's options are logged on the host unless they are said to be secret; these are.
        payload = {"credentials": arguments.pop("credentials", []), "flows": flows}
        result: dict[str, Any] = self._execute_module(
            module_name="freehold.stack.n8n_content",
            module_args={
                **arguments,
                "payload": base64.b64encode(zlib.compress(json.dumps(payload).encode())).decode(),
            },
            task_vars=variables,
        )
        result.pop("invocation", None)
        return result

    def _flow(self, flow: Mapping[str, str], variables: Mapping[str, Any]) -> dict[str, Any]:
        template = f"n8n/flows/{flow['template']}.json.j2"
        try:
            wanted = {
                name: self._templar.template(_expression(name))
                for name in render.names(template)
                if name in variables
            }
            return {**json.loads(render.render(template, wanted)), "id": flow["id"]}
        except FreeholdError as error:
            raise AnsibleActionFail(context.explain(error)) from error
        except ValueError as error:
            raise AnsibleActionFail(f"{template} does not give JSON: {error}") from error


def _expression(name: str) -> str:
    from ansible.template import trust_as_template

    trusted: str = trust_as_template("{{ " + name + " }}")
    return trusted
