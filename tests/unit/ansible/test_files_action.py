"""``freehold.stack.files`` on this machine."""

from __future__ import annotations

import getpass
import grp
import json
import os
from pathlib import Path

import pytest

from .conftest import SECRETS, Play

PASSWORD = SECRETS["caddy"]["password"]
SECRET_TEMPLATE = "password={{ database_password }}\n"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def _tasks(target: Path, files: str, more: str = "") -> str:
    me = f"owner: {getpass.getuser()}, group: {grp.getgrgid(os.getgid()).gr_name}"
    return f"""\
- name: Write
  freehold.stack.files:
    service: caddy
    directories:
      - {{path: {target}, {me}, mode: "0750"}}
    files:
{chr(10).join(f"      - {{{me}, {line}}}" for line in files.splitlines())}
  register: written
  vars:
    database_password: "{{{{ lookup('freehold.stack.secret', 'caddy.password') }}}}"
{more}"""


def test_a_tree_is_written_once(play: Play, target: Path) -> None:
    tasks = _tasks(target, f"src: a.j2, dest: {target}/a.conf, mode: '0640'")
    templates = {"a.j2": "{% for n in [1, 2] %}\nline {{ n }} of {{ caddy_domain }}\n{% endfor %}\n"}

    assert play(tasks, templates=templates).of("Write") == ["started", "changed"]
    assert (target / "a.conf").read_text() == "line 1 of ai.acme.example\nline 2 of ai.acme.example\n"
    assert (target / "a.conf").stat().st_mode & 0o777 == 0o640
    assert target.stat().st_mode & 0o777 == 0o750
    assert play(tasks, templates=templates).of("Write") == ["started", "ok"]


def test_owner_and_mode_are_kept(play: Play, target: Path) -> None:
    tasks = _tasks(target, f"src: a.j2, dest: {target}/a.conf, mode: '0640'")
    play(tasks, templates={"a.j2": "a\n"})
    (target / "a.conf").chmod(0o666)

    assert play(tasks).of("Write") == ["started", "changed"]
    assert (target / "a.conf").stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other users")
def test_root_follows_no_link_that_a_service_made(play: Play, target: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755)
    target.symlink_to(victim)
    os.lchown(target, 65534, 65534)
    tasks = _tasks(target, f"src: a.j2, dest: {target}/a.conf")

    run = play(tasks, templates={"a.j2": "a\n"})
    assert run.of("Write") == ["started", "failed"]
    assert "is a link that root did not make" in run.events[-1].message
    assert victim.stat().st_mode & 0o777 == 0o755
    assert not list(victim.iterdir())
    os.lchown(target, 0, 0)
    assert play(tasks).of("Write") == ["started", "changed"]


def test_check_mode_changes_nothing_and_shows_the_difference(play: Play, target: Path) -> None:
    tasks = _tasks(target, f"src: a.j2, dest: {target}/a.conf")
    run = play(tasks, templates={"a.j2": "new text\n"}, check=True, diff=True)

    assert run.of("Write") == ["started", "changed"]
    assert "+new text" in run.events[-1].data["diff"]
    assert not target.exists()


def test_a_failing_check_replaces_no_file(play: Play, target: Path) -> None:
    tasks = _tasks(
        target,
        f"src: a.j2, dest: {target}/a.conf\nsrc: b.j2, dest: {target}/b.conf, validate: 'grep -q good %s'",
    )
    play(tasks, templates={"a.j2": "one\n", "b.j2": "good\n"})
    run = play(tasks, templates={"a.j2": "two\n", "b.j2": "bad\n"})

    assert run.of("Write") == ["started", "failed"]
    assert "does not pass its check" in run.events[-1].message
    assert (target / "a.conf").read_text() == "one\n"
    assert (target / "b.conf").read_text() == "good\n"
    assert sorted(path.name for path in target.iterdir()) == ["a.conf", "b.conf"]


def test_only_the_handlers_of_changed_files_are_notified(play: Play, target: Path, tmp_path: Path) -> None:
    tasks = (
        _tasks(
            target,
            f"src: a.j2, dest: {target}/a.conf, notify: Handle a\n"
            f"src: b.j2, dest: {target}/b.conf, notify: Handle b",
        )
        + "\n- name: Flush\n  ansible.builtin.meta: flush_handlers\n"
    )
    handlers = "".join(
        f"- name: Handle {name}\n  ansible.builtin.command: 'true'\n  changed_when: false\n" for name in "ab"
    )
    first = play(tasks, handlers=handlers, templates={"a.j2": "one\n", "b.j2": "one\n"})
    (tmp_path / "etc/pending.json").unlink()  # as the manifest does at the end of a role
    second = play(tasks, handlers=handlers, templates={"a.j2": "two\n", "b.j2": "one\n"})

    assert (first.of("Handle a"), first.of("Handle b")) == (["started", "ok"], ["started", "ok"])
    assert (second.of("Handle a"), second.of("Handle b")) == (["started", "ok"], [])


