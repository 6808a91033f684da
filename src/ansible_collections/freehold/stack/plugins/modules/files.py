"""Module behind the ``files`` action: directories and rendered files in one run on the host."""

from __future__ import annotations

import base64
import grp
import json
import os
import pwd
import shlex
import tempfile
import zlib

from ansible.module_utils.basic import AnsibleModule

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
      src: {description: Template below the service's folder., type: str, required: true}
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
managed:
  description: Every file of this task with the digest that the manifest records.
  returned: always
  type: dict
"""


def _lookup(database, name):
    try:
        return database(name)[2]
    except KeyError:
        return None


class _Tree:
    """The wanted tree; ``changed`` collects paths."""

    def __init__(self, module, wanted):
        self.module = module
        self.wanted = wanted
        self.changed = []
        self.diff = []

    def owner(self, entry):
        uid, gid = _lookup(pwd.getpwnam, entry["owner"]), _lookup(grp.getgrnam, entry["group"])
        # On a new host in check mode, an earlier task would have made them.
        if (uid is None or gid is None) and not self.module.check_mode:
            self.module.fail_json(
                msg="{path}: user {owner} or group {group} does not exist on this host".format(**entry)
            )
        return uid, gid

    def attributes(self, entry):
        """Owner and mode of what exists; whether they changed."""
        uid, gid = self.owner(entry)
        mode = int(entry["mode"], 8)
        state = os.stat(entry["path"])
        is_now = (state.st_uid, state.st_gid, state.st_mode & 0o7777)
        if is_now == (uid, gid, mode):
            return
        self.note(entry["path"])
        self.diff.append(
            {
                "before_header": entry["path"],
                "after_header": entry["path"],
                "before": "owner {0}:{1} mode {2:04o}\n".format(*is_now),
                "after": f"owner {uid}:{gid} mode {mode:04o}\n",
            }
        )
        if not self.module.check_mode:
            os.chown(entry["path"], uid, gid)
            os.chmod(entry["path"], mode)

    def note(self, path):
        if path not in self.changed:
            self.changed.append(path)

    def directories(self):
        for entry in self.wanted["directories"]:
            if not os.path.isdir(entry["path"]):
                self.note(entry["path"])
                if self.module.check_mode:
                    continue
                os.makedirs(entry["path"], mode=0o700)
            self.attributes(entry)

    def files(self):
        staged = []
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
            for new, path in staged:
                os.replace(new, path)
            staged = []
        finally:
            for new, _path in staged:
                os.unlink(new)

    def stage(self, entry, content):
        uid, gid = self.owner(entry)
        folder, name = os.path.split(entry["path"])
        # The name keeps its ending: commands that check a file may go by it.
        handle, new = tempfile.mkstemp(dir=folder, prefix=".freehold-", suffix="-" + name)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.chown(new, uid, gid)
            os.chmod(new, int(entry["mode"], 8))
            if entry["validate"]:
                self.validate(entry, new)
        except BaseException:
            os.unlink(new)
            raise
        return new

    def validate(self, entry, new):
        command = [part.replace("%s", new) for part in shlex.split(entry["validate"])]
        code, out, err = self.module.run_command(command)
        if code:
            said = "" if entry["secret"] else (err or out).strip().replace(new, entry["path"])[-2000:]
            self.module.exit_json(
                failed=True,
                msg="The new {0} does not pass its check ({1}); no file was replaced. {2}".format(
                    entry["path"], entry["validate"], said
                ),
            )


def _read(path):
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def _difference(entry, before, after):
    headers = {"before_header": entry["path"], "after_header": entry["path"]}
    if entry["secret"]:
        return dict(headers, before="", after="(holds secrets: differences are not shown)\n")
    return dict(headers, before=(before or b"").decode("utf-8", "replace"), after=after.decode("utf-8"))


def main():
    """Bring the tree to the host."""
    entry = {
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "mode": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "service": {"type": "str"},
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
        module.fail_json(msg="freehold.stack.files runs through its action plugin; install the freehold package here")
    tree = _Tree(module, json.loads(zlib.decompress(base64.b64decode(module.params["payload"]))))
    tree.directories()
    tree.files()
    # `invocation` would carry the payload.
    module.exit_json(changed=bool(tree.changed), changed_files=tree.changed, diff=tree.diff)


if __name__ == "__main__":
    main()
