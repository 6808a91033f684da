"""What the files of Open WebUI hold, whatever stands in the options."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from freehold import render, resources


def options(**others: Any) -> dict[str, Any]:
    defaults = yaml.safe_load((resources.roles() / "openwebui/defaults/main.yml").read_text(encoding="utf-8"))
    return {**defaults, **{f"openwebui_{name}": value for name, value in others.items()}}


def read(text: str) -> dict[str, str]:
    """An environment file as systemd reads it (systemd.exec(5)): in double quotes, a backslash escapes."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            if value.startswith('"'):
                value = re.sub(r"\\([\"\\`$])", r"\1", value[1:-1])
            found[name] = value
    return found


def test_engines_stand_in_the_same_order_in_both_files() -> None:
    engines = [
        {"name": "one", "url": "http://10.0.0.1:8000/v1", "key": "sk-one"},
        {"name": "two", "url": "http://10.0.0.2:8000/v1", "key": ""},
    ]
    given = options(engines=engines, embedding_engine="two")
    settings = read(render.render("openwebui/settings.env.j2", given))
    secrets = read(render.render("openwebui/secrets.env.j2", given))

    assert settings["OPENAI_API_BASE_URLS"] == "http://10.0.0.1:8000/v1;http://10.0.0.2:8000/v1"
    assert secrets["OPENAI_API_KEYS"] == "sk-one;"
    assert settings["RAG_OPENAI_API_BASE_URL"] == "http://10.0.0.2:8000/v1"
    assert secrets["RAG_OPENAI_API_KEY"] == ""


def test_text_of_people_comes_out_as_it_went_in() -> None:
    text = 'No "secrets" here: \\ $HOME `id` <b>ü</b>'
    given = options(
        banners=[{"text": text}], name=text, extra_settings={"SOME_TEXT": text, "SOME_SWITCH": True}
    )
    settings = read(render.render("openwebui/settings.env.j2", given))

    assert settings["WEBUI_NAME"] == settings["SOME_TEXT"] == text
    assert settings["SOME_SWITCH"] == "true"
    assert json.loads(settings["WEBUI_BANNERS"])[0]["content"] == text


def test_a_database_password_with_odd_characters_stays_one_part_of_the_address() -> None:
    secrets = read(render.render("openwebui/secrets.env.j2", options(database_password="a@b:c%d")))

    assert "openwebui:a%40b%3Ac%25d@127.0.0.1:5432" in secrets["DATABASE_URL"]


def test_no_engine_is_no_error() -> None:
    settings = read(render.render("openwebui/settings.env.j2", options()))

    assert settings["ENABLE_OPENAI_API"] == "false"
