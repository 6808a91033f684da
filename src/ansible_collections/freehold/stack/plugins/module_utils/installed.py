"""What modules install in a folder as a whole: a record in it says what it holds, and nothing is done while that is right.

A run can be killed at any moment. What it left beside the folder has fixed names, and the next run removes it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.freehold.stack.plugins.module_utils import pending

RECORD = ".freehold"
"""Name of the record, in the folder."""

OPTIONS: dict[str, Any] = {
    "timeout": {"type": "int", "default": 3600},
    "service": {"type": "str", "default": ""},
    "handlers": {"type": "list", "elements": "str", "default": []},
}
"""Options of every module that installs something."""


class Installation(ABC):
    """A folder, and what it should hold.

    Args:
        module: Its options are :data:`OPTIONS` and more.
        path: The folder.
        about: What the person is told that it is about.
        advice: What to do when it could not be installed.
    """

    def __init__(self, module: AnsibleModule, path: str, about: str, advice: str) -> None:
        self.module = module
        self.path = Path(path)
        self.about = about
        self.advice = advice
        self.new = self.path.with_name(f".{self.path.name}.new")
        self.old = self.path.with_name(f".{self.path.name}.old")

    @abstractmethod
    def text(self) -> str:
        """The record of what it should hold, lines that a person can read."""

    @abstractmethod
    def install(self) -> None:
        """Bring it about, with its record."""

    def leftovers(self) -> Iterable[Path]:
        """What lies beside the folder only while something is installed."""
        return (self.new, self.old)

    def record(self) -> str:
        """What it holds now; empty where there is none, or an unfinished one."""
        try:
            return (self.path / RECORD).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def bring(self) -> dict[str, Any]:
        """Install it where the record differs; the module's result."""
        before, after = self.record(), self.text()
        if not self.module.check_mode:
            if before != after:
                pending.add(pending.FOLDER, self.module.params["service"], self.module.params["handlers"])
                try:
                    self.install()
                finally:
                    _remove(self.new)
            for left in self.leftovers():
                _remove(left)
        header = str(self.path)
        diff = {"before_header": header, "after_header": header, "before": before, "after": after}
        return {"changed": before != after, "diff": diff}

    def begin(self) -> None:
        """An empty folder beside the old one, to be filled and then put in its place."""
        _remove(self.new)
        self.new.mkdir(mode=0o755, parents=True)

    def put(self) -> None:
        """The new folder, with its record, in the place of the old one."""
        (self.new / RECORD).write_text(self.text(), encoding="utf-8")
        _remove(self.old)
        if self.path.exists():
            self.path.rename(self.old)
        self.new.rename(self.path)

    def run(
        self,
        words: str,
        command: list[str],
        variables: Mapping[str, str] | None = None,
        *,
        text: str = "",
        folder: Path | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a step in an environment of its own, or fail with what it answered."""
        proxies = {
            name: os.environ[name] for name in ("http_proxy", "https_proxy", "no_proxy") if name in os.environ
        }
        given = {"HOME": "/root", "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        try:
            answer = subprocess.run(
                command,
                input=text,
                cwd=folder,
                capture_output=True,
                text=True,
                env={**given, **proxies, **(variables or {})},
                umask=0o022,
                timeout=self.module.params["timeout"],
                check=False,
            )
        except FileNotFoundError:
            self.fail(words, f"there is no program {command[0]}")
        except subprocess.TimeoutExpired:
            self.fail(words, f"no end after {self.module.params['timeout']} seconds")
        if check and answer.returncode:
            self.fail(words, (answer.stderr.strip() or answer.stdout.strip())[-2000:])
        return answer

    def fail(self, words: str, reason: object) -> NoReturn:
        """End, and say what to do."""
        self.module.fail_json(msg=f"{self.about} could not be {words}: {reason}\n{self.advice}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
