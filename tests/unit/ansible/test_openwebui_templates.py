"""What the files of Open WebUI hold, whatever stands in the options."""

from __future__ import annotations

import json
from typing import Any

import yaml

from freehold import render, resources
from freehold.routing import markers

from .conftest import environment_file


def options(**others: Any) -> dict[str, Any]:
    defaults = yaml.safe_load((resources.roles() / "openwebui/defaults/main.yml").read_text(encoding="utf-8"))
    return {**defaults, **{f"openwebui_{name}": value for name, value in others.items()}}


def test_language_models_are_asked_through_the_router_alone() -> None:
    given = options(router_url="http://10.0.0.1:4000/v1", router_key="sk-router", embedding_model="embed")
    settings = environment_file(render.render("openwebui/settings.env.j2", given))
    secrets = environment_file(render.render("openwebui/secrets.env.j2", given))

    assert (
        settings["OPENAI_API_BASE_URLS"] == settings["RAG_OPENAI_API_BASE_URL"] == "http://10.0.0.1:4000/v1"
    )
    assert secrets["OPENAI_API_KEYS"] == secrets["RAG_OPENAI_API_KEY"] == "sk-router"
    assert "OPENAI_API_CONFIGS" not in settings
    assert settings["ENABLE_OLLAMA_API"] == settings["BYPASS_EMBEDDING_AND_RETRIEVAL"] == "false"


def test_people_choose_from_the_language_models_that_chat() -> None:
    settings = environment_file(
        render.render("openwebui/settings.env.j2", options(chat_models=["large", "small"]))
    )

    assert json.loads(settings["OPENAI_API_CONFIGS"]) == {"0": {"model_ids": ["large", "small"]}}


def test_everybody_sees_every_language_model_unless_some_are_for_groups() -> None:
    everybody = environment_file(render.render("openwebui/settings.env.j2", options()))
    some = environment_file(
        render.render("openwebui/settings.env.j2", options(models=[{"name": "cloud", "groups": ["staff"]}]))
    )
    granted = environment_file(render.render("openwebui/settings.env.j2", options(model_access="granted")))

    assert everybody["BYPASS_MODEL_ACCESS_CONTROL"] == "true"
    assert some["BYPASS_MODEL_ACCESS_CONTROL"] == granted["BYPASS_MODEL_ACCESS_CONTROL"] == "false"


def test_work_behind_the_scenes_is_done_by_the_language_model_for_it_alone() -> None:
    settings = environment_file(
        render.render("openwebui/settings.env.j2", options(chat_models=["cloud", "own"], task_model="own"))
    )

    assert {settings[name] for name in ("TASK_MODEL", "TASK_MODEL_EXTERNAL", "CONTEXT_COMPACTION_MODEL")} == {
        "own"
    }
    assert settings["ENABLE_SUBAGENTS"] == settings["ENABLE_OPENAI_API_PASSTHROUGH"] == "false"


def test_what_is_found_reaches_the_router_under_the_mark() -> None:
    off = environment_file(render.render("openwebui/settings.env.j2", options()))
    on = environment_file(
        render.render("openwebui/settings.env.j2", options(context_mark=markers.CONTEXT_MARK))
    )
    lines = on["RAG_TEMPLATE"].splitlines()

    assert "RAG_TEMPLATE" not in off
    assert lines[0] == markers.CONTEXT_MARK
    assert lines[-3:] == ["<context>", "{{CONTEXT}}", "</context>"]
    assert markers.marked(on["RAG_TEMPLATE"]) == {"attachments", "context"}
    # Nothing after it is taken for a part of it.
    assert on["PDF_EXTRACT_IMAGES"] == "false"


def test_documents_are_searched_only_where_something_embeds_them() -> None:
    settings = environment_file(
        render.render("openwebui/settings.env.j2", options(router_url="http://10.0.0.1:4000/v1"))
    )

    assert settings["BYPASS_EMBEDDING_AND_RETRIEVAL"] == "true"