def test_handlers_of_an_interrupted_run_are_notified_again(play: Play, target: Path, tmp_path: Path) -> None:
    tasks = _tasks(target, f"src: a.j2, dest: {target}/a.conf, notify: Handle a")
    flush = tasks + "\n- name: Flush\n  ansible.builtin.meta: flush_handlers\n"
    stop = tasks + "\n- name: Stop\n  ansible.builtin.fail: {msg: the run ends here}\n"
    handlers = "- name: Handle a\n  ansible.builtin.command: 'true'\n  changed_when: false\n"
    interrupted = play(stop, handlers=handlers, templates={"a.j2": "one\n"})
    next_run = play(flush, handlers=handlers)

    assert interrupted.of("Handle a") == []
    assert next_run.of("Handle a") == ["started", "ok"]
    assert json.loads((tmp_path / "etc/pending.json").read_text()) == {"caddy": ["Handle a"]}


def test_a_change_without_a_handler_is_noted_until_the_role_ends(
    play: Play, target: Path, tmp_path: Path
) -> None:
    tasks = _tasks(target, f"src: a.j2, dest: {target}/a.conf")
    play(tasks, templates={"a.j2": "one\n"})

    assert json.loads((tmp_path / "etc/pending.json").read_text()) == {"caddy": []}
    assert play(tasks).of("Write") == ["started", "ok"]


def test_a_secret_in_an_open_file_is_refused(play: Play, target: Path) -> None:
    run = play(
        _tasks(target, f"src: s.j2, dest: {target}/s.conf, mode: '0600'"),
        templates={"s.j2": SECRET_TEMPLATE},
    )

    assert run.of("Write") == ["started", "failed"]
    assert "secret: true" in run.events[-1].message
    assert not (target / "s.conf").exists()


def test_a_list_of_names_without_a_name_stands_in_any_file(play: Play, target: Path) -> None:
    tasks = _tasks(target, f"src: s.j2, dest: {target}/s.conf, mode: '0644'").replace(
        "caddy.password", "caddy.names"
    )
    run = play(tasks, templates={"s.j2": "{% if database_password %}\nranges: []\n{% endif %}\n"})

    assert run.of("Write") == ["started", "changed"]


def test_a_secret_file_that_others_may_read_is_refused(play: Play, target: Path) -> None:
    run = play(
        _tasks(target, f"src: s.j2, dest: {target}/s.conf, mode: '0644', secret: true"),
        templates={"s.j2": SECRET_TEMPLATE},
    )

    assert run.of("Write") == ["started", "failed"]


def test_a_secret_file_shows_no_difference_and_gets_a_keyed_digest(play: Play, target: Path) -> None:
    tasks = _tasks(
        target,
        f"src: s.j2, dest: {target}/s.conf, mode: '0600', secret: true",
        "- name: Digest\n  ansible.builtin.assert:\n    that: (written.managed.values() | first).startswith('keyed:')\n",
    )
    run = play(tasks, templates={"s.j2": SECRET_TEMPLATE}, diff=True, verbosity=3)

    assert run.code == 0, run.output
    assert (target / "s.conf").read_text() == f"password={PASSWORD}\n"
    assert PASSWORD not in run.raw
    assert PASSWORD not in run.output


def test_an_undefined_variable_is_an_error(play: Play, target: Path) -> None:
    run = play(
        _tasks(target, f"src: u.j2, dest: {target}/u.conf"), templates={"u.j2": "{{ caddy_nothing }}\n"}
    )

    assert run.of("Write") == ["started", "failed"]
    assert "caddy_nothing" in run.events[-1].message


def test_a_part_of_a_service_leaves_the_handlers_of_the_service_alone(
    play: Play, target: Path, tmp_path: Path
) -> None:
    (tmp_path / "etc").mkdir(exist_ok=True)
    (tmp_path / "etc/pending.json").write_text('{"vllm": ["Restart vLLM", "Handle a"]}')
    tasks = _tasks(target, f"src: a.j2, dest: {target}/a.conf, notify: Handle a")
    tasks = tasks.replace("    service: caddy\n", "    service: caddy\n    part_of: vllm\n")
    handlers = "- name: Handle a\n  ansible.builtin.command: 'true'\n  changed_when: true\n"

    run = play(tasks, templates={"a.j2": "a\n"}, handlers=handlers)

    assert run.of("Write") == ["started", "changed"]
    assert run.of("Handle a") == ["started", "changed"]
    assert json.loads((tmp_path / "etc/pending.json").read_text()) == {"vllm": ["Handle a", "Restart vLLM"]}
