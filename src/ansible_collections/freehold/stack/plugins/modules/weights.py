"""Module: waits until the weights of a language model are there, which another host fetches meanwhile."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: weights
short_description: Wait for the weights of a language model
description:
  - The service that keeps the weights of a node fetches them into a directory that this host reads. They are put there
    whole, so that they are there as soon as their C(config.json) is.
  - Ends early where the fetch failed, with what it says, and where nobody fetches.
options:
  path:
    description: Directory of the weights, C(<directory>/<repository>/<revision>).
    type: path
    required: true
  timeout:
    description: Seconds to wait at most.
    type: int
    default: 14400
"""

_EVERY = 2
_AFTER_FAILURE = 60
"""Seconds in which a run that goes on has begun to fetch again, after one that failed."""
_IDLE = 1800
"""Seconds without any word of progress; reading the largest weights for their checksums takes some minutes."""


def _progress(path: Path) -> tuple[dict[str, Any], float]:
    """What the fetch says of itself, and when it said so."""
    file = path.parents[1] / ".progress.json"
    try:
        return json.loads(file.read_text(encoding="utf-8")), file.stat().st_mtime
    except (OSError, ValueError):
        return {}, 0.0


def waiting_is_over(progress: dict[str, Any], idle: float) -> str:
    """Why there is no use in waiting any longer; empty where there is.

    Args:
        progress: What the fetch says of itself.
        idle: Seconds since it said so, or since the wait began, whichever is less.
    """
    if progress.get("state") == "failed" and idle > _AFTER_FAILURE:
        error = progress.get("error", {})
        return f"The weights were not fetched: {error.get('message')}. {error.get('remedy') or ''}".strip()
    if idle > _IDLE:
        return "Nobody fetches the weights. Look at the host that keeps them: journalctl -u weights-fetch"
    return ""


def main() -> None:
    """Wait."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 14400},
        },
        supports_check_mode=True,
    )
    path, began = Path(module.params["path"]), time.time()
    if not path.parents[1].is_dir():
        module.fail_json(msg=f"{path.parents[1]} is not mounted on this host: `freehold up` does that.")
    while not (path / "config.json").is_file() and not module.check_mode:
        progress, said = _progress(path)
        if reason := waiting_is_over(progress, time.time() - max(began, said)):
            module.fail_json(msg=f"There are no weights in {path}. {reason}")
        if time.time() - began > module.params["timeout"]:
            module.fail_json(msg=f"There are no weights in {path} after {module.params['timeout']} seconds.")
        time.sleep(_EVERY)
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
