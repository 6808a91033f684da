"""Action plugin: renders a service's templates on the controller and hands the whole tree to one module run."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.freehold.stack.plugins.module_utils import pending
from freehold import render, resources
from freehold.ansible import context
from freehold.ansible.digest import Keyed, managed_digest
from freehold.errors import FreeholdError


class ActionModule(ActionBase):
    """``freehold.stack.files``; its options are documented in the module of the same name."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Render, apply, and notify the handler of each file that changed.

        Raises:
            AnsibleActionFail: A template cannot be rendered, or would put a secret into a file not marked as secret.
        """
        super().run(tmp, task_vars)
        variables = task_vars or {}
        _, options = self.validate_argument_spec(argument_spec=_SPEC)
        context.given.clear()
        try:
            entries = [one for entry in options["files"] for one in _each(entry)]
            files = [self._render(options["service"], entry, variables) for entry in entries]
            _refuse_open_secrets(files, context.given)
            directory = variables.get("freehold_directory") or variables.get("inventory_dir")
            managed = {
                entry["path"]: managed_digest(entry["content"], _keyed(entry["secret"], directory))
                for entry in files
            }
        except FreeholdError as error:
            raise AnsibleActionFail(context.explain(error)) from error
        payload = {
            "service": options["part_of"] or options["service"],
            "is_part": bool(options["part_of"]),
            "folder": variables.get("freehold_host_folder", pending.FOLDER),
            "directories": [*map(dict, options["directories"]), *_folders(options["files"])],
            "files": files,
        }
        result: dict[str, Any] = self._execute_module(
            module_name="freehold.stack.files",
            module_args={"payload": base64.b64encode(zlib.compress(json.dumps(payload).encode())).decode()},
            task_vars=variables,
        )
        result.pop("invocation", None)
        result["managed"] = managed
        self._notify(entries, result)
        return result

    def _render(self, service: str, entry: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        kept = {key: entry[key] for key in ("owner", "group", "mode", "validate", "notify", "secret")}
        if entry["package"]:
            module = resources.package() / entry["src"]
            return {
                **kept,
                "path": entry["dest"],
                "src": f"freehold/{entry['src']}",
                "content": module.read_text(encoding="utf-8"),
            }
        template = f"{service}/{entry['src']}"
        wanted = {
            name: self._templar.template(_expression(name))
            for name in render.names(template)
            if name in variables
        }
        content = render.render(template, wanted)
        return {**kept, "path": entry["dest"], "src": template, "content": content}

    def _notify(self, entries: Iterable[Mapping[str, Any]], result: Mapping[str, Any]) -> None:
        changed = result.get("changed_files", [])
        handlers = {entry["notify"] for entry in entries if entry["notify"] and entry["dest"] in changed}
        handlers |= set(result.get("pending", []))
        if handlers:
            # The strategy notifies what the task names when its result is a change.
            self._task.notify = [*(self._task.notify or []), *sorted(handlers)]


def _each(entry: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """The files of an entry: one of a template, or all of a package of Freehold's own."""
    if bool(entry["src"]) == bool(entry["package"]):
        raise AnsibleActionFail("A file has either src, a template, or package, a package of Freehold's own.")
    if not entry["package"]:
        return [dict(entry)]
    root = resources.package()
    return [
        {
            **entry,
            "src": str(path.relative_to(root)),
            "dest": f"{entry['dest']}/{path.relative_to(root / entry['package'])}",
        }
        for path in resources.package_files(entry["package"])
    ]


def _folders(entries: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """The directories of packages."""
    for entry in entries:
        if entry["package"]:
            parents = {str(Path(one["dest"]).parent) for one in _each(entry)}
            for path in sorted(parents):
                yield {"path": path, "owner": entry["owner"], "group": entry["group"], "mode": "0755"}


def _expression(name: str) -> str:
    from ansible.template import trust_as_template

    trusted: str = trust_as_template("{{ " + name + " }}")
    return trusted


def _keyed(secret: bool, directory: str | None) -> Keyed | None:
    return context.keyed(directory) if secret else None


def _refuse_open_secrets(files: Iterable[Mapping[str, Any]], given: Iterable[str]) -> None:
    for entry in files:
        if not entry["secret"] and any(value in entry["content"] for value in given):
            raise AnsibleActionFail(
                f"{entry['src']} puts a secret into {entry['path']}, which is not marked as secret. "
                "Add `secret: true` and a mode that keeps others out."
            )
        if entry["secret"] and int(entry["mode"], 8) & 0o007:
            raise AnsibleActionFail(
                f"{entry['path']} holds secrets and its mode {entry['mode']} lets others read it"
            )


_ENTRY: dict[str, Any] = {
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
}
_SPEC: dict[str, Any] = {
    "service": {"type": "str", "required": True},
    "part_of": {"type": "str", "default": ""},
    "directories": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            **_ENTRY,
            "path": {"type": "path", "required": True},
            "mode": {"type": "str", "default": "0755"},
        },
    },
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            **_ENTRY,
            "src": {"type": "str", "default": ""},
            "package": {"type": "str", "default": ""},
            "dest": {"type": "path", "required": True},
            "mode": {"type": "str", "default": "0644"},
            "validate": {"type": "str", "default": ""},
            "notify": {"type": "str", "default": ""},
            "secret": {"type": "bool", "default": False},
        },
    },
}
