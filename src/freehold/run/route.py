"""What the client's policy of routing decides: of one request, and of the cases that the client has written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from freehold.errors import BadInputError
from freehold.layout.routing import RoutingPolicy
from freehold.run import route_names
from freehold.run.context import Client
from freehold.schema import own
from freehold.schema.stack import Part

CASES = "routing-cases.yml"
UNREAD = "Presidio, which runs on the router alone, has not read it: it stays in the building where Presidio finds a name"
"""What is said of a decision that only holds where Presidio finds nothing."""


class NoRoutingError(BadInputError):
    """The stack lets nothing leave."""


class CasesError(BadInputError):
    """The file of cases is wrong."""


class Case(Part):
    """A request, and where it must go."""

    name: Annotated[str, Field(min_length=1)]
    """What the case shows."""
    text: str | None = None
    """What the person asks."""
    messages: tuple[dict[str, Any], ...] = ()
    """The whole conversation instead, in OpenAI's form."""
    model: str | None = None
    """The language model or the kind of work that is chosen; the first cloud language model when left out."""
    user: str | None = None
    """Mail address of one of the client's users who asks; nobody is known when left out."""
    attachments: bool = False
    """Whether there is a file."""
    images: bool = False
    """Whether there is an image."""
    context: str | None = None
    """A passage of a document that was found for the question."""
    session: str | None = "a-conversation"
    """The conversation; none with `null`."""
    earlier_sensitive: bool = False
    """Whether something in this conversation was sensitive before."""
    expect: Literal["local", "cloud", "refused"]
    """Who must answer."""
    because: str | None = None
    """Why: a reason (``no_user``), or a category of what was found (``bank-account``)."""

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if (self.text is None) == (not self.messages):
            raise ValueError("give either text or messages")
        return self

    def request(self, policy: RoutingPolicy) -> dict[str, Any]:
        """The request as the router's own code reads it."""
        return self.model_dump(mode="json", exclude={"name", "expect", "because"}) | {
            "model": self.model or default_model(policy)
        }

    def differs(self, told: Mapping[str, Any]) -> str:
        """In words, how a decision is not what was expected; empty where it is."""
        from freehold.routing.presidio import KINDS  # it brings the detectors, whose patterns take a while

        if told.get("unread") and self.expect == "local" and self.because in {None, "sensitive", *KINDS}:
            return ""  # the router decides, and `verify` asks it
        if told["route"] != self.expect:
            return f"goes {told['route']} ({told['words']}), not {self.expect}"
        if self.because and self.because not in {told["reason"], *told["categories"]}:
            found = ", ".join(told["categories"]) or told["reason"]
            return f"goes {told['route']} because of {found}, not of {self.because}"
        return ""


@dataclass(frozen=True)
class Result:
    """What became of a case."""

    case: Case
    told: Mapping[str, Any]
    difference: str


def default_model(policy: RoutingPolicy) -> str:
    """The name that is asked where nobody says which."""
    return next(iter(sorted(policy.cloud)), policy.local)


def policy_of(client: Client) -> RoutingPolicy:
    """The client's policy.

    Raises:
        NoRoutingError: There is none.
    """
    found = client.whole_layout.routing
    if found is None:
        raise NoRoutingError(
            f"Nothing of {client.stack.client} may leave the building: its stack file has no routing",
            where=str(client.loaded.path),
            remedy="docs/routing.md says how cloud language models are allowed.",
        )
    return found


def explain(
    client: Client, text: str, *, user: str | None = None, model: str | None = None
) -> dict[str, Any]:
    """What would become of a question, and why. Without a user, that of somebody who may use what is asked for. Where Presidio
    has still to read it, ``unread`` says so.

    Raises:
        NoRoutingError: The stack lets nothing leave.
        BadInputError: The stack has no such user.
    """
    policy = policy_of(client)
    if user is not None and user.lower() not in policy.users:
        raise BadInputError(
            f"{client.stack.client} has no user {user}",
            where="--user",
            remedy=f"Users: freehold users show {client.stack.client}",
        )
    asked = model or default_model(policy)
    case: dict[str, Any] = {"text": text, "model": asked, "user": user}
    users = dict(policy.users)
    if user is None:
        anybody = "somebody@who.may"
        every = {group for entry in policy.cloud.values() for group in entry["groups"]}
        users[anybody], case["user"] = {"groups": sorted(every)}, anybody
    return {"model_asked": asked, "user": user, **_judge(client, policy, [case], users)[0]}


def cases(directory: Path) -> list[Case]:
    """The cases that the client has written down; none without a file.

    Raises:
        CasesError: The file is wrong.
    """
    path = directory / CASES
    if not path.is_file():
        return []
    return own.read(
        path,
        TypeAdapter(list[Case]),
        CasesError,
        "The file of cases cannot be read",
        "Correct it; docs/routing.md shows how a case is written.",
        empty=[],
    )


def run_cases(client: Client) -> list[Result]:
    """Every case by the policy of the stack file, on this machine. What only Presidio can say is left to the router.

    Raises:
        NoRoutingError: The stack lets nothing leave.
        CasesError: The file is wrong.
    """
    policy = policy_of(client)
    written = cases(client.directory)
    found = _judge(client, policy, [case.request(policy) for case in written], policy.users)
    return [Result(case, told, case.differs(told)) for case, told in zip(written, found, strict=True)]


def _judge(
    client: Client,
    policy: RoutingPolicy,
    requests: Sequence[Mapping[str, Any]],
    users: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    from freehold.routing.cases import judge, told  # the detectors' patterns take a while
    from freehold.routing.detect import Detectors

    rules = policy.rules()
    names = route_names.load(client) if policy.names else []
    detectors = Detectors(rules.countries, rules.ignore, names)
    found = [told(judge(rules, users, detectors, request)) for request in requests]
    return [one | {"unread": UNREAD} if rules.presidio and one["route"] == "cloud" else one for one in found]
