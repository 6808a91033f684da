"""A client's text is text for Ansible, whatever it looks like; lookups of secrets are evaluated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from freehold.layout.variables import is_plain, lookup

from .conftest import Play

SECRET = "{{ lookup('freehold.stack.secret', 'caddy.password') }}"
RAN = "{{ lookup('ansible.builtin.pipe', 'echo ran') }}"
TEXTS = {
    "a template": RAN,
    "beside a lookup": f"{SECRET} {RAN}",
    "in the name of a secret": f"{{{{ lookup('freehold.stack.secret', 'a'){RAN[2:]}",
    "with marks of its own": "#jinja2: variable_start_string:'[[', variable_end_string:']]'\n"
    + RAN.replace("{{", "[[").replace("}}", "]]"),
    "with marks of its own and a lookup": f"#jinja2: block_start_string:'[['\n{SECRET}",
    "around a lookup": "{" + SECRET + "}",
}


@pytest.fixture(params=list(TEXTS.values()), ids=list(TEXTS))
def text(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stack(stack: Path, text: str) -> Path:
    written = stack.read_text(encoding="utf-8")
    # JSON's way to write a text is YAML's too
    stack.write_text(written.replace('"{{ 7 * 6 }} applications"', json.dumps(text)), encoding="utf-8")
    return stack


def test_a_clients_text_is_not_evaluated(play: Play, text: str, tmp_path: Path) -> None:
    target = tmp_path / "title"
    run = play(
        "- name: Write\n  ansible.builtin.copy:\n"
        f'    content: "{{{{ caddy_title }}}}"\n    dest: {target}\n    mode: "0600"\n'
    )

    assert run.code == 0, run.output
    assert target.read_text(encoding="utf-8") == text


def test_lookups_of_secrets_may_stand_in_other_text() -> None:
    assert is_plain(lookup("users.o'brien@acme.internal"))
    assert is_plain(f"postgresql://app:{lookup('app.password')}@10.20.0.120/app")
