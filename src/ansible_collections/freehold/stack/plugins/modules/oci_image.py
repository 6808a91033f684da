"""Module behind the ``oci_image`` action: the content of a container image, pinned by its digest, without a container engine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.freehold.stack.plugins.module_utils import installed

DOCUMENTATION = r"""
module: oci_image
short_description: Unpacks a container image on the host
description:
  - Fetches an image by its digest with C(skopeo), unpacks its layers with C(umoci), and puts the result in place at once, so
    that there is the old image or the new one and never half of one. Nothing runs in a container; systemd can run the
    image's own program with C(RootDirectory=).
  - Every part is checked by its digest, wherever it came from. What was downloaded by a run that was cut off is kept.
  - The host needs the packages C(skopeo), C(umoci) and C(ca-certificates).
options:
  image: {description: "Registry and name, such as C(docker.langfuse.com/langfuse/langfuse).", type: str, required: true}
  digest: {description: "Digest of the manifest, or of the index that lists manifests: C(sha256:...).", type: str, required: true}
  plain_http: {description: Whether the registry speaks HTTP without TLS., type: bool, default: false}
  dest:
    description: Folder that holds the image, in C(rootfs), and nothing else.
    type: path
    required: true
  timeout: {description: Seconds that the download may take., type: int, default: 3600}
  service: {description: Set by the action., type: str, default: ""}
  handlers: {description: Set by the action., type: list, elements: str, default: []}
attributes:
  check_mode: {support: full, description: Says whether the image would change.}
  diff_mode: {support: full, description: Shows name and digest.}
author: The Freehold authors
"""

EXAMPLES = r"""
- name: Unpack Langfuse
  freehold.stack.oci_image:
    image: docker.langfuse.com/langfuse/langfuse
    digest: sha256:3d2ae888a0e6edb41fdba6e7d5baca5e4baede3a870dac7970dadd9d925b018e
    dest: /opt/langfuse/web
  register: langfuse__web
  notify: Restart Langfuse
"""

RETURN = r"""
config:
  description: How the image wants to be run; in check mode, before there is an image, nothing that could run.
  returned: always
  type: dict
  contains:
    command: {description: "Entry point and command, with the program's path in the image.", type: list, elements: str}
    environment: {description: Variables by name., type: dict}
    folder: {description: Working folder., type: str}
    user: {description: "User that the image names, or nothing.", type: str}
"""

_CONFIG = "config.json"
_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOTHING: dict[str, Any] = {"command": ["/bin/false"], "environment": {}, "folder": "/", "user": ""}


def wanted_command(config: dict[str, Any], root: Path) -> list[str]:
    """Entry point and command of an image, the program as a path in it: the environment of the image says where it is
    searched (https://github.com/opencontainers/image-spec/blob/main/config.md)."""
    command = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
    if not command or command[0].startswith("/"):
        return command
    if "/" in command[0]:
        return [os.path.normpath(Path(config.get("WorkingDir") or "/") / command[0]), *command[1:]]
    folders = environment(config).get("PATH", _SEARCH).split(":")
    for folder in folders:
        path = Path(folder) / command[0]
        # A link may name a path of the image, which would be another one here.
        if (root / path.relative_to("/")).is_symlink() or (root / path.relative_to("/")).is_file():
            return [str(path), *command[1:]]
    raise FileNotFoundError(f"the image has no program {command[0]} in {':'.join(folders)}")


def environment(config: dict[str, Any]) -> dict[str, str]:
    """Variables of an image by name."""
    return dict(entry.split("=", 1) for entry in config.get("Env") or [] if "=" in entry)


class _Image(installed.Installation):
    def __init__(self, module: AnsibleModule) -> None:
        self.name = f"{module.params['image']}@{module.params['digest']}"
        advice = (
            "Check that this host reaches the registry (or sources.mirror of the stack file), and run again: what was "
            "downloaded is kept."
        )
        super().__init__(module, module.params["dest"], f"The image {self.name}", advice)

    def text(self) -> str:
        """Name and digest."""
        return f"{self.name}\n"

    def leftovers(self) -> Iterable[Path]:
        """Downloads, too."""
        return (*super().leftovers(), *self.path.parent.glob(f".{self.path.name}.*.part"))

    def config(self) -> dict[str, Any]:
        """How the image that is there wants to be run."""
        found: dict[str, Any] = json.loads((self.path / _CONFIG).read_text(encoding="utf-8"))
        return found

    def install(self) -> None:
        """Fetch, unpack, put in place."""
        digest = self.module.params["digest"].rpartition(":")[2]
        layout = self.path.with_name(f".{self.path.name}.{digest[:12]}.part")
        layout.mkdir(parents=True, exist_ok=True)
        self.fetch(layout)
        self.begin()
        root = self.new / "rootfs"
        self.run("unpacked", ["umoci", "raw", "unpack", "--image", f"{layout}:freehold", str(root)])
        root.chmod(0o755)
        try:
            config = _config(layout)
            told = {
                "command": wanted_command(config, root),
                "environment": environment(config),
                "folder": config.get("WorkingDir") or "/",
                "user": config.get("User") or "",
            }
        except (OSError, KeyError, ValueError, StopIteration) as error:
            self.fail("read", error)
        (self.new / _CONFIG).write_text(json.dumps(told, indent=1), encoding="utf-8")
        self.put()

    def fetch(self, layout: Path) -> None:
        """Bring the image into an OCI layout; parts that are there are not fetched again."""
        # The digest says what is right; a policy of signatures is not what decides here.
        command = [
            "skopeo",
            "--insecure-policy",
            "--override-os",
            "linux",
            "copy",
            "--quiet",
            "--retry-times",
            "3",
        ]
        command += ["--src-tls-verify=false"] if self.module.params["plain_http"] else []
        self.run("fetched", [*command, f"docker://{self.name}", f"oci:{layout}:freehold"])


def _config(layout: Path) -> dict[str, Any]:
    def blob(descriptor: dict[str, Any]) -> dict[str, Any]:
        algorithm, _, digest = descriptor["digest"].partition(":")
        found: dict[str, Any] = json.loads(
            (layout / "blobs" / algorithm / digest).read_text(encoding="utf-8")
        )
        return found

    index = json.loads((layout / "index.json").read_text(encoding="utf-8"))
    named = next(
        entry
        for entry in index["manifests"]
        if entry.get("annotations", {}).get("org.opencontainers.image.ref.name") == "freehold"
    )
    found: dict[str, Any] = blob(blob(named)["config"]).get("config", {})
    return found


def main() -> None:
    """Hold the folder against the wanted image and unpack it where it differs."""
    module = AnsibleModule(
        argument_spec={
            **installed.OPTIONS,
            "image": {"type": "str", "required": True},
            "digest": {"type": "str", "required": True},
            "plain_http": {"type": "bool", "default": False},
            "dest": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    image = _Image(module)
    if not module.params["digest"].startswith("sha256:"):
        module.fail_json(
            msg=f"There is no digest of {module.params['image']} yet: `freehold versions lock` writes it down."
        )
    result = image.bring()
    here = not (result["changed"] and module.check_mode)
    module.exit_json(**result, config=image.config() if here else _NOTHING)


if __name__ == "__main__":
    main()
