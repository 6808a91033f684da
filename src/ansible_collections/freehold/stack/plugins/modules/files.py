"""Module behind the ``files`` action: directories and rendered files in one run on the host."""

from __future__ import annotations

import base64
import grp
import json
import os
import pwd
import shlex
import stat
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.freehold.stack.plugins.module_utils import pending

DOCUMENTATION = r"""
module: files
short_description: Writes a service's configuration files in one round trip
description:
  - Renders templates of a service on the controller, with the renderer that all of Freehold uses, and brings
    directories and files to the host together.
  - Each new file is checked by its O(files[].validate) command first; when one check fails, no file is replaced.
  - An undefined variable in a template is an error. So is a secret in a file that is not marked as O(files[].secret).
options:
  service:
    description: Folder below C(templates/).
    type: str
  part_of:
    description: Service whose manifest records these files, where a role is part of the role of that service.
    type: str
    default: ""
  directories:
    description: Directories, parents first.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Path on the host., type: path, required: true}
      owner: {description: Owner., type: str, default: root}
      group: {description: Group., type: str, default: root}
      mode: {description: Permissions as an octal string., type: str, default: "0755"}
  files:
    description: Files to render.
    type: list
    elements: dict
    default: []
    suboptions:
      src: {description: Template below the service's folder., type: str, default: ""}
      package: {description: "Package of Freehold's own instead, whose modules are put below O(files[].dest) as they are.", type: str, default: ""}
      dest: {description: Path on the host., type: path, required: true}
      owner: {description: Owner., type: str, default: root}
      group: {description: Group., type: str, default: root}
      mode: {description: Permissions as an octal string., type: str, default: "0644"}
      validate: {description: Command that checks the new file; C(%s) stands for its path., type: str, default: ""}
      notify: {description: Handler to notify when this file changes., type: str, default: ""}
      secret: {description: Whether the file holds secrets; its differences are never shown., type: bool, default: false}
  payload:
    description: What the action hands to the module; not for playbooks.
    type: str
attributes:
  check_mode: {support: full, description: Says what would change; checks of new files are left out.}
  diff_mode: {support: full, description: Shows differences, except of files that hold secrets.}
author: The Freehold authors
"""

EXAMPLES = r"""
- name: Write the configuration
  freehold.stack.files:
    service: caddy
    directories:
      - {path: /etc/caddy, group: caddy, mode: "0750"}
    files:
      - {src: Caddyfile.j2, dest: /etc/caddy/Caddyfile, group: caddy, mode: "0640", notify: Reload Caddy}
  register: caddy__files
"""

RETURN = r"""
changed_files:
  description: Paths that changed.
  returned: always
  type: list
  elements: str
pending:
  description: Handlers that an interrupted run left over; they are notified again.
  returned: always
  type: list
  elements: str
managed:
  description: Every file of this task with the digest that the manifest records.
  returned: always
  type: dict
"""


def _lookup(database: Callable[[str], Any], name: str) -> int | None:
    try:
        return int(database(name)[2])
    except KeyError:
        return None


