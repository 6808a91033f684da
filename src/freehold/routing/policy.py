"""Who answers a request: a language model in the building, or one of a cloud provider. Pure: the same question, the same answer.

Local is the default. A request leaves only if every condition holds, and whatever is unknown counts against it: so each way
out of :func:`decide` but the last is local or refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from .markers import is_conversation
from .messages import UnknownContentError, has_past, kinds, others, texts

LONGEST = 400_000
"""Characters of a request from which on it is not read: what is not read stays."""

CLOUD = "cloud/"
"""Before the name of a cloud language model where the router keeps the way to it. Nobody may ask by such a name."""

Route = Literal["local", "cloud", "refused"]

REASONS: Mapping[str, str] = {
    "chosen": "this local language model was chosen",
    "task": "this kind of work is done by a local language model",
    "allowed": "a cloud language model was chosen, this person may use it, and nothing sensitive was found",
    "unknown_model": "there is no language model of this name",
    "not_a_chat": "only conversations may go to a cloud language model",
    "no_user": "it is not known who asks",
    "not_allowed": "nobody of this person's groups may use this cloud language model",
    "no_session": "it is not known which conversation this belongs to",
    "memory_away": "the memory of conversations does not answer",
    "conversation": "something in this conversation was sensitive before",
    "unknown_past": "the beginning of this conversation is not known",
    "unknown_content": "it holds content of a kind that is not read",
    "too_long": "it is too long to be read",
    "images": "it holds an image",
    "attachments": "it holds a file",
    "context": "it holds passages of documents or results of tools",
    "sensitive": "something sensitive was found",
    "detectors_failed": "the detectors did not finish",
}
"""Why a request went where it went, in words."""

STICKY = frozenset(
    {"unknown_content", "too_long", "images", "attachments", "context", "sensitive", "detectors_failed"}
)
"""Reasons that hold for the rest of the conversation: its later messages may speak of what stood in this one."""


class Found(Protocol):
    """What a detector found; never the text itself."""

    @property
    def category(self) -> str:
        """Kind of what was found, such as ``bank-account``."""
        ...

    @property
    def detector(self) -> str:
        """Who found it."""
        ...


class Scanner(Protocol):
    """What finds sensitive things in texts: ``detect.Detectors``."""

    def scan(self, texts: Sequence[str]) -> Sequence[Found]:
        """All that was found.

        Raises:
            Exception: It could not read them to the end.
        """
        ...


@dataclass(frozen=True)
class Cloud:
    """A cloud language model."""

    groups: frozenset[str]
    """Groups whose people may use it."""
    local: str
    """Who answers in its place."""


@dataclass(frozen=True)
class Task:
    """A kind of work that people choose by name."""

    local: str
    cloud: str | None


@dataclass(frozen=True)
class Policy:
    """What the stack file says of routing, as the router has it."""

    models: frozenset[str] = frozenset()
    """Names of the local language models."""
    cloud: Mapping[str, Cloud] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)
    never_leaves: frozenset[str] = frozenset({"attachments", "context", "images"})
    countries: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    presidio: frozenset[str] = frozenset()
    """Categories that Presidio looks for besides the built-in detectors; empty where it is off."""
    notice: bool = True

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Policy:
        """The policy of ``routing.json``.

        Raises:
            KeyError, TypeError, ValueError: It is not one.
        """
        return cls(
            models=frozenset(data["models"]),
            cloud={
                name: Cloud(frozenset(model["groups"]), str(model["local"]))
                for name, model in data["cloud"].items()
            },
            tasks={name: Task(str(task["local"]), task["cloud"]) for name, task in data["tasks"].items()},
            never_leaves=frozenset(data["never_leaves"]),
            countries=tuple(data["countries"]),
            ignore=tuple(data["ignore"]),
            presidio=frozenset((data.get("presidio") or {}).get("finds", ())),
            notice=bool(data["notice"]),
        )

    def local_of(self, name: str) -> str | None:
        """The local language model that answers to a name; none where there is no such name."""
        if name in self.models:
            return name
        entry = self.cloud.get(name) or self.tasks.get(name)
        return entry.local if entry else None

    def cloud_of(self, name: str) -> str | None:
        """The cloud language model that a name may lead to."""
        if name in self.models:
            return None
        return name if name in self.cloud else task.cloud if (task := self.tasks.get(name)) else None


@dataclass(frozen=True)
class Request:
    """A request as the router has it."""

    model: str
    """The name that was chosen."""
    messages: Any
    user: str | None = None
    """Mail address of who asks, as signed by the application; none where nobody vouches for it."""
    groups: frozenset[str] = frozenset()
    """That person's groups."""
    session: str | None = None
    """The conversation."""
    application: str = ""
    call_type: str = "chat"
    """``chat``, or anything else."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The request beside its messages: ``tools`` and the like."""


