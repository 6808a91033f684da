"""Module behind the ``venv`` action: a Python environment that holds exactly what a lock file says."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.freehold.stack.plugins.module_utils import pending

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

_RECORD = ".freehold"
"""Says what the environment holds; written when all of it is there."""


class _Environment:
    def __init__(self, module: AnsibleModule, lock: bytes) -> None:
        self.module = module
        self.path = Path(module.params["path"])
        self.cache = self.path.with_name(f".{self.path.name}.cache")
        self.lock = lock
        mirror = (module.params["mirror"] or "").rstrip("/")
        self.mirror = ["--no-index", f"--find-links={mirror}/pypi/"] if mirror else []
        # pip wants to hear that plain HTTP is meant; the hash decides anyway
        self.trusted = [f"--trusted-host={urlsplit(mirror).netloc}"] if mirror.startswith("http:") else []
        version = ".".join(map(str, sys.version_info[:2]))
        self.wanted = f"{hashlib.sha256(lock).hexdigest()} python=={version}"
        self.packages = re.findall(r"^[^\s#]+==[^\s;]+", lock.decode(), re.MULTILINE)

    def record(self) -> str:
        """What the environment holds now; empty where there is none, or an unfinished one."""
        try:
            return (self.path / _RECORD).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def text(self) -> str:
        """What it should hold: the digest of the lock file and the packages, which a person can read."""
        return "".join(f"{line}\n" for line in (self.wanted, *self.packages))

    def install(self) -> None:
        """Bring the environment to the lock file."""
        (self.path / _RECORD).unlink(missing_ok=True)
        uv = self.uv()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.run(
            "made", [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(self.path)]
        )
        with tempfile.NamedTemporaryFile(prefix="freehold-", suffix=".txt") as file:
            file.write(self.lock)
            file.flush()
            command = [uv, "pip", "sync", "--quiet", "--require-hashes", "--no-config", "--compile-bytecode"]
            command += ["--python", str(self.path / "bin/python"), file.name]
            self.fill(command)
        (self.path / _RECORD).write_text(self.text(), encoding="utf-8")
        shutil.rmtree(self.cache, ignore_errors=True)

    def fill(self, command: list[str]) -> None:
        """Install the packages; upstream's own places are asked only when they are found nowhere else."""
        if self.mirror:
            self.run("filled", [*command, *self.mirror])
            return
        near = [f"--find-links={place}" for place in self.module.params["wheels"]]
        far = [f"--find-links={place}" for place in self.module.params["upstream"]]
        if far and self.tried("filled", [*command, *near]).returncode == 0:
            return
        self.run("filled", [*command, *near, *far])

    def uv(self) -> str:
        """Path of uv, which is installed first where it is not yet there."""
        mark = UV / _RECORD
        if not mark.is_file() or mark.read_text(encoding="utf-8") != UV_LOCK:
            self.run("made for uv", [sys.executable, "-m", "venv", "--clear", str(UV)])
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
            self.run("filled with uv", command, UV_LOCK)
            mark.write_text(UV_LOCK, encoding="utf-8")
        return str(UV / "bin/uv")

    def run(self, words: str, command: list[str], text: str = "") -> None:
        """Run a step, or fail with what it answered."""
        answer = self.tried(words, command, text)
        if answer.returncode:
            self.fail(words, (answer.stderr.strip() or answer.stdout.strip())[-2000:])

    def tried(self, words: str, command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
        """How a step ended."""
        authorities = "/etc/ssl/certs/ca-certificates.crt"
        environment = {
            "HOME": "/root",
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "PIP_CERT": authorities,
            "SSL_CERT_FILE": authorities,
            # On the environment's own file system, so that files are linked and not copied.
            "UV_CACHE_DIR": str(self.cache),
            "UV_HTTP_TIMEOUT": "120",
            "UV_PYTHON_DOWNLOADS": "never",
        }
        for name in ("http_proxy", "https_proxy", "no_proxy"):
            environment |= {name: os.environ[name]} if name in os.environ else {}
        try:
            return subprocess.run(
                command,
                input=text,
                capture_output=True,
                text=True,
                env=environment,
                umask=0o022,
                timeout=self.module.params["timeout"],
                check=False,
            )
        except subprocess.TimeoutExpired:
            self.fail(words, f"no end after {self.module.params['timeout']} seconds")

    def fail(self, words: str, reason: str) -> NoReturn:
        """End, and say what to do."""
        self.module.fail_json(
            msg=f"The Python environment {self.path} could not be {words}: {reason}\n"
            + (
                f"Check that this host reaches the mirror and that the mirror is filled for it: {self.mirror[1][13:]}"
                if self.mirror
                else "Check that this host reaches the package index (or sources.wheels of the stack file), and run again: "
                "what was downloaded is kept."
            )
        )


def main() -> None:
    """Hold the environment against the lock file and install what differs."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "requirements": {"type": "str", "required": True},
            "wheels": {"type": "list", "elements": "str", "default": []},
            "upstream": {"type": "list", "elements": "str", "default": []},
            "mirror": {"type": "str"},
            "timeout": {"type": "int", "default": 3600},
            "part_of": {"type": "str", "default": ""},
            "payload": {"type": "str", "no_log": True},
            "service": {"type": "str", "default": ""},
            "handlers": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    if not module.params["payload"]:
        module.fail_json(
            msg="freehold.stack.venv runs through its action plugin; install the freehold package here"
        )
    environment = _Environment(module, zlib.decompress(base64.b64decode(module.params["payload"])))
    before, after = environment.record(), environment.text()
    if before != after and not module.check_mode:
        pending.add(pending.FOLDER, module.params["service"], module.params["handlers"])
        environment.install()
    diff = {"before_header": module.params["path"], "after_header": module.params["path"]}
    module.exit_json(changed=before != after, diff=diff | {"before": before, "after": after})


if __name__ == "__main__":
    main()
