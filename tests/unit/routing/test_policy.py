"""No request leaves unless every condition holds; whatever is unknown counts against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.routing import messages as read
from freehold.routing import requests
from freehold.routing.detect import Detectors as RealDetectors
from freehold.routing.markers import CONTEXT_MARK
from freehold.routing.policy import (
    REASONS,
    STICKY,
    Cloud,
    Policy,
    Request,
    Task,
    decide,
    overtaken,
    past,
    unfinished,
)

POLICY = Policy(
    models=frozenset({"assistant", "embed"}),
    cloud={"claude": Cloud(frozenset({"lawyers"}), "assistant")},
    tasks={"coding": Task("assistant", "claude"), "summary": Task("assistant", None)},
)
HELLO = [{"role": "user", "content": "Hello"}]
ASKED = Request(
    model="claude", messages=HELLO, user="ada@acme.example", groups=frozenset({"lawyers"}), session="chat-1"
)


class Detectors:
    """Finds the word that these tests call sensitive."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.read: list[str] = []

    def scan(self, texts: Sequence[str]) -> Sequence[Any]:
        self.read = list(texts)
        if self.error:
            raise self.error
        found = any("SECRET" in text for text in texts)
        return (SimpleNamespace(category="name", detector="names"),) if found else ()


def asked(**changes: Any) -> Request:
    return replace(ASKED, **changes)


def test_a_clean_question_of_somebody_who_may_goes_to_the_cloud() -> None:
    found = decide(POLICY, ASKED, Detectors())

    assert (found.route, found.model, found.reason, found.sticky) == ("cloud", "claude", "allowed", False)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"user": None}, "no_user"),
        ({"user": ""}, "no_user"),
        ({"groups": frozenset()}, "not_allowed"),
        ({"groups": frozenset({"staff"})}, "not_allowed"),
        ({"session": None}, "no_session"),
        ({"session": " "}, "no_session"),
        ({"session": "temporary:1"}, "no_session"),
        ({"call_type": "completion"}, "not_a_chat"),
        ({"messages": [{"role": "user", "content": "SECRET"}]}, "sensitive"),
        ({"messages": [{"role": "system", "content": "SECRET"}, *HELLO]}, "sensitive"),
        ({"messages": [*HELLO, {"role": "assistant", "content": "SECRET"}, *HELLO]}, "sensitive"),
        ({"messages": [{"role": "user", "content": "a", "name": "SECRET"}]}, "sensitive"),
        ({"parameters": {"tools": [{"type": "function", "function": {"name": "SECRET"}}]}}, "sensitive"),
        ({"parameters": {"stop": ["SECRET"]}}, "sensitive"),
        ({"parameters": {"response_format": {"json_schema": {"SECRET": 1}}}}, "sensitive"),
        ({"parameters": {"tools": [{"type": "web_search"}]}}, "unknown_content"),
        ({"parameters": {"logit_bias": {"SECRET": 1}}}, "sensitive"),
        ({"parameters": {"stream_options": {"x": ["SECRET"]}}}, "sensitive"),
        ({"parameters": {"temperature": "SECRET"}}, "sensitive"),
        ({"messages": [{"role": "user", "content": "a", "tool_call_id": "SECRET"}]}, "sensitive"),
        ({"messages": [*HELLO, {"role": "tool", "tool_call_id": "1", "content": "x"}]}, "context"),
        ({"messages": [{"role": "user", "content": f"{CONTEXT_MARK}\nx"}]}, "context"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "images"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "attachments"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "unknown_content",
        ),
        ({"messages": [{"role": "user", "content": {"text": "x"}}]}, "unknown_content"),
        ({"messages": [{"role": "user", "content": "x", "audio": {"id": 1}}]}, "unknown_content"),
        ({"messages": [{"role": "oracle", "content": "x"}]}, "unknown_content"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "unknown_content"),
        ({"messages": []}, "unknown_content"),
        ({"messages": None}, "unknown_content"),
        ({"messages": [{"role": "user", "content": "x" * 400_001}]}, "too_long"),
    ],
)
def test_what_is_missing_or_unknown_stays(changes: dict[str, Any], reason: str) -> None:
    found = decide(POLICY, asked(**changes), Detectors())

    assert (found.route, found.model) == ("local", "assistant")
    # A passage of a document may be a file as well: either counts.
    assert found.reason == reason or (reason == "context" and found.reason == "attachments")
    assert found.sticky is (found.reason in STICKY)


def test_a_conversation_that_was_sensitive_stays() -> None:
    found = decide(POLICY, ASKED, Detectors(), True)

    assert (found.route, found.reason, found.sticky) == ("local", "conversation", True)


def test_nothing_leaves_while_the_memory_is_away_or_the_past_unknown() -> None:
    assert decide(POLICY, ASKED, Detectors(), None).reason == "memory_away"
    assert decide(POLICY, ASKED, Detectors(), False, known_past=False).reason == "unknown_past"


@pytest.mark.parametrize("error", [RuntimeError("x"), TimeoutError(), MemoryError(), RecursionError()])
def test_detectors_that_fail_keep_everything(error: Exception) -> None:
    found = decide(POLICY, ASKED, Detectors(error))

    assert (found.route, found.reason, found.sticky) == ("local", "detectors_failed", True)


def test_detectors_that_do_not_finish_keep_everything() -> None:
    found = unfinished(POLICY, ASKED)

    assert (found.route, found.model, found.sticky) == ("local", "assistant", True)
    assert unfinished(POLICY, asked(model="gpt")).route == "refused"


@pytest.mark.parametrize("name", ["gpt", "", "cloud/claude", "*", "anthropic/claude"])
def test_other_names_are_refused(name: str) -> None:
    assert decide(POLICY, asked(model=name), Detectors()).route == "refused"


