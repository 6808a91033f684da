"""Actions of what is installed whole: each brings its module, as Ansible packs it for a host, with all that it needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Play

TASKS = {
    "oci_image": f"image: registry.test/app, digest: 'sha256:{'a' * 64}', dest: {{opt}}/app",
    "node_modules": "path: {opt}/app, node: {opt}/node",
    "release": f"url: 'http://127.0.0.1:9/app.tgz', sha256: {'a' * 64}, dest: {{opt}}/app",
    "venv": "path: {opt}/app, requirements: lock.txt, part_of: caddy",
}


@pytest.mark.parametrize("action", sorted(TASKS))
def test_a_play_says_what_would_be_installed(play: Play, tmp_path: Path, action: str) -> None:
    files = {
        "lock.txt": f"idna==3.10 --hash=sha256:{'a' * 64}\n",
        "package.json": json.dumps({"name": "app"}),
        "package-lock.json": json.dumps({"packages": {"": {"name": "app"}}}),
    }
    (tmp_path / "files").mkdir()
    for name, text in files.items():
        (tmp_path / "files" / name).write_text(text)
    options = TASKS[action].format(opt=tmp_path / "opt")

    run = play(f"- name: Install\n  freehold.stack.{action}: {{{options}}}\n  check_mode: true\n")

    assert run.of("Install") == ["started", "changed"], run.output
    assert not (tmp_path / "opt").exists()


def test_a_lock_that_the_role_does_not_have_is_named(play: Play, tmp_path: Path) -> None:
    run = play(f"- name: Install\n  freehold.stack.venv: {{path: {tmp_path}/app, requirements: none.txt}}\n")

    assert run.of("Install") == ["started", "failed"]
    assert "The lock file none.txt cannot be read" in run.events[-1].message
