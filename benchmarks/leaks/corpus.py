# ruff: noqa: ARG001, S311  (every way takes the value and the choices; a fixed seed is the point)
"""Conversations, made from values, spellings and clean questions."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.leaks import spellings
from benchmarks.leaks.clean import FILLER, QUESTIONS, REPLIES
from benchmarks.leaks.values import SOURCES, Value

SEED = 20260301
HELD_OUT_SEED = 4242
"""Conversations of this seed were not looked at while the detectors were written, but measured once, at the end."""

Message = Mapping[str, str]


@dataclass(frozen=True)
class Conversation:
    """A whole message list, as an application sends it."""

    number: int
    sensitive: bool
    category: str
    """Category of what is in it; empty for a clean one."""
    kind: str
    """What it is, such as ``iban`` or ``de-steuer-id``; ``clean`` for a clean one."""
    spelling: str
    placement: str
    """Where it stands: alone, in a document, split over messages …"""
    canary: str
    """The value as it is written; empty for a clean one."""
    messages: tuple[Message, ...]

    def texts(self) -> tuple[str, ...]:
        """Texts of all messages, as the detectors get them."""
        return tuple(message["content"] for message in self.messages)


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _alone(text: str, value: Value, rng: random.Random) -> list[Message]:
    return [_user(text)]


def _with_question(text: str, value: Value, rng: random.Random) -> list[Message]:
    return [_user(f"{text}\n\n{rng.choice(QUESTIONS)(rng)}")]


def _earlier(text: str, value: Value, rng: random.Random) -> list[Message]:
    return [_user(text), _assistant(rng.choice(REPLIES)), _user(rng.choice(QUESTIONS)(rng))]


def _later(text: str, value: Value, rng: random.Random) -> list[Message]:
    return [_user(rng.choice(QUESTIONS)(rng)), _assistant(rng.choice(REPLIES)), _user(text)]


def _system(text: str, value: Value, rng: random.Random) -> list[Message]:
    return [
        {"role": "system", "content": f"You are an assistant. Context: {text}"},
        _user(rng.choice(QUESTIONS)(rng)),
    ]


def _answered(text: str, value: Value, rng: random.Random) -> list[Message]:
    return [
        _user(rng.choice(QUESTIONS)(rng)),
        _assistant(f"{rng.choice(REPLIES)} {text}"),
        _user("Danke, bitte kürzer."),
    ]


def _document(text: str, value: Value, rng: random.Random) -> list[Message]:
    paragraphs = [rng.choice(FILLER) for _ in range(rng.randint(4, 14))]
    paragraphs.insert(rng.randint(1, len(paragraphs)), text)
    return [_user("Fasse das Dokument zusammen:\n\n" + "\n\n".join(paragraphs))]


def _tool(text: str, value: Value, rng: random.Random) -> list[Message]:
    return [_user(rng.choice(QUESTIONS)(rng)), {"role": "tool", "content": text}, _user("Und was heißt das?")]


PLACES: dict[str, Callable[[str, Value, random.Random], list[Message]]] = {
    "alone": _alone,
    "with a question": _with_question,
    "in an earlier message": _earlier,
    "in a later message": _later,
    "in the system's message": _system,
    "in an answer": _answered,
    "in a document": _document,
    "from a tool": _tool,
}


def _cut(text: str, parts: int, rng: random.Random) -> list[str]:
    places = sorted(rng.sample(range(2, len(text) - 1), parts - 1))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


def _split(value: Value, rng: random.Random) -> tuple[str, list[Message]]:
    """A number in two or three messages, with or without words and answers between them."""
    pieces = _cut(value.text, rng.choice([2, 2, 3]), rng)
    sentence = rng.choice(value.sentences)
    before, _, after = sentence.partition("{}")
    style = rng.choice(["bare", "answered", "with words", "answered with words"])
    texts = [before + pieces[0], *pieces[1:-1], pieces[-1] + after]
    if "words" in style:
        texts = [
            before + pieces[0],
            *(
                f"{rng.choice(['weiter geht es mit', 'and then', 'la suite :', 'Rest:'])} {piece}"
                for piece in pieces[1:]
            ),
        ]
    messages: list[Message] = []
    for text in texts:
        messages.append(_user(text))
        if "answered" in style:
            messages.append(_assistant(rng.choice(REPLIES)))
    return f"split, {style}", messages


def _canary(
    number: int, rng: random.Random, ways: Mapping[str, Callable[[Value, random.Random], str]] | None = None
) -> Conversation:
    make = rng.choices([source for source, _ in SOURCES], [weight for _, weight in SOURCES])[0]
    value = make(rng)
    while ways is not None and not value.number:
        value = rng.choices([source for source, _ in SOURCES], [weight for _, weight in SOURCES])[0](rng)
    if ways is None and value.number and rng.random() < 0.15:
        spelling, messages = _split(value, rng)
        return Conversation(
            number, True, value.category, value.kind, spelling, "over messages", value.text, tuple(messages)
        )
    if ways is None:
        ways = (
            spellings.PLAIN
            if rng.random() < 0.3
            else {**(spellings.NUMBERS if value.number else {}), **spellings.ANY}
        )
        # Words around a value stay readable, or go under the encoding with it: a code of a plate alone is no plate.
        if not value.number:
            ways = (
                {"plain": spellings.PLAIN["plain"], **spellings.ANY}
                if rng.random() < 0.4
                else {"plain": spellings.PLAIN["plain"]}
            )
    spelling = rng.choice(sorted(ways))
    written = ways[spelling](value, rng)
    text = rng.choice(value.sentences).format(written)
    placement = rng.choice(sorted(PLACES))
    return Conversation(
        number,
        True,
        value.category,
        value.kind,
        spelling,
        placement,
        written,
        tuple(PLACES[placement](text, value, rng)),
    )


def _clean(number: int, rng: random.Random) -> Conversation:
    messages: list[Message] = []
    if rng.random() < 0.3:
        messages.append(
            {
                "role": "system",
                "content": "You are a helpful assistant. Answer in the language of the question.",
            }
        )
    for turn in range(rng.choice([1, 1, 1, 2, 3])):
        if turn:
            messages.append(_assistant(rng.choice(REPLIES)))
        messages.append(_user(rng.choice(QUESTIONS)(rng)))
    if rng.random() < 0.15:
        messages.append(_assistant(rng.choice(REPLIES)))
        messages.append(
            _user("Fasse zusammen:\n\n" + "\n\n".join(rng.choice(FILLER) for _ in range(rng.randint(3, 12))))
        )
    return Conversation(number, False, "", "clean", "plain", "clean", "", tuple(messages))


def conversations(seed: int = SEED, sensitive: int = 1600, clean: int = 800) -> list[Conversation]:
    """Conversations in a fixed, mixed order.

    Args:
        seed: Of the choices; the same seed makes the same conversations.
        sensitive: How many hold something sensitive.
        clean: How many do not.
    """
    rng = random.Random(seed)
    made = [_canary(number, rng) for number in range(sensitive)]
    made += [_clean(sensitive + number, rng) for number in range(clean)]
    rng.shuffle(made)
    return made


def unclaimed(seed: int = SEED, count: int = 300) -> list[Conversation]:
    """Numbers in spellings that the detectors do not claim to read."""
    rng = random.Random(seed)
    return [_canary(number, rng, spellings.UNCLAIMED) for number in range(count)]