def test_an_embedding_of_a_cloud_name_is_refused() -> None:
    assert decide(POLICY, asked(call_type="other"), Detectors()).route == "refused"
    assert decide(POLICY, asked(call_type="other", model="embed"), Detectors()).route == "local"


def test_kinds_of_work_go_where_the_policy_says() -> None:
    assert decide(POLICY, asked(model="coding"), Detectors()).model == "claude"
    assert decide(POLICY, asked(model="coding", groups=frozenset()), Detectors()).model == "assistant"
    summary = decide(POLICY, asked(model="summary"), Detectors())
    assert (summary.route, summary.reason) == ("local", "task")


def test_what_is_said_to_a_local_model_is_held_against_the_conversation() -> None:
    sensitive = [{"role": "user", "content": "SECRET"}]
    found = decide(POLICY, asked(model="assistant", messages=sensitive), Detectors())

    assert (found.route, found.reason, found.sticky) == ("local", "chosen", True)


def test_what_may_leave_by_the_client_s_word_does() -> None:
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]
    relaxed = replace(POLICY, never_leaves=frozenset({"attachments", "context"}))

    assert decide(relaxed, asked(messages=image), Detectors()).route == "cloud"


def test_every_text_is_read() -> None:
    detectors = Detectors()
    calls = [
        {"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"who": "\\u0041da"}'}}
    ]
    conversation = [
        {"role": "system", "content": "one"},
        {"role": "user", "content": [{"type": "text", "text": "two"}]},
        {"role": "assistant", "content": None, "tool_calls": calls, "reasoning_content": "three"},
        {"role": "user", "content": "four", "name": "five"},
    ]
    decide(POLICY, asked(messages=conversation), detectors)

    assert {"one", "two", "three", "four", "five", "Ada"} <= set(detectors.read)


def test_plain_settings_are_no_text_and_long_numbers_are() -> None:
    settings_ = {
        "temperature": 0.7,
        "max_tokens": 8192,
        "stream": True,
        "top_p": None,
        "seed": 4111111111111111,
    }

    assert read.others(settings_) == ["4111111111111111"]


def test_all_that_a_cloud_provider_gets_is_read() -> None:
    assert requests.SAMPLING - {"model"} <= {*read.FREE_TEXT, *read.SETTINGS}


def test_what_is_read_is_what_was_written_and_no_more() -> None:
    """So that what one person says in two messages stands in every second text, as the detectors read it."""
    conversation = [
        {"role": "user", "content": "The account begins with DE89 3704 0044"},
        {"role": "assistant", "content": "I noted 2 groups and the 1st one too, ok"},
        {"role": "user", "content": [{"type": "text", "text": "0532 0130 00 is the rest"}]},
    ]

    assert read.texts(conversation) == [
        "The account begins with DE89 3704 0044",
        "I noted 2 groups and the 1st one too, ok",
        "0532 0130 00 is the rest",
    ]
    found = decide(POLICY, asked(messages=conversation), RealDetectors())
    assert found.route == "local"
    assert "bank-account" in found.categories


@pytest.mark.parametrize(("reason", "sticky"), [("conversation", True), ("memory_away", False)])
def test_what_changed_while_a_request_was_read_holds_it_back(reason: str, sticky: bool) -> None:
    found = overtaken(POLICY, asked(model="coding"), reason)

    assert (found.route, found.model, found.reason, found.sticky) == ("local", "assistant", reason, sticky)


def test_a_conversation_with_answers_has_a_past() -> None:
    assert not past(ASKED)
    assert past(asked(messages=[*HELLO, {"role": "assistant", "content": "x"}]))
    assert past(asked(messages="unreadable"))


def test_every_reason_has_words() -> None:
    assert not STICKY - REASONS.keys()


@pytest.mark.parametrize("tools", [5, "x", {"a": 1}, [1], [[]]])
def test_tools_in_another_form_keep_everything(tools: Any) -> None:
    assert decide(POLICY, asked(parameters={"tools": tools}), Detectors()).reason == "unknown_content"


def _values() -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("SECRET"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )


MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool", "x"]), "content": _values()},
        optional={"name": _values(), "tool_calls": _values(), "audio": _values()},
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(
    model=st.sampled_from(["claude", "coding", "summary", "assistant", "gpt", ""]),
    messages=MESSAGES | _values(),
    user=st.sampled_from([None, "", "ada@acme.example"]),
    groups=st.sets(st.sampled_from(["lawyers", "staff"])),
    session=st.sampled_from([None, "", "chat-1", "temporary:1"]),
    call_type=st.sampled_from(["chat", "completion", "other"]),
    sticky=st.sampled_from([None, True, False]),
    known=st.booleans(),
    fails=st.booleans(),
    tools=_values(),
)
def test_no_request_leaves_unless_all_conditions_hold(
    model: str,
    messages: Any,
    user: str | None,
    groups: set[str],
    session: str | None,
    call_type: str,
    sticky: bool | None,
    known: bool,
    fails: bool,
    tools: Any,
) -> None:
    request = Request(
        model=model,
        messages=messages,
        user=user,
        groups=frozenset(groups),
        session=session,
        call_type=call_type,
        parameters={"tools": tools},
    )
    found = decide(POLICY, request, Detectors(ValueError() if fails else None), sticky, known)

    if found.route == "cloud":
        assert found.model == "claude"
        assert model in {"claude", "coding"}
        assert user
        assert "lawyers" in groups
        assert session == "chat-1"
        assert call_type == "chat"
        assert sticky is False
        assert known
        assert not fails
        assert read.kinds(messages) == frozenset()
        assert "SECRET" not in str(read.texts(messages))
        assert "SECRET" not in str(tools)
