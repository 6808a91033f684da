"""Where requests go that have the form of Open WebUI 0.12.4: with chats, files, tools, images and work behind the scenes.

Their forms were taken from what a running Open WebUI sent to a router in the place of the real one; their words are these tests'.
"""

from __future__ import annotations

from typing import Any

import pytest

from freehold.routing import markers
from freehold.routing.detect import Detectors
from freehold.routing.policy import Cloud, Decision, Policy, Request, Task, decide

POLICY = Policy(
    models=frozenset({"assistant"}),
    cloud={"claude": Cloud(frozenset({"lawyers"}), "assistant")},
    tasks={"coding": Task("assistant", "claude")},
)
CHAT = "e95c706b-bfa0-4ffd-8721-d5244db665ce"
QUESTION: dict[str, Any] = {"role": "user", "content": "What is a contract?"}
FOUND = (
    f"{markers.CONTEXT_MARK}\nAnswer with these.\n<context>\n"
    '<source id="1" name="note.txt" resource-type="file">The key hangs behind the door.</source>\n</context>\n\nWhere is it?'
)
IMAGE: dict[str, Any] = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "find_transfer",
            "description": "Finds a transfer by its IBAN, such as DE89 3704 0044 0532 0130 00.",
            "parameters": {"type": "object", "properties": {}},
        },
    }
]
CALLED: list[dict[str, Any]] = [
    QUESTION,
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "call_1",
                "index": 0,
                "type": "function",
                "function": {"name": "search_chats", "arguments": '{"query": "contract"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": '[{"title": "Contract of Monday"}]'},
]


def ask(
    model: str, messages: list[dict[str, Any]], session: str | None = CHAT, **parameters: Any
) -> Decision:
    request = Request(
        model=model,
        messages=messages,
        user="ada@acme.internal",
        groups=frozenset({"lawyers"}),
        session=session,
        application="openwebui",
        parameters=parameters,
    )
    return decide(POLICY, request, Detectors())


def test_a_clean_chat_with_a_cloud_language_model_leaves() -> None:
    assert ask("claude", [QUESTION]).route == ask("coding", [QUESTION]).route == "cloud"


@pytest.mark.parametrize("session", [None, "", "temporary:sock1", "local:sock1", f"channel:{CHAT}"])
def test_what_is_no_saved_chat_stays(session: str | None) -> None:
    assert ask("claude", [QUESTION], session).reason == "no_session"


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([{"role": "user", "content": FOUND}], "attachments"),
        (
            [{"role": "system", "content": "<memory_context>\n- likes tea\n</memory_context>"}, QUESTION],
            "context",
        ),
        ([*CALLED, {"role": "assistant", "content": "There is one."}, QUESTION], "context"),
        ([{"role": "user", "content": [{"type": "text", "text": "What is it?"}, IMAGE]}], "images"),
    ],
)
def test_files_findings_and_images_stay_and_so_does_the_rest_of_the_chat(
    messages: list[dict[str, Any]], reason: str
) -> None:
    decision = ask("claude", messages)

    assert (decision.route, decision.reason, decision.sticky) == ("local", reason, True)


def test_tools_of_the_chat_do_not_keep_a_conversation_at_home_that_is_clean() -> None:
    """With a local language model Open WebUI sends descriptions of its own tools, of which some look like figures of people."""
    assert ask("assistant", [QUESTION], tools=TOOLS).sticky is False
    # Each request brings its own, so none of them leaves.
    assert ask("claude", [QUESTION], tools=TOOLS).reason == "sensitive"


def test_what_a_tool_brought_keeps_a_conversation_at_home() -> None:
    assert ask("assistant", CALLED, tools=TOOLS).sticky is True


def test_work_behind_the_scenes_is_done_at_home_and_says_nothing_against_the_chat() -> None:
    prompt = "### Task:\nGenerate a concise title.\n### Chat History:\nUSER: What is a contract?\nASSISTANT: A promise."
    decision = ask("assistant", [{"role": "user", "content": prompt}], max_tokens=1000)

    assert (decision.route, decision.sticky) == ("local", False)
