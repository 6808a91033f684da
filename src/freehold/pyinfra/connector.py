"""``@pve/<node>/<vmid>``: a pyinfra host that is one container, seen through the Proxmox VE API.

A command is data, ``VERB /path {"key": "value"}``, so pyinfra's dry run, ``-v`` and its ``fake`` connector work as
they do with shell commands. A call that starts a task is done when the task is: its failure is the call's failure.
"""

# mypy: allow-subclassing-any, allow-untyped-decorators
from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn
from urllib.parse import quote

from pyinfra.api import HiddenValue, StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.base import BaseConnector, DataMeta
from pyinfra.connectors.util import CommandOutput, OutputLine
from typing_extensions import TypedDict, override

from freehold.errors import FreeholdError
from freehold.proxmox.client import PveClient, is_upid

_VERBS = frozenset({"GET", "POST", "PUT", "DELETE"})
_SECRET_PARAMETERS = frozenset({"password", "ssh-private-key"})

_client: PveClient | None = None


def share(client: PveClient | None) -> None:
    """Let all ``@pve`` hosts of this process use ``client``: one session, however many containers.

    The token's secret stays in the client and out of pyinfra's host data, which pyinfra prints when asked to.
    """
    global _client
    _client = client


def api(verb: str, path: str, params: Mapping[str, Any] | None = None) -> StringCommand:
    """A call as a command; a parameter that is a secret is masked wherever pyinfra shows the command."""
    shown = json.dumps(
        {key: "*MASKED*" if key in _SECRET_PARAMETERS else value for key, value in (params or {}).items()},
        sort_keys=True,
    )
    raw = json.dumps(dict(params or {}), sort_keys=True)
    return StringCommand(verb, path, *([HiddenValue(raw, shown)] if params else []))


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
        """Check that this process has a session; the session itself connects with its first call."""
        if _client is None:
            raise ConnectError(
                "no session with the Proxmox VE API: use deploys/inventory.py as the inventory"
            )

    @override
    def run_shell_command(
        self,
        command: StringCommand | str,
        print_output: bool = False,
        print_input: bool = False,
        **arguments: Any,
    ) -> tuple[bool, CommandOutput]:
        """Send the call and follow its task; the answer is JSON on stdout, or a task's log where one was made."""
        text = command if isinstance(command, str) else command.get_raw_value()
        verb, path, params = parse(text)
        if print_input:
            self.host.log(f">>> {command}")
        try:
            lines = self._call(verb, path, params)
        except FreeholdError as error:
            output = [OutputLine("stderr", json.dumps(error.as_dict()))]
            return False, CommandOutput(output)
        if print_output:
            for line in lines:
                self.host.log(line)
        return True, CommandOutput([OutputLine("stdout", line) for line in lines])

    def _call(self, verb: str, path: str, params: dict[str, Any]) -> list[str]:
        assert _client is not None
        data = _client.call(verb, path, params)
        if not is_upid(data):
            return [json.dumps(data)]
        done = _client.wait(data)
        if data.split(":")[5] == "vzcreate":  # its log has the fingerprints of the container's SSH host keys
            return task_log(_client, data)
        return list(done.warnings)

    @override
    def put_file(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not possible: the API has no files of containers."""
        raise NotImplementedError("@pve speaks with the Proxmox VE API; use SSH for files in a container")

    @override
    def get_file(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not possible: the API has no files of containers."""
        raise NotImplementedError("@pve speaks with the Proxmox VE API; use SSH for files in a container")


def parse(text: str) -> tuple[str, str, dict[str, Any]]:
    """Verb, path and parameters of a command.

    Raises:
        ValueError: It is no call of the API.
    """
    verb, _, rest = text.partition(" ")
    path, _, params = rest.partition(" ")
    if verb not in _VERBS or not path.startswith("/"):
        raise ValueError(f"{text[:60]!r} is no call of the Proxmox VE API (VERB /path {{json}})")
    return verb, path, json.loads(params) if params.strip() else {}


def task_log(client: PveClient, upid: str) -> list[str]:
    """All lines of a task's log."""
    node = upid.split(":")[1]
    lines = client.get(f"/nodes/{node}/tasks/{quote(upid, safe='')}/log", {"limit": 5000})
    return [str(line["t"]) for line in lines or ()]
