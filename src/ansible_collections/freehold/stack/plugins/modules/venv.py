"""Module behind the ``venv`` action: a Python environment that holds exactly what a lock file says."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.freehold.stack.plugins.module_utils import installed

DOCUMENTATION = r"""
module: venv
short_description: Makes a virtual environment from a hash-locked list of packages
description:
  - Installs the packages of the lock file and removes all others, with C(uv pip sync --require-hashes), which asks no
    resolver. Every package is checked by its hash, wherever it came from, and compiled to bytecode.
  - uv itself is installed by its hash into C(/opt/freehold/uv).
  - Nothing is done while the environment holds what this lock file, and this Python, ask for. An installation that was
    interrupted is finished by the next run, which finds what was already downloaded.
  - The host needs the package C(python3-venv). Certificates are checked by the system's own store.
options:
  path: {description: Where the environment lies., type: path, required: true}
  requirements: {description: Lock file among the role's files., type: str, required: true}
  wheels: {description: "More places for wheels (C(--find-links)).", type: list, elements: str, default: []}
  upstream:
    description: Places for wheels that are asked only when a package is neither in O(wheels) nor in the package index.
    type: list
    elements: str
    default: []
  mirror:
    description:
      - Base address of a mirror (C(freehold mirror)). Everything comes from there then, and nothing else is asked.
      - The variable C(freehold_mirror) when left out, which C(freehold up) sets from C(sources.mirror).
    type: str
  timeout: {description: Seconds that the installation may take., type: int, default: 3600}
  part_of:
    description: Service whose manifest says that this was done, where a role is part of the role of that service.
    type: str
    default: ""
  payload: {description: What the action hands to the module; not for playbooks., type: str}
  service: {description: Set by the action., type: str, default: ""}
  handlers: {description: Set by the action., type: list, elements: str, default: []}
attributes:
  check_mode: {support: full, description: Says whether packages would change.}
  diff_mode: {support: full, description: Lists packages with their versions.}
author: The Freehold authors
"""

EXAMPLES = r"""
- name: Install vLLM
  freehold.stack.venv:
    path: /opt/vllm
    requirements: requirements-cuda.txt
  notify: Restart vLLM
"""

UV = Path("/opt/freehold/uv")
UV_LOCK = (
    "uv==0.13.9"
    " --hash=sha256:d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19"
    " --hash=sha256:ecb6028d79dc96fbeafffe5c8af62a7099487ebc05a701e76714eebcffd06375"
    " --hash=sha256:5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe\n"
)
"""uv's wheels for glibc on x86_64 and aarch64."""


class _Environment(installed.Installation):
    def __init__(self, module: AnsibleModule, lock: bytes) -> None:
        path, mirror = module.params["path"], (module.params["mirror"] or "").rstrip("/")
        advice = (
            f"Check that this host reaches the mirror and that the mirror is filled for it: {mirror}/pypi/"
            if mirror
            else "Check that this host reaches the package index (or sources.wheels of the stack file), and run again: "
            "what was downloaded is kept."
        )
        super().__init__(module, path, f"The Python environment {path}", advice)
        self.cache = self.path.with_name(f".{self.path.name}.cache")
        self.lock = lock
        self.mirror = ["--no-index", f"--find-links={mirror}/pypi/"] if mirror else []
        # pip wants to hear that plain HTTP is meant; the hash decides anyway
        self.trusted = [f"--trusted-host={urlsplit(mirror).netloc}"] if mirror.startswith("http:") else []
        version = ".".join(map(str, sys.version_info[:2]))
        self.wanted = f"{hashlib.sha256(lock).hexdigest()} python=={version}"
        self.packages = re.findall(r"^[^\s#]+==[^\s;]+", lock.decode(), re.MULTILINE)

    def leftovers(self) -> Iterable[Path]:
        """Downloads, too."""
        return (*super().leftovers(), self.cache)

    def text(self) -> str:
        """What it should hold: the digest of the lock file and the packages, which a person can read."""
        return "".join(f"{line}\n" for line in (self.wanted, *self.packages))

    def install(self) -> None:
        """Bring the environment to the lock file."""
        (self.path / installed.RECORD).unlink(missing_ok=True)
        uv = self.uv()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.step(
            "made", [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(self.path)]
        )
        with tempfile.NamedTemporaryFile(prefix="freehold-", suffix=".txt") as file:
            file.write(self.lock)
            file.flush()
            command = [uv, "pip", "sync", "--quiet", "--require-hashes", "--no-config", "--compile-bytecode"]
            command += ["--python", str(self.path / "bin/python"), file.name]
            self.fill(command)
        (self.path / installed.RECORD).write_text(self.text(), encoding="utf-8")

    def fill(self, command: list[str]) -> None:
        """Install the packages; upstream's own places are asked only when they are found nowhere else."""
        if self.mirror:
            self.step("filled", [*command, *self.mirror])
            return
        near = [f"--find-links={place}" for place in self.module.params["wheels"]]
        far = [f"--find-links={place}" for place in self.module.params["upstream"]]
        if far and self.step("filled", [*command, *near], check=False).returncode == 0:
            return
        self.step("filled", [*command, *near, *far])

    def uv(self) -> str:
        """Path of uv, which is installed first where it is not yet there."""
        mark = UV / installed.RECORD
        if not mark.is_file() or mark.read_text(encoding="utf-8") != UV_LOCK:
            self.step("made for uv", [sys.executable, "-m", "venv", "--clear", str(UV)])
            pip = [
                str(UV / "bin/pip"),
                "install",
                "--quiet",
                "--require-hashes",
                "--no-deps",
                "--no-cache-dir",
                *self.mirror,
                *self.trusted,
            ]
            command = [*pip, "--only-binary=:all:", "--disable-pip-version-check", "--requirement=/dev/stdin"]
            self.step("filled with uv", command, text=UV_LOCK)
            mark.write_text(UV_LOCK, encoding="utf-8")
        return str(UV / "bin/uv")

    def step(self, words: str, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run uv or pip with the system's certificates, or fail with what it answered."""
        authorities = "/etc/ssl/certs/ca-certificates.crt"
        variables = {
            "PIP_CERT": authorities,
            "SSL_CERT_FILE": authorities,
            # On the environment's own file system, so that files are linked and not copied.
            "UV_CACHE_DIR": str(self.cache),
            "UV_HTTP_TIMEOUT": "120",
            "UV_PYTHON_DOWNLOADS": "never",
        }
        return self.run(words, command, variables, **options)


def main() -> None:
    """Hold the environment against the lock file and install what differs."""
    module = AnsibleModule(
        argument_spec={
            **installed.OPTIONS,
            "path": {"type": "path", "required": True},
            "requirements": {"type": "str", "required": True},
            "wheels": {"type": "list", "elements": "str", "default": []},
            "upstream": {"type": "list", "elements": "str", "default": []},
            "mirror": {"type": "str"},
            "part_of": {"type": "str", "default": ""},
            "payload": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    if not module.params["payload"]:
        module.fail_json(
            msg="freehold.stack.venv runs through its action plugin; install the freehold package here"
        )
    environment = _Environment(module, zlib.decompress(base64.b64decode(module.params["payload"])))
    module.exit_json(**environment.bring())


if __name__ == "__main__":
    main()