class _Tree:
    """The wanted tree; ``changed`` collects paths."""

    def __init__(self, module: AnsibleModule, wanted: dict[str, Any]) -> None:
        self.module = module
        self.wanted = wanted
        self.changed: list[str] = []
        self.diff: list[dict[str, str]] = []

    def owner(self, entry: dict[str, Any]) -> tuple[int, int]:
        uid, gid = _lookup(pwd.getpwnam, entry["owner"]), _lookup(grp.getgrnam, entry["group"])
        # On a new host in check mode, an earlier task would have made them.
        if (uid is None or gid is None) and not self.module.check_mode:
            self.module.fail_json(
                msg="{path}: user {owner} or group {group} does not exist on this host".format(**entry)
            )
        return -1 if uid is None else uid, -1 if gid is None else gid

    def attributes(self, entry: dict[str, Any]) -> None:
        """Give owner and mode to what exists."""
        (uid, gid), mode = self.owner(entry), int(entry["mode"], 8)
        descriptor = self.open(Path(entry["path"]))
        try:
            state = os.fstat(descriptor)
            now = (state.st_uid, state.st_gid, state.st_mode & 0o7777)
            if now == (uid, gid, mode):
                return
            self.note(entry["path"])
            self.diff.append(
                _headers(entry)
                | {
                    "before": "owner {}:{} mode {:04o}\n".format(*now),
                    "after": f"owner {uid}:{gid} mode {mode:04o}\n",
                }
            )
            if not self.module.check_mode:
                os.fchown(descriptor, uid, gid)
                os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    def open(self, path: Path) -> int:
        """Open what exists. A service owns some of the directories above, and could put a link there that leads root to
        a file of the system: a link is followed only where root, or who runs this, made it."""
        descriptor = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        for part in path.parts[1:]:
            try:
                found = os.stat(part, dir_fd=descriptor, follow_symlinks=False)
                link = stat.S_ISLNK(found.st_mode)
                if link and found.st_uid not in (0, os.geteuid()):
                    self.module.fail_json(
                        msg=f"{path}: {part} is a link that root did not make (its owner has the id {found.st_uid}). "
                        "Find out who made it, and remove it."
                    )
                flags = os.O_RDONLY | os.O_NONBLOCK | (0 if link else os.O_NOFOLLOW)
                inner = os.open(part, flags, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = inner
        return descriptor

    def note(self, path: str) -> None:
        if path not in self.changed:
            self.changed.append(path)

    def directories(self) -> None:
        for entry in self.wanted["directories"]:
            path = Path(entry["path"])
            if not path.is_dir():
                self.note(entry["path"])
                if self.module.check_mode:
                    continue
                path.mkdir(mode=0o700, parents=True)
            self.attributes(entry)

    def files(self) -> None:
        staged: list[tuple[Path, str]] = []
        try:
            for entry in self.wanted["files"]:
                before = _read(entry["path"])
                after = entry["content"].encode()
                if before == after:
                    self.attributes(entry)
                    continue
                self.note(entry["path"])
                self.diff.append(_difference(entry, before, after))
                if not self.module.check_mode:
                    staged.append((self.stage(entry, after), entry["path"]))
            if staged:
                self.note_handlers({path for _new, path in staged})
            while staged:
                new, path = staged[0]
                new.replace(path)
                staged.pop(0)
        finally:
            for new, _path in staged:
                new.unlink()

    def note_handlers(self, paths: set[str]) -> None:
        handlers = {entry["notify"] for entry in self.wanted["files"] if entry["path"] in paths}
        pending.add(self.wanted["folder"], self.wanted["service"], handlers - {""})

    def stage(self, entry: dict[str, Any], content: bytes) -> Path:
        uid, gid = self.owner(entry)
        path = Path(entry["path"])
        # The name keeps its ending: commands that check a file may go by it.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".freehold-", suffix="-" + path.name)
        new = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
                os.fchown(stream.fileno(), uid, gid)
                os.fchmod(stream.fileno(), int(entry["mode"], 8))
            if entry["validate"]:
                self.validate(entry, name)
        except BaseException:
            new.unlink()
            raise
        return new

    def validate(self, entry: dict[str, Any], new: str) -> None:
        command = [part.replace("%s", new) for part in shlex.split(entry["validate"])]
        code, out, err = self.module.run_command(command)
        if code:
            # What a command says of a file with secrets may quote them.
            said = "" if entry["secret"] else (err or out).strip().replace(new, entry["path"])[-2000:]
            self.module.exit_json(
                failed=True,
                msg=f"The new {entry['path']} does not pass its check ({entry['validate']}); "
                f"no file was replaced. {said}",
            )


def _read(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None


def _headers(entry: dict[str, Any]) -> dict[str, str]:
    return {"before_header": entry["path"], "after_header": entry["path"]}


def _difference(entry: dict[str, Any], before: bytes | None, after: bytes) -> dict[str, str]:
    if entry["secret"]:
        return _headers(entry) | {"before": "", "after": "(holds secrets: differences are not shown)\n"}
    return _headers(entry) | {"before": (before or b"").decode("utf-8", "replace"), "after": after.decode()}


def main() -> None:
    """Bring the tree to the host."""
    entry = {
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "mode": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "service": {"type": "str"},
            "part_of": {"type": "str", "default": ""},
            "directories": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": dict(entry, path={"type": "path", "required": True}),
            },
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": dict(
                    entry,
                    src={"type": "str", "required": True},
                    dest={"type": "path", "required": True},
                    validate={"type": "str", "default": ""},
                    notify={"type": "str", "default": ""},
                    secret={"type": "bool", "default": False, "no_log": False},
                ),
            },
            "payload": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    if not module.params["payload"]:
        module.fail_json(
            msg="freehold.stack.files runs through its action plugin; install the freehold package here"
        )
    tree = _Tree(module, json.loads(zlib.decompress(base64.b64decode(module.params["payload"]))))
    waiting = pending.read(tree.wanted["folder"], tree.wanted["service"])
    if tree.wanted["is_part"]:  # the service's own handlers have run by now
        own = {entry["notify"] for entry in tree.wanted["files"]}
        waiting = [handler for handler in waiting if handler in own]
    tree.directories()
    tree.files()
    module.exit_json(
        changed=bool(tree.changed or waiting), changed_files=tree.changed, pending=waiting, diff=tree.diff
    )


if __name__ == "__main__":
    main()
