"""The ``freehold`` command as a user on a fresh machine would run it, for the lab tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = Path(sys.executable).with_name("freehold")
LAB_STACK = REPOSITORY / "inventory/lab/stack.yml"


@dataclass
class Freehold:
    """Runs ``freehold`` with an inventory, a key and a state directory of its own."""

    home: Path
    inventory: Path
    environment: dict[str, str] = field(default_factory=dict)
    program: Path = PROGRAM
    directory: Path = REPOSITORY
    """Where the command is run."""

    def env(self) -> dict[str, str]:
        return os.environ | {
            "FREEHOLD_INVENTORY": str(self.inventory),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_STATE_HOME": str(self.home / "state"),
            "COLUMNS": "160",
        } | self.environment  # fmt: skip

    @property
    def command(self) -> list[str]:
        return [str(self.program)]

    def __call__(
        self, *words: str, code: int | None = 0, stdin: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.command, *words],
            input=stdin.read_text(encoding="utf-8") if stdin else None,
            env=self.env(),
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=1500,
        )
        if code is not None:
            assert done.returncode == code, (
                f"{words}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
            )
        return done

    def json(self, *words: str, code: int | None = 0) -> Any:
        return json.loads(self(*words, "--json", code=code).stdout)

    def up(self, client: str, *words: str) -> dict[str, Any]:
        """The closing summary of ``freehold up``."""
        lines = self("up", client, "--json", *words).stdout.splitlines()
        summary: dict[str, Any] = json.loads(lines[-1])["summary"]
        return summary

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.command, *words],
            env=self.env(),
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def write(self, client: str, first: str, vmid: int, **parts: Any) -> Path:
        """A stack file for a client, with the lab's way to the node.

        The lab's language models come with its services alone, and so do its cloud and the way out, which would be one more
        container for each of these clients; the test of the whole stack has them.
        """
        stack = yaml.safe_load(LAB_STACK.read_text(encoding="utf-8"))
        if "services" in parts:
            stack |= {"models": {}, "routing": {}, "egress": {"closed": False}}
        stack |= {"client": client, "domain": f"{client}.internal", "vmids": {"first": vmid}, **parts}
        stack["network"]["first"] = first
        path = self.inventory / client / "stack.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(stack, sort_keys=False), encoding="utf-8")
        shutil.copy(LAB_STACK.with_name("models.yml"), path.parent)
        self._forget(client)
        return path

    def _forget(self, client: str) -> None:
        """Remove what a run that was killed left of this client: its containers let in a key that is gone."""
        if self.inventory.joinpath(client, "secrets.yml").exists():
            return
        guests = self.json("lab", "status")["guests"]
        if any(guest["name"].startswith(f"{client}-") for guest in guests):
            self("prepare", client)
            self("down", client, "--confirm", client)
            for name in ("secrets.yml", "known_hosts", "ca.crt"):
                self.inventory.joinpath(client, name).unlink(missing_ok=True)

    def ssh(self, client: str, host: str, command: str) -> subprocess.CompletedProcess[str]:
        config = self.home / "state/freehold" / client / "ssh_config"
        return subprocess.run(
            ["ssh", "-F", str(config), "-o", "BatchMode=yes", host, command],
            capture_output=True,
            text=True,
            timeout=60,
        )

    def written(self, client: str) -> list[Path]:
        """Every file that runs wrote in the clear: run folders, state and inventory, but for key files and the vault."""
        roots = [self.inventory / client, self.home / "state"]
        return [
            path
            for root in roots
            for path in root.rglob("*")
            if path.is_file() and path.name not in {"secrets.yml", "id_ed25519"}
        ]


def confidential(value: str) -> list[str]:
    """The lines of a secret that nobody may see: of keys with certificates, which are public, those of the private keys."""
    lines, inside = value.strip().splitlines(), False
    if not lines or not lines[0].startswith("-----BEGIN "):
        return lines
    found = []
    for line in lines:
        if line.startswith("-----"):
            inside = "PRIVATE KEY" in line and "BEGIN" in line
        elif inside:
            found.append(line)
    return found


def processes() -> Iterator[tuple[str, bytes]]:
    """Arguments and environment of every process of this machine, containers' processes included."""
    for folder in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                yield f"{folder / name}", (folder / name).read_bytes()
            except OSError:
                continue
