"""``python -m freehold.ansible``: events out, secrets never."""

from __future__ import annotations

import json
from pathlib import Path

from freehold.ansible.__main__ import arguments
from freehold.ansible.request import Request
from freehold.layout.types import Layout
from freehold.layout.variables import looked_up, lookup

from .conftest import SECRETS, Play

PASSWORD = SECRETS["caddy"]["password"]


def test_a_run_is_told_as_events(play: Play) -> None:
    run = play(
        """\
- name: Change something
  ansible.builtin.command: "true"
  changed_when: true
- name: Leave something
  ansible.builtin.command: "true"
  changed_when: false
- name: Skip something
  ansible.builtin.command: "true"
  when: false
"""
    )

    assert run.code == 0
    assert run.of("Change something") == ["started", "changed"]
    assert run.of("Leave something") == ["started", "ok"]
    assert run.of("Skip something") == ["started", "skipped"]
    assert {event.host for event in run.events} == {"caddy"}


def test_a_failure_says_why_and_hides_secrets(play: Play) -> None:
    run = play(
        """\
- name: Say too much
  ansible.builtin.command: sh -c 'echo it was {{ lookup("freehold.stack.secret", "caddy.password") }} >&2; exit 3'
  changed_when: false
"""
    )

    assert run.code == 2
    assert run.of("Say too much") == ["started", "failed"]
    assert "it was ********" in run.events[-1].message
    assert PASSWORD not in run.raw
    assert "it was ********" in run.output
    assert PASSWORD not in run.output


def test_secrets_may_bear_any_mail_address(play: Play, tmp_path: Path) -> None:
    name, target = "users.conan.o'brien\\\"{{x}}%@müller.example", tmp_path / "found"
    run = play(
        f"- ansible.builtin.copy:\n    content: {json.dumps(lookup(name))}\n    dest: {target}\n    mode: '0600'\n",
        secrets={"users": {name.removeprefix("users."): PASSWORD}},
    )

    assert run.code == 0, run.output
    assert target.read_text() == PASSWORD
    assert looked_up(lookup(name)) == {name}


def test_no_line_of_a_private_key_is_shown(play: Play) -> None:
    key = "-----BEGIN KEY-----\nfirst-line-of-the-key\nsecond-line-of-the-key\n-----END KEY-----\n"
    run = play(
        "- ansible.builtin.debug:\n    msg: \"{{ lookup('freehold.stack.secret', 'freehold.ssh_key') }}\"\n",
        secrets={"freehold": {"ssh_key": key}},
        verbosity=4,
    )

    assert run.code == 0
    assert "********" in run.output
    assert "line-of-the-key" not in run.output


def test_a_request_that_is_none_shows_no_secret(play: Play) -> None:
    run = play("- ansible.builtin.meta: noop\n", secrets={"caddy": PASSWORD})

    assert run.code == 2
    assert "secrets.caddy" in run.output
    assert PASSWORD not in run.output


def test_results_of_tasks_with_no_log_stay_hidden(play: Play) -> None:
    run = play(
        """\
- name: Keep quiet
  ansible.builtin.command: sh -c 'echo loud >&2; exit 3'
  changed_when: false
  no_log: true
"""
    )

    assert run.code == 2
    assert "loud" not in run.raw + run.output
    assert "hidden" in run.events[-1].message


def test_text_of_a_client_is_no_template(play: Play) -> None:
    run = play(
        """\
- name: Compare
  ansible.builtin.assert:
    that: caddy_title == expected
  vars:
    expected: !unsafe "{{ 7 * 6 }} applications"
"""
    )

    assert run.code == 0, run.output


def test_a_missing_secret_is_named(play: Play) -> None:
    run = play(
        """\
- name: Ask for too much
  ansible.builtin.debug:
    msg: "{{ lookup('freehold.stack.secret', 'caddy.nothing') }}"
"""
    )

    assert run.code == 2
    assert "there is no secret caddy.nothing" in run.events[-1].message


def test_only_the_services_asked_for_are_configured(play: Play) -> None:
    tasks = """\
- name: Compare
  ansible.builtin.assert:
    that: freehold_services == []
"""

    assert play(tasks, services=["postgres"]).code == 0
    assert play(tasks, services=["caddy"]).code == 2


def test_an_unreachable_host_is_a_failure(play: Play) -> None:
    run = play(
        """\
- name: Knock
  ansible.builtin.command: "true"
  vars:
    ansible_connection: ssh
    ansible_host: 127.0.0.1
    ansible_port: 1
"""
    )

    assert run.code == 4
    assert run.of("Knock") == ["started", "failed"]


def test_the_command_line_names_hosts_tags_and_modes(layout: Layout) -> None:
    request = Request(
        layout=layout,
        stack="/clients/acme/stack.yml",
        secrets=SECRETS,
        hosts=("caddy",),
        tags=("run",),
        check=True,
        diff=True,
        verbosity=9,
        playbook="site.yml",
    )
    line = arguments(request)

    assert line == [
        "ansible-playbook",
        *("--inventory", "/clients/acme/stack.yml"),
        *("--limit", "caddy"),
        *("--tags", "run"),
        "--check",
        "--diff",
        "-vvvv",
        "site.yml",
    ]
