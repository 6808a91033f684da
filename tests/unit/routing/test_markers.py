"""Marks by which files and findings are known, against texts as Open WebUI 0.12.4 makes them."""

from __future__ import annotations

import pytest

from freehold.routing import markers


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (
            f'{markers.CONTEXT_MARK}\nAnswer from these.\n<source id="1" name="a.pdf">x</source>\nWhy?',
            {"attachments", "context"},
        ),
        (
            '### Task:\n<context>\n<source id="1" name="b.txt" resource-type="file">x</source>\n</context>\n',
            {"attachments", "context"},
        ),
        (
            '<attached_files>\n<file type="file" id="1" url="1" name="a.pdf"/>\n</attached_files>\n\nRead it.',
            {"attachments"},
        ),
        (
            '<attached_knowledge>\n<knowledge type="collection" id="k"/>\n</attached_knowledge>',
            {"context"},
        ),
        (
            "Be brief.\n<memory_context>\n[User Memory]\n- lives in Ulm\n</memory_context>",
            {"context"},
        ),
        ('<skill id="letters" name="Letters">\nAlways begin so.\n</skill>', {"context"}),
        ("[CONVERSATION SUMMARY]\nThey spoke of a contract.", {"attachments", "context"}),
        ("What is a <source> tag in HTML, and what does <context> mean?", set()),
        ("<available_skills>\n<skill>\n<id>letters</id>\n</skill>\n</available_skills>", set()),
        ("", set()),
    ],
)
def test_what_a_text_holds_beside_a_persons_words(text: str, kinds: set[str]) -> None:
    assert markers.marked(text) == kinds


@pytest.mark.parametrize(
    ("session", "is_one"),
    [
        ("5a0f9d6e-3c1b-4d8e-9a57-2f6f0c1d7b11", True),
        ("temporary:Vb3kq0yXkQdAAAB", False),
        ("local:Vb3kq0yXkQdAAAB", False),
        ("channel:5a0f9d6e-3c1b-4d8e-9a57-2f6f0c1d7b11", False),
        ("", False),
        ("  ", False),
    ],
)
def test_a_chat_is_a_conversation_and_a_connection_is_none(session: str, is_one: bool) -> None:
    assert markers.is_conversation(session) is is_one
