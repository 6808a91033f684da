"""Inventory plugin: a client's stack file as Ansible hosts, groups and role variables."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.template import trust_as_template

from freehold.ansible import context
from freehold.errors import FreeholdError
from freehold.layout.egress import way_out
from freehold.layout.types import Layout
from freehold.layout.variables import is_plain

DOCUMENTATION = r"""
name: stack
short_description: Hosts of a Freehold stack file
description:
  - Computes the layout of a client's C(stack.yml), as V(freehold show layout) does.
  - C(service_<name>) holds the host of a service, C(node_<name>) the hosts of a Proxmox VE node, C(services) all hosts.
  - Host variables are how to reach the host over SSH, C(freehold_services) in their order, C(freehold_mirror) where
    everything is downloaded from one place, C(freehold_environment) with the proxy through which roles install, and the variables of the roles of these services. Secrets stand in them as lookups and are read by the task that needs them.
options:
  plugin:
    description: Says that the file is for this plugin.
    required: true
    type: str
    choices: [freehold.stack.stack]
"""

EXAMPLES = r"""
# The first line of inventory/acme/stack.yml; then
#   ansible-inventory -i inventory/acme/stack.yml --graph
plugin: freehold.stack.stack
"""


class InventoryModule(BaseInventoryPlugin):
    """Adds what the layout says; it reads no other source."""

    NAME = "freehold.stack.stack"

    def verify_file(self, path: str) -> bool:
        """Whether ``path`` can be a stack file."""
        return bool(super().verify_file(path)) and path.endswith("stack.yml")

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Fill ``inventory`` from the stack file at ``path``.

        Raises:
            AnsibleParserError: The stack file is wrong; the message lists every problem with its line.
        """
        super().parse(inventory, loader, path, cache)
        try:
            current = context.open_stack(Path(path))
        except FreeholdError as error:
            raise AnsibleParserError(context.explain(error)) from error
        _fill(inventory, current)


def _fill(inventory: Any, current: context.Context) -> None:
    layout = current.layout
    inventory.add_group("services")
    inventory.add_group("service_egress")  # the playbook begins with it, and there need not be one
    for host in layout.hosts:
        inventory.add_host(host.name, "services")
        node = inventory.add_group(f"node_{host.node}".replace("-", "_"))
        inventory.add_child(node, host.name)
        for key, value in _host_variables(layout, host.name, current).items():
            inventory.set_variable(host.name, key, _trusted(value))
    for service in layout.services:
        # The host bears the service's own name, and Ansible wants no group and host of one name.
        group = inventory.add_group(f"service_{service.name}".replace("-", "_"))
        inventory.add_child(group, service.host)


def _host_variables(layout: Layout, name: str, current: context.Context) -> dict[str, Any]:
    host = layout.host(name)
    services = [service for service in layout.services if service.host == name]
    variables: dict[str, Any] = {
        "ansible_host": str(host.address),
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "freehold_client": layout.client,
        "freehold_directory": layout.directory,
        "freehold_mirror": layout.sources.mirror,
        "freehold_environment": way_out(layout),
        "freehold_services": [service.role for service in services if current.wants(service.name)],
    }
    if current.ssh_config:
        # The alias of ssh_config carries address, key, pinned host key and the shared connection.
        variables["ansible_host"] = host.name
        variables["ansible_ssh_args"] = f"-F {shlex.quote(current.ssh_config)}"
    for service in services:
        variables |= service.variables
    return variables


def _trusted(value: Any) -> Any:
    """Let Ansible evaluate our own secret lookups; text of a client that looks like a template stays text."""
    if isinstance(value, str):
        return trust_as_template(value) if is_plain(value) else value
    if isinstance(value, dict):
        return {key: _trusted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_trusted(item) for item in value]
    return value
