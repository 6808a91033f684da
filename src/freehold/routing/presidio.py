"""Microsoft Presidio as one more detector: which kinds of names a program beside the router finds in texts. Pure standard library.

The program (``litellm-presidio.service``) answers at a socket that the router's own user alone may open. It is asked only for
what the built-in detectors let pass, and whatever goes wrong with it is an error: the request then stays in the building.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Collection, Sequence
from http.client import HTTPConnection

from .detect import Detectors, Finding
from .policy import Found, Policy, Scanner

SOCKET = "/run/litellm-presidio/socket"
SECONDS = 4.5
"""Time for an answer, within that of the guardrail for all detectors."""
DETECTOR = "presidio"
KINDS = {"person": "PERSON", "organisation": "ORGANIZATION", "place": "LOCATION", "group": "NRP"}
"""Presidio's names (https://microsoft.github.io/presidio/supported_entities/) of the categories that it is asked for."""


class PresidioError(Exception):
    """Presidio does not say what it found. Holds nothing of the texts."""


class _Connection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Presidio:
    """Asks Presidio.

    Args:
        categories: What counts, of :data:`KINDS`.
        path: The socket; :data:`SOCKET` when left out.
    """

    def __init__(self, categories: Collection[str], path: str = "") -> None:
        self._path = path or SOCKET
        self._categories = {KINDS[category]: category for category in categories}

    def scan(self, texts: Sequence[str]) -> tuple[Finding, ...]:
        """Which kinds of names stand in texts.

        Raises:
            PresidioError: It answered that it cannot say.
            OSError, ValueError, TypeError, http.client.HTTPException: It did not answer, or something else did.
        """
        connection = _Connection(self._path)
        try:
            connection.request("POST", "/analyze", json.dumps({"texts": list(texts)}))
            answer = connection.getresponse()
            told = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise PresidioError(f"Presidio answers {answer.status}")
        found = json.loads(told)["found"]
        if not isinstance(found, dict):
            raise PresidioError("Presidio answers something else")
        return tuple(
            Finding(self._categories[kind], DETECTOR, float(score))
            for kind, score in sorted(found.items())
            if kind in self._categories
        )


class Further:
    """A detector after others: asked only where they found nothing, since one finding is enough."""

    def __init__(self, first: Scanner, then: Scanner) -> None:
        self._first, self._then = first, then

    def scan(self, texts: Sequence[str]) -> Sequence[Found]:
        """What the first found, or else what the second did.

        Raises:
            Exception: One of them could not read the texts to the end.
        """
        return self._first.scan(texts) or self._then.scan(texts)


def scanner(policy: Policy, names: Sequence[str]) -> Scanner:
    """All detectors of a policy, on the router.

    Raises:
        KeyError, ValueError: The policy names an unknown country or category.
    """
    detectors = Detectors(countries=policy.countries, ignore=policy.ignore, names=names)
    return Further(detectors, Presidio(policy.presidio)) if policy.presidio else detectors
