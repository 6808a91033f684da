"""``@pve/<node>/<vmid>``: a pyinfra host that is one container, seen through the Proxmox VE API.

A command is data, ``VERB /path {"key": "value"}``, so pyinfra's dry run, ``-v`` and its ``fake`` connector work as
they do with shell commands. A call that starts a task is done when the task is: its failure is the call's failure.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn
from urllib.parse import quote, unquote

from pyinfra.api import HiddenValue, StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.base import BaseConnector, DataMeta
from pyinfra.connectors.util import CommandOutput, OutputLine
from typing_extensions import TypedDict, override

from freehold.errors import FreeholdError
from freehold.proxmox.apply import execute
from freehold.proxmox.changes import ApiCall
from freehold.pyinfra import session

_SECRET_PARAMETERS = frozenset({"password"})
_REREAD = "reread-digest"
_OWNED = "owned-by="
_RULE = "rule="


def api(call: ApiCall) -> StringCommand:
    """A call as a command; a parameter that is a secret is masked wherever pyinfra shows the command."""
    shown = {key: "*MASKED*" if key in _SECRET_PARAMETERS else value for key, value in call.params.items()}
    parameters = HiddenValue(json.dumps(call.params, sort_keys=True), json.dumps(shown, sort_keys=True))
    conditions = [_REREAD] if call.reread_digest else []
    conditions += [f"{_OWNED}{call.owned_by}"] if call.owned_by else []
    conditions += [f"{_RULE}{quote(call.rule, safe='')}"] if call.rule else []
    return StringCommand(call.method, call.path, parameters, *conditions)


def parse(command: str) -> tuple[str, str, dict[str, Any], list[str]]:
    """Verb, path, parameters and conditions of a command.

    Raises:
        ValueError: It is no call of the API.
    """
    verb, _, rest = command.partition(" ")
    path, _, rest = rest.partition(" ")
    if verb not in {"GET", "POST", "PUT", "DELETE"} or not path.startswith("/"):
        raise ValueError(f"{command[:60]!r} is no call of the Proxmox VE API (VERB /path {{json}})")
    if not rest.strip():
        return verb, path, {}, []
    parameters, end = json.JSONDecoder().raw_decode(rest)
    return verb, path, parameters, rest[end:].split()


def _condition(conditions: list[str], name: str) -> str | None:
    return next((word.removeprefix(name) for word in conditions if word.startswith(name)), None)


class PveData(TypedDict, total=False):
    """Data of an ``@pve`` host."""

    pve_node: str
    pve_vmid: int


class PveConnector(BaseConnector):
    """Runs commands of the form ``VERB /path {json}`` as calls of the Proxmox VE API."""

    handles_execution = True
    data_cls = PveData
    data_meta = {  # noqa: RUF012 - pyinfra reads the class attribute
        "pve_node": DataMeta("Node that holds the container"),
        "pve_vmid": DataMeta("Id of the container"),
    }

    @override
    @staticmethod
    def make_names_data(name: str) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
        """``<node>/<vmid>`` as a host of the group ``@pve``."""
        node, _, vmid = (name or "").partition("/")
        if not node or not vmid.isdecimal():
            raise ConnectError(f"@pve/{name} is no container: write @pve/<node>/<vmid>")
        yield f"@pve/{node}/{vmid}", {"pve_node": node, "pve_vmid": int(vmid)}, ["@pve"]

    @override
    def connect(self) -> None:
        """Make the process's session if it is not there; its first call is the first that reaches the API."""
        try:
            _ = session.current().client
        except FreeholdError as error:
            raise ConnectError(json.dumps(error.as_dict())) from error

    @override
    def run_shell_command(
        self,
        command: StringCommand | str,
        print_output: bool = False,
        print_input: bool = False,
        **arguments: Any,
    ) -> tuple[bool, CommandOutput]:
        """Make the call and follow its task.

        On stdout: the answer of a GET as JSON, or the warnings of the task.
        On stderr: the error as JSON.
        """
        if print_input:
            self.host.log(f">>> {command}")
        try:
            lines = self._call(command if isinstance(command, str) else command.get_raw_value())
        except FreeholdError as error:
            return False, CommandOutput([OutputLine("stderr", json.dumps(error.as_dict()))])
        if print_output:
            for line in lines:
                self.host.log(line)
        return True, CommandOutput([OutputLine("stdout", line) for line in lines])

    def _call(self, command: str) -> list[str]:
        verb, path, parameters, conditions = parse(command)
        client = session.current().client
        if verb == "GET":
            return [json.dumps(client.get(path, parameters))]
        rule = _condition(conditions, _RULE)
        call = ApiCall.model_validate(
            {
                "method": verb,
                "path": path,
                "params": parameters,
                "reread_digest": _REREAD in conditions,
                "owned_by": _condition(conditions, _OWNED),
                "rule": rule and unquote(rule),
            }
        )
        outcome = execute(
            client, call, doing=f"{verb} {path} for {self.host.data.get('freehold_host', self.host.name)}"
        )
        return list(outcome.warnings)

    @override
    def put_file(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not possible: the API has no files of containers."""
        raise NotImplementedError("@pve speaks with the Proxmox VE API; use SSH for files in a container")

    @override
    def get_file(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not possible: the API has no files of containers."""
        raise NotImplementedError("@pve speaks with the Proxmox VE API; use SSH for files in a container")
