"""By which marks the router knows that a text holds more than what a person wrote: a file, or something that was found.

Open WebUI puts what it finds into messages as plain text. The role gives it a template (``RAG_TEMPLATE``) that bears our own
mark; the other marks are fixed in Open WebUI's code, so that they hold too where an administrator changes that template.
Sources, as of Open WebUI 0.12.4: ``utils/middleware.py`` (``get_source_context``, ``apply_source_context_to_messages``,
``add_file_context``, ``process_chat_payload``), ``utils/memory.py`` (``MEMORY_CONTEXT_OPEN``), ``utils/chat_id.py``.

Images are content parts of their own (``image_url``), and results of tools messages of the role ``tool``: neither needs a mark.
"""

from __future__ import annotations

CONTEXT_MARK = "<freehold:context>"
"""First line of what Open WebUI adds to a question from files, knowledge, notes, other chats and tools."""

MARKS: dict[str, frozenset[str]] = {
    # Passages and whole files look alike, and a file may be of the chat or of a knowledge base: it may be either.
    CONTEXT_MARK: frozenset({"attachments", "context"}),
    "<source id=": frozenset({"attachments", "context"}),
    "<attached_files>": frozenset({"attachments"}),
    "<attached_knowledge>": frozenset({"context"}),
    "<memory_context>": frozenset({"context"}),
    # A skill's text and files.
    '<skill id="': frozenset({"context"}),
    # Older messages in short: what they were made from can no longer be seen.
    "[CONVERSATION SUMMARY]": frozenset({"attachments", "context"}),
}
"""What a text that holds a mark holds beside a person's words."""

NO_CHAT = ("temporary:", "local:", "channel:")
"""Beginnings of sessions that are no chat of their own."""


def marked(text: str) -> frozenset[str]:
    """What a text holds beside a person's words: any of ``attachments`` and ``context`` (``routing.never_leaves``).

    Whoever types such a mark is taken at their word.
    """
    return frozenset[str]().union(*(kinds for mark, kinds in MARKS.items() if mark in text))


def is_conversation(session: str) -> bool:
    """Whether a session is one chat for its whole life, so that what was found in it once can be held against it later.

    Temporary chats bear the number of a browser's connection, which changes in their midst, and a channel belongs to many
    people; to the router, both are as good as no session.
    """
    return bool(session.strip()) and not session.startswith(NO_CHAT)