def test_each_vector_store_has_its_own_settings() -> None:
    pgvector = environment_file(render.render("openwebui/settings.env.j2", options(embedding_length=384)))
    given = options(vector_store="qdrant", qdrant_url="https://10.0.0.2:6333", qdrant_key="key-of-qdrant")
    qdrant = environment_file(render.render("openwebui/settings.env.j2", given))

    assert pgvector["VECTOR_DB"] == "pgvector"
    assert pgvector["PGVECTOR_INITIALIZE_MAX_VECTOR_LENGTH"] == "384"
    assert qdrant["VECTOR_DB"] == "qdrant"
    assert qdrant["QDRANT_URI"] == "https://10.0.0.2:6333"
    assert "key-of-qdrant" not in qdrant.values()
    assert (
        environment_file(render.render("openwebui/secrets.env.j2", given))["QDRANT_API_KEY"]
        == "key-of-qdrant"
    )


def test_single_sign_on_is_off_until_a_provider_is_named() -> None:
    off = environment_file(render.render("openwebui/settings.env.j2", options()))
    given = options(
        url="https://chat.acme.example",
        oidc_provider_url="https://login.acme.example/.well-known/openid-configuration",
        oidc_client_id="freehold",
        oidc_client_secret="from-the-provider",
        oidc_groups_claim="groups",
        oidc_roles_claim="roles",
        oidc_admin_roles=["it"],
        password_form=False,
    )
    on = environment_file(render.render("openwebui/settings.env.j2", given))

    assert not [name for name in off if name.startswith(("OAUTH_", "OPENID_", "ENABLE_OAUTH"))]
    assert off["DEFAULT_USER_ROLE"] == "pending"
    assert on["DEFAULT_USER_ROLE"] == "user"
    assert on["OPENID_REDIRECT_URI"] == "https://chat.acme.example/oauth/oidc/callback"
    assert on["OAUTH_ALLOWED_ROLES"] == "user,it"
    assert on["ENABLE_LOGIN_FORM"] == on["OAUTH_MERGE_ACCOUNTS_BY_EMAIL"] == on["ENABLE_SIGNUP"] == "false"
    # Freehold makes the accounts of the stack with a password, whatever people log in with.
    assert on["ENABLE_PASSWORD_AUTH"] == "true"
    assert "from-the-provider" not in on.values()
    assert (
        environment_file(render.render("openwebui/secrets.env.j2", given))["OAUTH_CLIENT_SECRET"]
        == "from-the-provider"
    )


def test_people_are_told_that_a_machine_answers() -> None:
    german = environment_file(render.render("openwebui/settings.env.j2", options(notice_language="de-DE")))
    other = environment_file(render.render("openwebui/settings.env.j2", options(notice_language="fi")))
    off = environment_file(render.render("openwebui/settings.env.j2", options(notice=False)))

    assert "künstliche Intelligenz" in json.loads(german["WEBUI_BANNERS"])[0]["content"]
    assert "artificial intelligence" in json.loads(other["WEBUI_BANNERS"])[0]["content"]
    assert json.loads(off["WEBUI_BANNERS"]) == []


def test_text_of_people_comes_out_as_it_went_in() -> None:
    text = 'No "secrets" here: \\ $HOME `id` <b>ü</b>'
    given = options(
        banners=[{"text": text}], name=text, extra_settings={"SOME_TEXT": text, "SOME_SWITCH": True}
    )
    settings = environment_file(render.render("openwebui/settings.env.j2", given))

    assert settings["WEBUI_NAME"] == settings["SOME_TEXT"] == text
    assert settings["SOME_SWITCH"] == "true"
    assert json.loads(settings["WEBUI_BANNERS"])[-1]["content"] == text


def test_a_database_password_with_odd_characters_stays_one_part_of_the_address() -> None:
    secrets = environment_file(
        render.render("openwebui/secrets.env.j2", options(database_password="a@b:c%d"))
    )

    assert "openwebui:a%40b%3Ac%25d@127.0.0.1:5432" in secrets["DATABASE_URL"]


def test_no_router_is_no_error() -> None:
    settings = environment_file(render.render("openwebui/settings.env.j2", options()))

    assert settings["ENABLE_OPENAI_API"] == "false"