@dataclass(frozen=True)
class Decision:
    """Who answers, and why."""

    route: Route
    model: str
    """The language model that answers; empty where none does."""
    reason: str
    """A key of :data:`REASONS`."""
    findings: tuple[Found, ...] = ()
    sticky: bool = False
    """Whether the rest of the conversation stays local."""

    @property
    def categories(self) -> tuple[str, ...]:
        """Kinds of what was found, each once."""
        return tuple(sorted({found.category for found in self.findings}))

    @property
    def detectors(self) -> tuple[str, ...]:
        """Who found something, each once."""
        return tuple(sorted({found.detector for found in self.findings}))


def decide(
    policy: Policy,
    request: Request,
    detectors: Scanner,
    sticky: bool | None = False,
    known_past: bool = True,
) -> Decision:
    """Where a request goes.

    Args:
        policy: What the client wants.
        request: What is asked.
        detectors: What finds sensitive things.
        sticky: Whether something in this conversation was sensitive before; None where the memory does not answer.
        known_past: Whether every earlier turn of this conversation was seen, where it has any.
    """
    local = policy.local_of(request.model)
    cloud = policy.cloud_of(request.model)
    if local is None:
        return Decision("refused", "", "unknown_model")
    if request.call_type not in {"chat", "completion"} and request.model not in policy.models:
        return Decision("refused", "", "not_a_chat")
    if not policy.cloud:
        return Decision("local", local, "chosen")
    # What stands beside the messages, such as descriptions of tools, is of this request alone and comes with each anew.
    read = request if cloud else replace(request, parameters={})
    reason, findings = _held(policy, read, detectors)
    stays = bool(sticky) or reason in STICKY
    if cloud is None:
        # Read all the same: what is said to a local language model must not leave later in this conversation.
        own = "chosen" if request.model in policy.models else "task"
        return Decision("local", local, own, findings, stays)
    against = _against(policy, request, cloud, sticky, known_past) or reason
    if against:
        return Decision("local", local, against, findings, stays)
    return Decision("cloud", cloud, "allowed")


def _against(
    policy: Policy, request: Request, cloud: str, sticky: bool | None, known_past: bool
) -> str | None:
    """What speaks against the cloud but for the content."""
    if request.call_type != "chat":
        return "not_a_chat"
    if not request.user:
        return "no_user"
    if not request.groups & policy.cloud[cloud].groups:
        return "not_allowed"
    if not request.session or not is_conversation(request.session):
        return "no_session"
    if sticky is None:
        return "memory_away"
    if sticky:
        return "conversation"
    return None if known_past else "unknown_past"


def _held(policy: Policy, request: Request, detectors: Scanner) -> tuple[str | None, tuple[Found, ...]]:
    """What of the content speaks against the cloud, and what was found."""
    try:
        if request.call_type != "chat":
            return None, ()
        found_kinds = kinds(request.messages) & policy.never_leaves
        read = [*texts(request.messages), *others(request.parameters)]
    except (UnknownContentError, RecursionError):
        return "unknown_content", ()
    for kind in sorted(found_kinds):
        return kind, ()
    if sum(map(len, read)) > LONGEST:
        return "too_long", ()
    try:
        findings = tuple(detectors.scan(read))
    except Exception:  # noqa: BLE001 - whatever went wrong in there, nothing leaves
        return "detectors_failed", ()
    return ("sensitive" if findings else None), findings


def unfinished(policy: Policy, request: Request) -> Decision:
    """The decision where the detectors did not finish in time."""
    local = policy.local_of(request.model)
    if local is None:
        return Decision("refused", "", "unknown_model")
    return Decision("local", local, "detectors_failed", sticky=True)


def overtaken(policy: Policy, request: Request, reason: str) -> Decision:
    """The decision where, while a request was read, another one of its conversation was found sensitive (``conversation``), or the
    memory went away (``memory_away``)."""
    return Decision("local", policy.local_of(request.model) or "", reason, sticky=reason == "conversation")


def past(request: Request) -> bool:
    """Whether a request tells of earlier turns; where it cannot be read, yes."""
    try:
        return has_past(request.messages)
    except UnknownContentError:
        return True
