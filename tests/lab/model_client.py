"""A client whose language models change: the router and engines on the lab, without accounts and proofs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from .freehold_command import LAB_STACK, Freehold


@contextmanager
def model_client(
    freehold: Freehold,
    name: str,
    files: Mapping[str, str] | None = None,
    before: Callable[[Freehold, Path], None] | None = None,
    **stack: Any,
) -> Iterator[Path]:
    """Bring the client up, and down again afterwards; the path of its stack file.

    Args:
        freehold: The command.
        name: Name of the client.
        files: More files of its folder by name, such as ``models.yml``.
        before: Called before it comes up.
        stack: Keys of its stack.
    """
    lab = yaml.safe_load(LAB_STACK.read_text(encoding="utf-8"))
    access = {key: lab["nodes"]["pve"][key] for key in ("address", "ssh_key", "known_hosts")}
    given = {"exclusive": False, "users": [], "groups": [], "models": {}, "nodes": {"pve": access}} | stack
    path = freehold.write(name, "10.86.0.11", 4400, **given)
    (path.parent / "cases").mkdir()
    for file, text in (files or {}).items():
        (path.parent / file).write_text(text, encoding="utf-8")
    freehold("lab", "versions", str(path.parent))
    freehold("prepare", name)
    if before:
        before(freehold, path)
    freehold("up", name, "--no-proof")
    try:
        yield path
    finally:
        freehold("down", name, "--confirm", name, code=None)
