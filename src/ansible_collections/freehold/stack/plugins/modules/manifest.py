"""Module behind the ``manifest`` action: one service's section of the host's manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.freehold.stack.plugins.module_utils import kept, pending

DOCUMENTATION = r"""
module: manifest
short_description: Records what Freehold put on a host
description:
  - The last task of each role. Writes the service's section of C(/etc/freehold/manifest.json) (root, 0600), from
    which V(freehold up) knows that nothing is to be done and V(freehold drift) what was changed by hand.
  - The action adds the O(digest) of role, templates, variables and secrets.
options:
  service: {description: Name of the service., type: str, required: true}
  files:
    description: Managed files with their digests, as RV(freehold.stack.files#module:managed) returns them.
    type: dict
    required: true
  units: {description: systemd units that must be active., type: list, elements: str, default: []}
  digest: {description: Set by the action., type: str, default: ""}
attributes:
  check_mode: {support: full, description: Says whether the section would change.}
  diff_mode: {support: none, description: The section holds digests only.}
author: The Freehold authors
"""

EXAMPLES = r"""
- name: Record what was done
  freehold.stack.manifest:
    service: caddy
    files: "{{ caddy__files.managed }}"
    units: [caddy.service]
"""

PATH = Path("/etc/freehold/manifest.json")


def _read() -> dict[str, Any]:
    try:
        found = kept.read(PATH)
    except ValueError:
        # An unreadable manifest says nothing that can be kept: each section is written anew by its owner.
        return {}
    return found if isinstance(found, dict) else {}


def main() -> None:
    """Merge the section into the manifest."""
    module = AnsibleModule(
        argument_spec={
            "service": {"type": "str", "required": True},
            "files": {"type": "dict", "required": True},
            "units": {"type": "list", "elements": "str", "default": []},
            "digest": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    section = {
        "digest": module.params["digest"],
        "files": module.params["files"],
        "units": dict.fromkeys(module.params["units"], "active"),
    }
    manifest = _read()
    services = manifest.setdefault("services", {})
    changed = services.get(module.params["service"]) != section
    services[module.params["service"]] = section
    if changed and not module.check_mode:
        kept.write(PATH, manifest)
    if not module.check_mode:
        pending.clear(str(PATH.parent), module.params["service"])
    module.exit_json(changed=changed)


if __name__ == "__main__":
    main()
