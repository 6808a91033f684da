"""What the policy decides of a request that is written down: for questions of an administrator, and for proofs.

On the router, ``python -m freehold_routing.cases`` in ``/etc/litellm`` reads requests as JSON from its standard input and decides
them by the very files that it routes by.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .markers import CONTEXT_MARK
from .policy import REASONS, Decision, Policy, Request, Scanner, decide, past
from .presidio import scanner

FOLDER = Path("/etc/litellm")


def messages(case: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The conversation of a request that is written down."""
    if case.get("messages"):
        found = [dict(message) for message in case["messages"]]
    else:
        found = [{"role": "user", "content": case.get("text") or ""}]
    parts: list[dict[str, Any]] = []
    if case.get("attachments"):
        parts.append({"type": "file", "file": {}})
    if case.get("images"):
        parts.append({"type": "image_url", "image_url": {}})
    if case.get("context"):
        parts.append({"type": "text", "text": f"{CONTEXT_MARK}\n{case['context']}"})
    return [*found, {"role": "user", "content": parts}] if parts else found


def request(case: Mapping[str, Any], users: Mapping[str, Mapping[str, Any]]) -> Request:
    """The request that is written down, of one of the people."""
    user = case.get("user")
    person = users.get(str(user).lower(), {}) if user else {}
    return Request(
        model=str(case["model"]),
        messages=messages(case),
        user=user if person else None,
        groups=frozenset(case.get("groups") or person.get("groups", ())),
        session=case.get("session", "a-conversation"),
        application=str(case.get("application", "openwebui")),
        parameters=case.get("parameters") or {},
    )


def judge(
    policy: Policy,
    users: Mapping[str, Mapping[str, Any]],
    detectors: Scanner,
    case: Mapping[str, Any],
) -> Decision:
    """The decision on a request that is written down; its conversation is known from the beginning."""
    asked = request(case, users)
    sticky = bool(case.get("earlier_sensitive"))
    return decide(
        policy, asked, detectors, sticky, known_past=bool(case.get("known_past", True)) or not past(asked)
    )


def told(decision: Decision) -> dict[str, Any]:
    """A decision as plain data; never what was found."""
    return {
        "route": decision.route,
        "model": decision.model,
        "reason": decision.reason,
        "words": REASONS[decision.reason],
        "categories": list(decision.categories),
        "detectors": list(decision.detectors),
        "sticky": decision.sticky,
    }


def deployed(folder: Path = FOLDER) -> tuple[Policy, dict[str, Any], Scanner]:
    """Policy, people and detectors as the router has them.

    Raises:
        OSError, KeyError, ValueError: A file is missing or wrong.
    """
    routing, users, names = (
        json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("routing", "users", "names")
    )
    policy = Policy.from_dict(routing)
    return policy, users, scanner(policy, names)


def main() -> None:
    """Decide the requests of the standard input; one line of JSON for each."""
    cases: Sequence[Mapping[str, Any]] = json.load(sys.stdin)
    policy, users, detectors = deployed()
    for case in cases:
        sys.stdout.write(f"{json.dumps(told(judge(policy, users, detectors, case)))}\n")


if __name__ == "__main__":
    main()
